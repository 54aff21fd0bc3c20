# SPDX-License-Identifier: Apache-2.0
"""Loaded by every Python interpreter below `outboard run` (this folder is on PYTHONPATH). Arms the hook for
ONNX Runtime's wheel, then hands over to the sitecustomize that would have been loaded otherwise."""
import os
import sys


def _arm():
    import importlib.util

    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    spec = importlib.util.spec_from_file_location(
        "_outboard", os.path.join(folder, "__init__.py"), submodule_search_locations=[folder])
    module = importlib.util.module_from_spec(spec)
    sys.modules["_outboard"] = module
    spec.loader.exec_module(module)
    module.arm()


def _chain():
    import importlib.machinery
    import importlib.util

    here = os.path.dirname(os.path.abspath(__file__))
    others = [p for p in sys.path if os.path.abspath(p or os.curdir) != here]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec is None or spec.loader is None:
        return
    module = importlib.util.module_from_spec(spec)
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)


try:
    _arm()
except Exception as error:  # a broken hook must not keep the program from starting
    sys.stderr.write(f"outboard: warning: Python's hook could not be set ({error}); inference runs here\n")
_chain()
