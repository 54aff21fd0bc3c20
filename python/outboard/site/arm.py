# SPDX-License-Identifier: Apache-2.0
"""Arms the hook for ONNX Runtime's wheel in this interpreter, once. Run as a file: by sitecustomize.py beside it, which
PYTHONPATH finds, and by the line that ../hook.py adds to interpreters that ignore PYTHONPATH."""
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


if "_outboard" not in sys.modules:
    try:
        _arm()
    except Exception as error:  # a broken hook must not keep the program from starting
        sys.stderr.write(f"outboard: warning: Python's hook could not be set ({error}); inference runs here\n")
