# SPDX-License-Identifier: Apache-2.0
"""The shared library's C functions (src/intercept/onnxruntime/python_api.h), by ctypes."""
import ctypes
import os

LIBRARY_PATH = os.environ["OUTBOARD_LIBRARY"]
_library = ctypes.CDLL(LIBRARY_PATH)


def _function(name, result, *arguments):
    function = getattr(_library, name)
    function.restype, function.argtypes = result, arguments
    return function


_pointer, _size = ctypes.c_void_p, ctypes.c_size_t
plan_new = _function("outboard_plan_new", _pointer)
plan_prepare = _function("outboard_plan_prepare", ctypes.c_int, _pointer, ctypes.c_char_p, ctypes.c_char_p, _size)
_strings = ctypes.POINTER(ctypes.c_char_p)
_plan_provider = _function("outboard_plan_provider", None, _pointer, ctypes.c_char_p, _strings, _strings, _size)
plan_config = _function("outboard_plan_config", None, _pointer, ctypes.c_char_p, ctypes.c_char_p)
plan_attach = _function("outboard_plan_attach", None, _pointer)
plan_give_up = _function("outboard_plan_give_up", None, _pointer, ctypes.c_char_p)
plan_program_opens = _function("outboard_plan_program_opens", ctypes.c_int, _pointer)
plan_local_run = _function("outboard_plan_local_run", None, _pointer, ctypes.c_int64)
plan_profile = _function("outboard_plan_profile", _pointer, _pointer)
profile_end = _function("outboard_profile_end", None, _pointer, ctypes.c_char_p, ctypes.c_uint64)
plan_free = _function("outboard_plan_free", None, _pointer)
run_begin = _function("outboard_run_begin", _pointer, _pointer, _size, _pointer)
run_end = _function("outboard_run_end", None, _pointer)
cancel = _function("outboard_cancel", None, _pointer)
report = _function("outboard_report", None)
_plan_stub = _function("outboard_plan_stub", _pointer, _pointer, ctypes.POINTER(_size))
_take_error = _function("outboard_take_error", ctypes.c_int64, ctypes.POINTER(ctypes.c_int32), ctypes.c_char_p, _size)
_server_providers = _function("outboard_server_providers", _size, ctypes.c_char_p, _size)
_MESSAGE_BYTES = 65536
ANSWERED_BY_THE_PROGRAM = -1  # the code of a Run that no server answered, of a plan_program_opens()


def plan_provider(plan, name, options):
    """A provider that the session shall have at the server; an empty name: forget those before."""
    keys, values = ([str(text).encode() for text in side] for side in (options.keys(), options.values()))
    array = ctypes.c_char_p * len(options)
    _plan_provider(plan, name.encode(), array(*keys), array(*values), len(options))


def server_providers():
    """What the server's device offers; connects to it if need be."""
    buffer = ctypes.create_string_buffer(_MESSAGE_BYTES)
    length = _server_providers(buffer, _MESSAGE_BYTES)
    return buffer.raw[:length].decode("utf-8", "replace").split()


def plan_stub(plan):
    """The bytes of the stub model."""
    size = _size()
    return ctypes.string_at(_plan_stub(plan, ctypes.byref(size)), size.value)


def take_error():
    """(code, message) of the stub's Run that failed last on this thread; None: it was not the stub."""
    code, buffer = ctypes.c_int32(), ctypes.create_string_buffer(_MESSAGE_BYTES)
    length = _take_error(ctypes.byref(code), buffer, _MESSAGE_BYTES)
    return None if length < 0 else (code.value, buffer.raw[:length].decode("utf-8", "replace"))
