# SPDX-License-Identifier: Apache-2.0
"""What is replaced in ONNX Runtime's extension module: the session by a subclass of itself that opens a stub, and what
belongs to it: options (marks.py), the server's GPU (devices.py), the end of a Run."""
import ctypes
import os
import sys
import threading
import time
import weakref

from . import asynchronous, devices, marks, native

_ERRORS = {  # OrtErrorCode: (exception, the name in its message)
    1: ("Fail", "FAIL"), 2: ("InvalidArgument", "INVALID_ARGUMENT"), 3: ("NoSuchFile", "NO_SUCHFILE"),
    4: ("NoModel", "NO_MODEL"), 5: ("EngineError", "ENGINE_ERROR"), 6: ("RuntimeException", "RUNTIME_EXCEPTION"),
    7: ("InvalidProtobuf", "INVALID_PROTOBUF"), 8: ("ModelLoaded", "MODEL_LOADED"),
    9: ("NotImplemented", "NOT_IMPLEMENTED"), 10: ("InvalidGraph", "INVALID_GRAPH"), 11: ("EPFail", "EP_FAIL"),
}
_CPU = "CPUExecutionProvider"
_bound_outputs = weakref.WeakKeyDictionary()  # SessionIOBinding: names of its outputs


def patch(extension):
    """`extension`: the module onnxruntime.capi._pybind_state, just executed."""
    devices.patch(extension)
    options = marks.patch(extension)
    _patch_run_options(extension.RunOptions)
    _patch_binding(extension.SessionIOBinding)
    extension.InferenceSession = _make_session(extension, options)
    os.register_at_fork(after_in_child=_report_when_child_ends)


def _report_when_child_ends():
    # Children of multiprocessing end by os._exit(), which runs no exit handler but its own finalizers; those of the
    # parent are dropped when the child starts, so ours is made after that.
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        util.register_after_fork(native, lambda _: util.Finalize(None, native.report, exitpriority=-100))


def _patch_run_options(cls):
    original = cls.terminate

    def set_terminate(self, value):
        original.__set__(self, value)
        if value:
            native.cancel(id(self))

    cls.terminate = property(lambda self: original.__get__(self, type(self)), set_terminate, doc=original.__doc__)


def _patch_binding(cls):
    """Remembers which outputs are bound, so that only those travel."""

    def remember(original):
        def method(self, name, *arguments):
            result = original(self, name, *arguments)
            _bound_outputs.setdefault(self, set()).add(name)
            return result
        return method

    cls.bind_output, cls.bind_ortvalue_output = remember(cls.bind_output), remember(cls.bind_ortvalue_output)
    clear = cls.clear_binding_outputs

    def clear_binding_outputs(self):
        clear(self)
        _bound_outputs.pop(self, None)

    cls.clear_binding_outputs = clear_binding_outputs


def _prepare(plan, model, is_path):
    if is_path:
        return native.plan_prepare(plan, os.fsencode(model), None, 0)
    return native.plan_prepare(plan, None, model, len(model))


def _stub_options(extension, program):
    """Options for the stub: the program's about logs and profiles, and nothing about the model."""
    stub = extension.SessionOptions()
    stub.graph_optimization_level = extension.GraphOptimizationLevel.ORT_DISABLE_ALL
    stub.intra_op_num_threads = 1
    stub.inter_op_num_threads = 1
    for name in ("enable_profiling", "profile_file_prefix", "logid", "log_severity_level", "log_verbosity_level",
                 "use_per_session_threads", "enable_cpu_mem_arena", "enable_mem_pattern"):
        if hasattr(program, name):  # each release has its own
            setattr(stub, name, getattr(program, name))
    return stub


def _text(settings):
    return {str(key): str(value) for key, value in settings.items()}


class _Providers:
    """What a program asked for at initialize_session(), and what of it this machine's library can take."""

    def __init__(self, extension, options, session_options, names, settings):
        emulated = devices.emulated_providers()
        available, known = extension.get_available_providers(), extension.get_all_providers()
        self.named = bool(names)
        self.local = [(n, s) for n, s in zip(names, settings) if n not in emulated]
        self.unknown = [n for n in names if n not in known and n not in available]  # the library says so itself
        asked = list(zip(names, settings)) if names else options.providers(session_options)
        self.of_options = bool(asked) and not names
        # Without a word about it a session takes the best that there is.
        self.asked = [(n, _text(s)) for n, s in asked or [(n, {}) for n in emulated] if n in available]

    def tell(self, plan):
        """To the plan, unless they are marks of the options that it has a clone of."""
        if self.of_options:
            return
        if self.named:
            native.plan_provider(plan, "", {})
        offered = devices.offered_providers()
        for name, settings in self.asked:
            if name in offered:
                native.plan_provider(plan, name, settings)

    def of_session(self):
        """{name: options} as the session shows them."""
        shown = {}
        for name, settings in self.asked:
            shown[name] = {"device_id": "0", **settings} if name in devices.offered_providers() else settings
        shown.setdefault(_CPU, {})
        return shown


