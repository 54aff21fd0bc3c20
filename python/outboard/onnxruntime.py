# SPDX-License-Identifier: Apache-2.0
"""What is replaced in ONNX Runtime's extension module: the session by a subclass of itself that opens a stub, and the
setters of SessionOptions that have no getter, whose values are recorded in the options object itself (the marks of
src/intercept/onnxruntime/option_marks.h)."""
import ctypes
import os
import sys
import time

from . import native

_ERRORS = {  # OrtErrorCode: (exception, the name in its message)
    1: ("Fail", "FAIL"), 2: ("InvalidArgument", "INVALID_ARGUMENT"), 3: ("NoSuchFile", "NO_SUCHFILE"),
    4: ("NoModel", "NO_MODEL"), 5: ("EngineError", "ENGINE_ERROR"), 6: ("RuntimeException", "RUNTIME_EXCEPTION"),
    7: ("InvalidProtobuf", "INVALID_PROTOBUF"), 8: ("ModelLoaded", "MODEL_LOADED"),
    9: ("NotImplemented", "NOT_IMPLEMENTED"), 10: ("InvalidGraph", "INVALID_GRAPH"), 11: ("EPFail", "EP_FAIL"),
}
_OWN_OPERATORS = "it brings the program's own operators"
_OWN_WEIGHTS = "it brings initializers from the program's memory"
# Setters after which a session's model is no longer what its file says.
_STAYS_LOCAL = {
    "register_custom_ops_library": _OWN_OPERATORS,
    "add_initializer": _OWN_WEIGHTS,
    "add_external_initializers": _OWN_WEIGHTS,
    "add_external_initializers_from_files_in_memory": _OWN_WEIGHTS,
    "add_provider_for_devices": "it names devices of this machine",
    "set_provider_selection_policy": "it names devices of this machine",
    "set_provider_selection_policy_delegate": "it names devices of this machine",
    "set_ep_context_data_read_func": "it reads a compiled model by a function of the program",
}


def patch(extension):
    """`extension`: the module onnxruntime.capi._pybind_state, just executed."""
    options = _patch_options(extension.SessionOptions)
    _patch_run_options(extension.RunOptions)
    extension.InferenceSession = _make_session(extension, options)
    os.register_at_fork(after_in_child=_report_when_child_ends)


def _report_when_child_ends():
    # Children of multiprocessing end by os._exit(), which runs no exit handler but its own finalizers; those of the
    # parent are dropped when the child starts, so ours is made after that.
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        util.register_after_fork(native, lambda _: util.Finalize(None, native.report, exitpriority=-100))


class _Options:
    """The original methods of SessionOptions, and marks made with them."""

    def __init__(self, cls):
        self.add_entry = cls.add_session_config_entry
        self.get_entry = cls.get_session_config_entry
        self.register = cls.register_custom_ops_library

    def mark(self, options, name, value):
        self.add_entry(options, "outboard." + name, str(value))

    def mark_in_list(self, options, name, value):
        counter = f"outboard.{name}.count"
        try:
            count = int(self.get_entry(options, counter))
        except RuntimeError:  # not there yet
            count = 0
        self.add_entry(options, f"outboard.{name}.{count}", value)
        self.add_entry(options, counter, str(count + 1))

    def mark_attributes(self, options, disabled_optimizers=()):
        """What has a getter in Python and none in C."""
        self.mark(options, "graph_optimization_level", int(options.graph_optimization_level))
        self.mark(options, "execution_mode", int(options.execution_mode))
        self.mark(options, "intra_op_threads", options.intra_op_num_threads)
        if options.optimized_model_filepath:
            self.mark(options, "stays_local", "it asks for the optimised model to be written")


def _patch_options(cls):
    options = _Options(cls)

    def replace(name, after):
        original = getattr(cls, name, None)
        if original is None:
            return

        def method(self, *args, **kwargs):
            result = original(self, *args, **kwargs)
            after(self, *args, **kwargs)
            return result

        method.__name__, method.__doc__ = name, original.__doc__
        setattr(cls, name, method)

    def config_entry(self, key=None, value=None, **kwargs):
        options.mark_in_list(self, "config_key", key if key is not None else kwargs["arg0"])

    replace("add_session_config_entry", config_entry)
    replace("add_free_dimension_override_by_name",
            lambda self, name, size: options.mark_in_list(self, "free_dimension", f"n:{int(size)}:{name}"))
    replace("add_free_dimension_override_by_denotation",
            lambda self, name, size: options.mark_in_list(self, "free_dimension", f"d:{int(size)}:{name}"))
    for name, why in _STAYS_LOCAL.items():
        replace(name, lambda self, *args, _why=why, **kwargs: options.mark(self, "stays_local", _why))
    return options


def _patch_run_options(cls):
    original = cls.terminate

    def set_terminate(self, value):
        original.__set__(self, value)
        if value:
            native.cancel(id(self))

    cls.terminate = property(lambda self: original.__get__(self, type(self)), set_terminate, doc=original.__doc__)


def _prepare(plan, model, is_path):
    if is_path:
        return native.plan_prepare(plan, os.fsencode(model), None, 0)
    return native.plan_prepare(plan, None, model, len(model))


