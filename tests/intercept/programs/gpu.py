# SPDX-License-Identifier: Apache-2.0
"""An ordinary program that wants a GPU and knows nothing of Outboard.  gpu.py MODEL"""
import sys
import warnings

import numpy as np
import onnxruntime as ort

ort.set_default_logger_severity(4)
MODEL = sys.argv[1]
X = np.array([[0, 1, 2, 3], [-4, 5, 6, 7]], np.float32)


def attempt(how, call):
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result = call()
        print(how, result, [str(w.message)[:60] for w in caught if "rovider" in str(w.message)])
    except Exception as error:
        print(how, "failed", type(error).__name__, str(error)[:150])


def session(options=None, **arguments):
    made = ort.InferenceSession(MODEL, options, **arguments)
    return made.get_providers(), made.get_provider_options(), made.run(None, {"x": X})[0].ravel().tolist()


def bound():
    made = ort.InferenceSession(MODEL, providers=["CUDAExecutionProvider"])
    value = ort.OrtValue.ortvalue_from_numpy(X, "cuda", 0)
    binding = made.io_binding()
    binding.bind_input("x", "cuda", 0, np.float32, value.shape(), value.data_ptr())
    binding.bind_output("z", "cuda")
    made.run_with_iobinding(binding)
    output = ort.OrtValue.ortvalue_from_shape_and_type([2, 3], np.float32, "cuda", 0)
    binding.bind_output("y", "cuda", 0, np.float32, [2, 3], output.data_ptr())
    binding.bind_ortvalue_input("x", value)
    made.run_with_iobinding(binding)
    return (value.device_name(), value.numpy().tolist() == X.tolist(), output.numpy().ravel().tolist(),
            binding.copy_outputs_to_cpu()[0].ravel().tolist())


def by_options():
    options = ort.SessionOptions()
    options.add_provider("CUDA", {"use_tf32": "0"})
    return options.has_providers(), session(options)


def again():
    made = ort.InferenceSession(MODEL, providers=["CUDAExecutionProvider"])
    made.set_providers(["CPUExecutionProvider"])
    return made.get_providers(), made.run(None, {"x": X})[0].ravel().tolist()


print(ort.get_available_providers(), ort.get_device())
attempt("default", session)
attempt("cuda", lambda: session(providers=["CUDAExecutionProvider", "CPUExecutionProvider"]))
attempt("cuda with options", lambda: session(
    providers=[("CUDAExecutionProvider", {"device_id": 0, "cudnn_conv_algo_search": "DEFAULT"})]))
attempt("provider_options", lambda: session(providers=["TensorrtExecutionProvider", "CUDAExecutionProvider"],
                                            provider_options=[{"trt_fp16_enable": True}, {}]))
attempt("cpu", lambda: session(providers=["CPUExecutionProvider"]))
attempt("unknown", lambda: session(providers=["NoSuchExecutionProvider", "CPUExecutionProvider"]))
if hasattr(ort.SessionOptions, "add_provider"):
    attempt("by options", by_options)
attempt("bound", bound)
attempt("again", again)
attempt("strings", lambda: ort.OrtValue.ortvalue_from_numpy(np.array(["a"], object), "cuda", 0))
attempt("disabled optimizers", lambda: session(disabled_optimizers=["ConstantFolding"]))
