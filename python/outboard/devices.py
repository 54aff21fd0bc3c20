# SPDX-License-Identifier: Apache-2.0
"""A GPU that only the server has, as a Python program sees it: its execution providers are listed, and memory on it is
host memory. src/intercept/onnxruntime/providers.h does the same for the C API."""
import functools
import weakref

from . import native

_EVERYWHERE = ("CPUExecutionProvider", "AzureExecutionProvider")
_CUDA, _TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"
_own_providers = None  # the extension's original function
_on_gpu = weakref.WeakKeyDictionary()  # OrtValues in host memory that stand for the device's, by its name


def offered_providers():
    """What the server has beyond what every machine has."""
    return [name for name in native.server_providers() if name not in _EVERYWHERE]


def emulated_providers():
    """What the server has and the program's own library has not."""
    own = _own_providers()
    return [name for name in offered_providers() if name not in own]


def full_name(name):
    if name in ("CUDA", "cuda"):
        return _CUDA
    if name.lower() == "tensorrt":
        return _TENSORRT
    return name + "ExecutionProvider" if name + "ExecutionProvider" in offered_providers() else name


def patch(extension):
    global _own_providers
    _own_providers, own_device = extension.get_available_providers, extension.get_device

    @functools.wraps(_own_providers)
    def get_available_providers():
        return emulated_providers() + _own_providers()

    @functools.wraps(own_device)
    def get_device():
        return "GPU" if _CUDA in emulated_providers() else own_device()

    extension.get_available_providers, extension.get_device = get_available_providers, get_device
    # A library with TensorRT brings operators for it; here they are the server's.
    for name in ("register_tensorrt_plugins_as_custom_ops", "register_nv_tensorrt_rtx_plugins_as_custom_ops"):
        if not hasattr(extension, name):
            setattr(extension, name, lambda *_: None)
    _patch_memory(extension)


def _patch_memory(extension):
    device_class = extension.OrtDevice
    cpu = device_class(device_class.cpu(), device_class.default_memory(), 0)

    def is_emulated(device):
        return (isinstance(device, device_class) and device.device_type() == device_class.cuda() and
                _CUDA in emulated_providers())

    def with_host_devices(arguments):
        return [cpu if is_emulated(a) else a for a in arguments]

    value_class = extension.OrtValue
    from_numpy, own_name = value_class.ortvalue_from_numpy, value_class.device_name

    def ortvalue_from_numpy(array, device):
        if not is_emulated(device):
            return from_numpy(array, device)
        if array.dtype.kind in "OUS":  # as the library says of a device
            raise RuntimeError("Only binary data types can be copied to the device (cuda)")
        # A copy, because it would be one on the device.
        value = value_class.ortvalue_from_shape_and_type(array.shape, array.dtype.type, cpu)
        value.update_inplace(array if array.flags.c_contiguous else array.copy(order="C"))
        _on_gpu[value] = "cuda"
        return value

    value_class.ortvalue_from_numpy = staticmethod(ortvalue_from_numpy)
    value_class.device_name = lambda self: _on_gpu.get(self) or own_name(self)

    for name in ("ortvalue_from_shape_and_type", "ortvalue_from_shape_and_onnx_type"):
        original = getattr(value_class, name, None)
        if original is None:
            continue

        def from_shape(*arguments, _original=original):
            value = _original(*with_host_devices(arguments))
            if any(is_emulated(a) for a in arguments):
                _on_gpu[value] = "cuda"
            return value

        setattr(value_class, name, staticmethod(from_shape))

    for cls, names in ((extension.SessionIOBinding, ("bind_input", "bind_output")),
                       (extension.InferenceSession, ("create_ortvalue_from_shape_and_type",
                                                     "create_ortvalue_from_shape_and_onnx_type"))):
        for name in names:
            original = getattr(cls, name, None)
            if original is not None:
                setattr(cls, name, lambda self, *arguments, _original=original: _original(
                    self, *with_host_devices(arguments)))
