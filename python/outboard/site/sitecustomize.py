# SPDX-License-Identifier: Apache-2.0
"""Loaded by every Python interpreter below `outboard run` (this folder is on PYTHONPATH). Arms the hook for
ONNX Runtime's wheel, then hands over to the sitecustomize that would have been loaded otherwise."""
import os
import runpy
import sys


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


runpy.run_path(os.path.join(os.path.dirname(os.path.abspath(__file__)), "arm.py"))
_chain()
