# SPDX-License-Identifier: Apache-2.0
"""The Python side of Outboard's interposer.

Python's wheel of ONNX Runtime carries a copy of the runtime inside its extension module, which a preloaded library
cannot reach. So `outboard run` puts a hook on PYTHONPATH (site/sitecustomize.py) that waits for the extension to be
imported and then replaces a few of its names (onnxruntime.py). What is decided, and every Run, is in the shared
library; here are only the calls to it (native.py).
"""
import importlib.abc
import importlib.machinery
import os
import sys

_EXTENSION = "onnxruntime.capi._pybind_state"


class _Finder(importlib.abc.MetaPathFinder):
    """Lets the other finders find the extension's module, and patches it once it has been executed."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname != _EXTENSION:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(importlib.abc.Loader):
    def __init__(self, loader):
        self._loader = loader

    def __getattr__(self, name):  # get_source() and the like, for tracebacks
        return getattr(self._loader, name)

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        self._loader.exec_module(module)
        try:
            from . import onnxruntime

            onnxruntime.patch(module)
        except Exception as error:  # the program must work without us
            sys.stderr.write(f"outboard: warning: ONNX Runtime could not be hooked ({error}); inference runs here\n")


def arm():
    """Called by sitecustomize, before anything of the program."""
    if os.environ.get("OUTBOARD_LIBRARY"):
        sys.meta_path.insert(0, _Finder())