def _stub_options(extension, program):
    """Options for the stub: the program's about logs and profiles, and nothing about the model."""
    stub = extension.SessionOptions()
    stub.graph_optimization_level = extension.GraphOptimizationLevel.ORT_DISABLE_ALL
    # run_async() needs a second thread, unless the program said that there is one.
    stub.intra_op_num_threads = 1 if program.intra_op_num_threads == 1 else 2
    stub.inter_op_num_threads = 1
    for name in ("enable_profiling", "profile_file_prefix", "logid", "log_severity_level", "log_verbosity_level",
                 "use_per_session_threads", "enable_cpu_mem_arena", "enable_mem_pattern"):
        setattr(stub, name, getattr(program, name))
    return stub


def _make_session(extension, options):
    base = extension.InferenceSession

    def formatted(code, message):
        return f"[ONNXRuntimeError] : {code} : {_ERRORS.get(code, _ERRORS[1])[1]} : {message}"

    def own_error(error):
        """The server's or the model's own error in place of the stub's, which names the stub's node."""
        taken = native.take_error()
        if taken is None:
            return error
        if type(error) is RuntimeError:  # Runs with OrtValues and bindings
            return RuntimeError(f"Error in execution: {taken[1]}")
        cls = getattr(extension, _ERRORS.get(taken[0], _ERRORS[1])[0], type(error))
        return cls(formatted(*taken))

    class InferenceSession(base):
        __doc__ = base.__doc__
        _outboard_plan = None  # freed when the stub is initialised; kept by a session that stays here
        _outboard_stub = False

        def __init__(self, session_options, model, is_path, read_config_from_model):
            self._outboard_options = session_options
            plan = self._outboard_plan = native.plan_new()
            options.mark_attributes(session_options)
            if read_config_from_model:
                options.mark(session_options, "stays_local", "its configuration is read from the model")
            options.register(session_options, native.LIBRARY_PATH)  # clones them for the plan
            if _prepare(plan, model, is_path):
                try:
                    stub = _stub_options(extension, session_options)
                    native.plan_attach(plan)
                    options.register(stub, native.LIBRARY_PATH)
                    options.add_entry(stub, "session.load_model_format", "ONNX")
                    options.add_entry(stub, "session.intra_op.allow_spinning", "0")
                    base.__init__(self, stub, native.plan_stub(plan), False, False)
                    self._outboard_stub = True
                    return
                except Exception as error:
                    native.plan_give_up(plan, f"stub could not be opened: {error}".encode())
            base.__init__(self, session_options, model, is_path, read_config_from_model)

        def __del__(self):
            self._outboard_free()

        def _outboard_free(self):
            plan, self._outboard_plan = self._outboard_plan, None
            if plan:
                native.plan_free(plan)

        @property
        def session_options(self):
            return self._outboard_options if self._outboard_stub else base.session_options.__get__(self)

        def initialize_session(self, providers, provider_options, disabled_optimizers):
            if not self._outboard_stub:
                return base.initialize_session(self, providers, provider_options, disabled_optimizers)
            base.initialize_session(self, ["CPUExecutionProvider"], [{}], set())
            self._outboard_free()
            outputs = [output.name for output in self.outputs_meta]
            self._outboard_positions = {name: i for i, name in enumerate(outputs)}
            return None

        def _outboard_begin(self, names, run_options):
            """None when the Run needs no frame: all outputs, and nobody may end it."""
            positions = None
            if names is not None and len(names) != len(self._outboard_positions):
                positions = [self._outboard_positions[n] for n in names if n in self._outboard_positions]
            if positions is None and run_options is None:
                return None
            array = None if positions is None else (ctypes.c_uint32 * len(positions))(*positions)
            key = None if run_options is None else id(run_options)
            return native.run_begin(array, len(positions or ()), key)

        def _outboard_run(self, call, names, run_options):
            if not self._outboard_stub:
                return self._outboard_timed(call)
            frame = self._outboard_begin(names, run_options)
            try:
                return call()
            except Exception as error:
                if frame:
                    frame = native.run_end(frame)
                own = own_error(error)
                if own is error:
                    raise
                raise own from None
            finally:
                if frame:
                    native.run_end(frame)

        def _outboard_timed(self, call):
            start = time.perf_counter_ns()
            try:
                result = call()
            except Exception:
                native.plan_local_run(self._outboard_plan, -1)
                raise
            native.plan_local_run(self._outboard_plan, time.perf_counter_ns() - start)
            return result

        def run(self, output_names, input_feed, run_options=None):
            return self._outboard_run(lambda: base.run(self, output_names, input_feed, run_options),
                                      output_names, run_options)

        def run_with_ort_values(self, feeds, output_names, run_options=None):
            return self._outboard_run(lambda: base.run_with_ort_values(self, feeds, output_names, run_options),
                                      output_names, run_options)

        def run_with_ortvaluevector(self, run_options, feed_names, feeds, fetch_names, *rest):
            return self._outboard_run(
                lambda: base.run_with_ortvaluevector(self, run_options, feed_names, feeds, fetch_names, *rest),
                fetch_names, run_options)

        def run_with_iobinding(self, binding, run_options=None):
            return self._outboard_run(lambda: base.run_with_iobinding(self, binding, run_options), None, run_options)

        def run_async(self, output_names, input_feed, callback, user_data, run_options=None):
            if not self._outboard_stub:
                return base.run_async(self, output_names, input_feed, callback, user_data, run_options)

            def with_own_error(results, data, error):
                taken = native.take_error() if error else None
                callback(results, data, taken[1] if taken else error)

            return base.run_async(self, output_names, input_feed, with_own_error, user_data, run_options)

    InferenceSession.__qualname__ = base.__qualname__
    InferenceSession.__module__ = base.__module__
    return InferenceSession