def _make_session(extension, options):
    base = extension.InferenceSession

    def formatted(code, message):
        return f"[ONNXRuntimeError] : {code} : {_ERRORS.get(code, _ERRORS[1])[1]} : {message}"

    def own_error(error, taken):
        """The server's or the model's own error in place of the stub's, which names the stub's node."""
        if taken is None:
            return error
        if type(error) is RuntimeError:  # Runs with OrtValues and bindings
            return RuntimeError(f"Error in execution: {taken[1]}")
        cls = getattr(extension, _ERRORS.get(taken[0], _ERRORS[1])[0], type(error))
        return cls(formatted(*taken))

    class Deferred(type(base)):
        """Lets the extension's own constructor wait for initialize_session(), which names the providers; the class of
        the extension's classes insists on it at once."""

        def __call__(cls, *args, **kwargs):
            return type.__call__(cls, *args, **kwargs)

    class InferenceSession(base, metaclass=Deferred):
        __doc__ = base.__doc__
        _outboard_plan = None  # freed when the stub is initialised; kept by a session that stays here
        _outboard_stub = False
        _outboard_profile = None  # of a stub whose library writes one
        _outboard_original = None  # the program's arguments, where only Python can open the model again
        _outboard_here = None  # the session opened with them
        _outboard_opening = threading.Lock()

        def __init__(self, session_options, model, is_path, read_config_from_model):
            self._outboard_options = session_options
            self._outboard_model = (model, is_path, read_config_from_model)

        def initialize_session(self, providers, provider_options, disabled_optimizers):
            model, is_path, read_config = self._outboard_model
            self._outboard_model = None
            session_options = self._outboard_options
            asked = _Providers(extension, options, session_options, providers, provider_options)
            plan = self._outboard_plan = native.plan_new()
            options.mark_attributes(session_options)
            if read_config:
                options.mark(session_options, "stays_local", "its configuration is read from the model")
            options.register(session_options, native.LIBRARY_PATH)  # clones them for the plan
            asked.tell(plan)
            if disabled_optimizers:
                native.plan_config(plan, b"optimization.disable_specified_optimizers",
                                   ";".join(sorted(disabled_optimizers)).encode())
            if _prepare(plan, model, is_path) and self._outboard_open_stub(plan, asked, (model, is_path, read_config)):
                return
            base.__init__(self, session_options, model, is_path, read_config)
            base.initialize_session(self, [n for n, _ in asked.local], [s for _, s in asked.local],
                                    disabled_optimizers)

        def _outboard_open_stub(self, plan, asked, original):
            try:
                stub = _stub_options(extension, self._outboard_options)
                native.plan_attach(plan)
                options.register(stub, native.LIBRARY_PATH)
                options.add_entry(stub, "session.load_model_format", "ONNX")
                options.add_entry(stub, "session.intra_op.allow_spinning", "0")
                model = native.plan_stub(plan)
                base.__init__(self, stub, model, False, False)
            except Exception as error:
                native.plan_give_up(plan, f"stub could not be opened: {error}".encode())
                return False
            base.initialize_session(self, [*asked.unknown, _CPU], [{}] * (len(asked.unknown) + 1), set())
            self._outboard_stub = True
            self._outboard_providers = asked.of_session()
            self._outboard_profile = native.plan_profile(plan)
            if native.plan_program_opens(plan):
                self._outboard_original = (self._outboard_options, *original)
            else:
                self._outboard_free()
            self._outboard_positions = {output.name: i for i, output in enumerate(self.outputs_meta)}
            return True

        def __del__(self):
            if self._outboard_profile:  # the library would end it; then the rest must get into it, too
                self.end_profiling()
            self._outboard_free()

        def end_profiling(self):
            path = base.end_profiling(self)
            profile, self._outboard_profile = self._outboard_profile, None
            if profile:
                native.profile_end(profile, os.fsencode(path), base.get_profiling_start_time_ns.__get__(self))
            return path

        def _outboard_free(self):
            plan, self._outboard_plan = self._outboard_plan, None
            if plan:
                native.plan_free(plan)

        @property
        def session_options(self):
            return self._outboard_options if self._outboard_stub else base.session_options.__get__(self)

        def get_providers(self):
            return list(self._outboard_providers) if self._outboard_stub else base.get_providers(self)

        def get_provider_options(self):
            if not self._outboard_stub:
                return base.get_provider_options(self)
            return {name: dict(settings) for name, settings in self._outboard_providers.items()}

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

        def _outboard_local(self):
            with self._outboard_opening:
                if self._outboard_here is None:
                    session = base(*self._outboard_original)
                    session.initialize_session(["CPUExecutionProvider"], [{}], set())
                    self._outboard_here = session
                return self._outboard_here

        def _outboard_run(self, call, names, run_options):
            if not self._outboard_stub:
                return self._outboard_timed(lambda: call(self))
            frame = self._outboard_begin(names, run_options)
            try:
                return call(self)
            except Exception as error:
                if frame:
                    frame = native.run_end(frame)
                taken = native.take_error()
                if taken is not None and taken[0] == native.ANSWERED_BY_THE_PROGRAM:
                    return self._outboard_timed(lambda: call(self._outboard_local()))
                own = own_error(error, taken)
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
            return self._outboard_run(lambda s: base.run(s, output_names, input_feed, run_options),
                                      output_names, run_options)

        def run_with_ort_values(self, feeds, output_names, run_options=None):
            return self._outboard_run(lambda s: base.run_with_ort_values(s, feeds, output_names, run_options),
                                      output_names, run_options)

        def run_with_ortvaluevector(self, run_options, feed_names, feeds, fetch_names, *rest):
            return self._outboard_run(
                lambda s: base.run_with_ortvaluevector(s, run_options, feed_names, feeds, fetch_names, *rest),
                fetch_names, run_options)

        def run_with_iobinding(self, binding, run_options=None):
            return self._outboard_run(lambda s: base.run_with_iobinding(s, binding, run_options),
                                      _bound_outputs.get(binding), run_options)

        def run_async(self, output_names, input_feed, callback, user_data, run_options=None):
            if not self._outboard_stub or self._outboard_options.intra_op_num_threads == 1:
                return base.run_async(self, output_names, input_feed, callback, user_data, run_options)
            asynchronous.run(lambda: self.run(output_names, input_feed, run_options), callback, user_data)

    InferenceSession.__qualname__ = base.__qualname__
    InferenceSession.__module__ = base.__module__
    return InferenceSession
