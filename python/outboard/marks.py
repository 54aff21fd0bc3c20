# SPDX-License-Identifier: Apache-2.0
"""What a program sets on its SessionOptions where ONNX Runtime has a setter and no getter: recorded in the options
object itself, as src/intercept/onnxruntime/option_marks.h says."""
from . import devices

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


class Options:
    """The original methods of SessionOptions, and marks made with them."""

    def __init__(self, cls):
        self.add_entry = cls.add_session_config_entry
        self.get_entry = cls.get_session_config_entry
        self.register = cls.register_custom_ops_library

    def marks(self, options, name):
        values = []
        try:
            while True:
                values.append(self.get_entry(options, f"outboard.{name}.{len(values)}"))
        except RuntimeError:  # that was the last
            return values

    def mark(self, options, name, value):
        """Adds a value, unless it is the last one already: the library warns when an entry is overwritten."""
        before = self.marks(options, name)
        if not before or before[-1] != str(value):
            self.add_entry(options, f"outboard.{name}.{len(before)}", str(value))

    def mark_provider(self, options, name, settings):
        before = self.marks(options, "provider")
        index = len(before) - 1 if before and before[-1] == name else len(before)
        self.mark(options, "provider", name)
        for key, value in settings.items():
            self.mark(options, f"provider_option.{index}", f"{key}={value}")

    def providers(self, options):
        """Those that were appended to the options themselves: [(name, settings)]."""
        found = []
        for i, name in enumerate(self.marks(options, "provider")):
            settings = dict(text.split("=", 1) for text in self.marks(options, f"provider_option.{i}"))
            found.append((name, settings))
        return found

    def mark_attributes(self, options):
        """What has a getter in Python and none in C."""
        self.mark(options, "graph_optimization_level", int(options.graph_optimization_level))
        self.mark(options, "execution_mode", int(options.execution_mode))
        self.mark(options, "intra_op_threads", options.intra_op_num_threads)
        self.mark(options, "profiling", int(options.enable_profiling))
        if options.optimized_model_filepath:
            self.mark(options, "stays_local", "it asks for the optimised model to be written")


def patch(extension):
    """Replaces the setters of SessionOptions; returns the Options with the original ones."""
    cls = extension.SessionOptions
    options = Options(cls)

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

    replace("add_session_config_entry",
            lambda self, key=None, value=None, **kwargs: options.mark(self, "config_key", key or kwargs["arg0"]))
    replace("add_free_dimension_override_by_name",
            lambda self, name, size: options.mark(self, "free_dimension", f"n:{int(size)}:{name}"))
    replace("add_free_dimension_override_by_denotation",
            lambda self, name, size: options.mark(self, "free_dimension", f"d:{int(size)}:{name}"))
    for name, why in _STAYS_LOCAL.items():
        replace(name, lambda self, *args, _why=why, **kwargs: options.mark(self, "stays_local", _why))
    _patch_add_provider(cls, options)
    return options


def _patch_add_provider(cls, options):
    own_add, own_has = getattr(cls, "add_provider", None), getattr(cls, "has_providers", None)
    if own_add is None:
        return

    def add_provider(self, name, settings):
        full = devices.full_name(name)
        try:
            own_add(self, name, settings)
        except Exception:
            if full not in devices.emulated_providers():
                raise
        if full in devices.offered_providers():
            options.mark_provider(self, full, settings)

    add_provider.__doc__ = own_add.__doc__
    cls.add_provider = add_provider
    if own_has is not None:
        cls.has_providers = lambda self: own_has(self) or bool(options.providers(self))
