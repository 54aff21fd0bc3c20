# SPDX-License-Identifier: Apache-2.0
"""An ordinary Python program that uses onnxruntime and knows nothing of Outboard.

    program.py cases MODEL...     everything it can see of each session and of Runs of it
    program.py features MODEL     what only Python has: reuse of options, set_providers, pickling, processes
    program.py absent             whether the import works and nothing else happens
"""
import hashlib
import multiprocessing
import os
import pickle
import sys
import threading

import numpy as np
import onnxruntime as ort

ort.set_default_logger_severity(4)


def text(value):
    if not isinstance(value, np.ndarray):
        return str(type(value)) + str(value)
    data = "|".join(map(str, value.ravel())).encode() if value.dtype == object else value.tobytes()
    return f"{value.dtype}{list(value.shape)} {hashlib.md5(data).hexdigest()}"


TYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16,
         "tensor(bool)": np.bool_, "tensor(string)": object, "tensor(int64)": np.int64, "tensor(uint8)": np.uint8,
         "tensor(int8)": np.int8, "tensor(int16)": np.int16, "tensor(uint16)": np.uint16, "tensor(int32)": np.int32,
         "tensor(uint32)": np.uint32, "tensor(uint64)": np.uint64}


def make_feeds(session):
    feeds = {}
    for value in session.get_inputs():
        dims = [d if isinstance(d, int) else 2 for d in value.shape]
        flat = np.arange(int(np.prod(dims)))
        if TYPES[value.type] is object:
            feeds[value.name] = np.array([f"s{k}é" for k in flat], dtype=object).reshape(dims)
        else:
            feeds[value.name] = (flat % 5).astype(TYPES[value.type]).reshape(dims)
    return feeds


def guarded(how, call):
    try:
        print(" ", how, call())
    except Exception as error:
        print(" ", how, "failed", type(error).__module__, type(error).__qualname__, error)


def run_async(session, feeds):
    done, got = threading.Event(), []

    def callback(results, data, error):
        got.extend([data, error] + [text(r) for r in results or []])
        done.set()

    session.run_async(None, feeds, callback, "data")
    done.wait(60)
    return got


def run_bound(session, feeds):
    binding = session.io_binding()
    for name, value in feeds.items():
        binding.bind_cpu_input(name, value)
    binding.bind_output(session.get_outputs()[0].name)
    session.run_with_iobinding(binding)
    return [text(v) for v in binding.copy_outputs_to_cpu()]


def run_ort_values(session, feeds):
    values = {n: ort.OrtValue.ortvalue_from_numpy(v) for n, v in feeds.items()}
    return [text(v.numpy()) for v in session.run_with_ort_values([session.get_outputs()[-1].name], values)]


def run_terminated(session, feeds):
    options = ort.RunOptions()
    options.terminate = True
    return session.run(None, feeds, options)


def case(index, path):
    print(os.path.basename(path))
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    model = path if index % 2 == 0 or "external" in path else open(path, "rb").read()
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    for v in session.get_inputs() + session.get_outputs() + session.get_overridable_initializers():
        print(" ", v.name, v.type, v.shape)
    meta = session.get_modelmeta()
    print(" ", meta.producer_name, meta.graph_name, meta.domain, meta.description, meta.graph_description, meta.version,
          meta.custom_metadata_map)
    print(" ", session.get_providers(), session.get_session_options().graph_optimization_level,
          isinstance(session, ort.InferenceSession))
    if any(v.type not in TYPES for v in session.get_inputs()):
        return
    feeds = make_feeds(session)
    guarded("run", lambda: [text(v) for v in session.run(None, feeds)])
    guarded("subset", lambda: [text(v) for v in session.run([session.get_outputs()[-1].name], feeds)])
    guarded("options", lambda: [text(v) for v in session.run(None, feeds, ort.RunOptions())])
    if session.get_outputs()[0].type in TYPES and "string" not in path:
        guarded("ort values", lambda: run_ort_values(session, feeds))
        guarded("binding", lambda: run_bound(session, feeds))
    guarded("async", lambda: run_async(session, feeds))
    if feeds:  # a model without inputs may be folded into a constant, and then nothing looks at the flag
        guarded("terminated", lambda: run_terminated(session, feeds))
    guarded("wrong input", lambda: session.run(None, {"no_such_input": np.zeros(1, np.float32)}))


class Pickled(ort.InferenceSession):
    """As programs do it: the path is kept, the session made anew."""

    def __init__(self, path):
        super().__init__(path, providers=["CPUExecutionProvider"])
        self.path = path

    def __getstate__(self):
        return self.path

    def __setstate__(self, path):
        self.__init__(path)


def in_child(path, queue):
    session = ort.InferenceSession(path)
    queue.put([text(v) for v in session.run(None, make_feeds(session))])


def features(path):
    options = ort.SessionOptions()
    options.add_free_dimension_override_by_name("batch", 3)
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    for _ in range(3):  # the same options again and again
        session = ort.InferenceSession(path, options)
        print(session.get_outputs()[0].shape, options.get_session_config_entry("session.set_denormal_as_zero"))
    feeds = {"x": np.ones((3, 4), np.float32)}
    print([text(v) for v in session.run(None, feeds)])
    session.set_providers(["CPUExecutionProvider"])
    print(session.get_providers(), [text(v) for v in session.run(None, feeds)])
    pickled = pickle.loads(pickle.dumps(Pickled(path)))
    print(type(pickled).__name__, [text(v) for v in pickled.run(None, make_feeds(pickled))])
    guarded("garbage", lambda: ort.InferenceSession(b"this is no model"))
    guarded("missing", lambda: ort.InferenceSession("/there/is/no/model.onnx"))
    for method in ("fork", "spawn"):
        context = multiprocessing.get_context(method)
        queue = context.Queue()
        child = context.Process(target=in_child, args=(path, queue))
        child.start()
        print(method, queue.get(timeout=60))
        child.join()


if __name__ == "__main__":
    if sys.argv[1] == "cases":
        for i, p in enumerate(sys.argv[2:]):
            case(i, p)
    elif sys.argv[1] == "features":
        features(sys.argv[2])
    else:
        print("imported", bool(ort.__version__))
