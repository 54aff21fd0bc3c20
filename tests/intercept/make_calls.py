# SPDX-License-Identifier: Apache-2.0
"""Models for the tests of calls.

    make_calls.py FOLDER
"""
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime as ort
from make_cases import dense, model, value
from onnx import TensorProto as T
from onnx import helper as h


def loop(steps):
    """Many short operators: a server can stop between them. About 20 us each."""
    body = h.make_graph(
        [h.make_node("Identity", ["go"], ["go_on"]), h.make_node("MatMul", ["a", "a"], ["b"]),
         h.make_node("Tanh", ["b"], ["c"])],
        "body", [value("i", [], T.INT64), value("go", [], T.BOOL), value("a", [64, 64])],
        [value("go_on", [], T.BOOL), value("c", [64, 64])])
    count = h.make_tensor("count", T.INT64, [], [steps])
    true = h.make_tensor("true", T.BOOL, [], [True])
    return model([h.make_node("Loop", ["count", "true", "x"], ["y"], body=body)], [value("x", [64, 64])],
                 [value("y", [64, 64])], [count, true])


def slow_node():
    """One long operator, which nothing can stop."""
    shape = h.make_tensor("shape", T.INT64, [2], [3072, 3072])
    return model([h.make_node("Expand", ["x", "shape"], ["a"]), h.make_node("MatMul", ["a", "a"], ["b"]),
                  h.make_node("MatMul", ["b", "a"], ["c"]), h.make_node("MatMul", ["c", "a"], ["d"]),
                  h.make_node("ReduceSum", ["d"], ["y"])],
                 [value("x", [1])], [value("y", None)], [shape])


def denoted():
    proto = model([h.make_node("Relu", ["x"], ["y"])], [value("x", ["n", "m"])], [value("y", ["n", "m"])])
    proto.graph.input[0].type.tensor_type.shape.dim[0].denotation = "DATA_BATCH"
    return proto


def wide():
    """64 MiB of weights."""
    w = np.full((4096, 4096), 1 / 4096, np.float32)
    return model([h.make_node("MatMul", ["x", "w"], ["y"])], [value("x", [1, 4096])], [value("y", [1, 4096])],
                 [onnx.numpy_helper.from_array(w, "w")])


def own_operator():
    proto = model([h.make_node("Twice", ["x"], ["y"], domain="test.own")], [value("x", ["n", 4])],
                  [value("y", ["n", 4])])
    proto.opset_import.append(h.make_opsetid("test.own", 1))
    return proto


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, proto in (("dense", dense()), ("slow_loop", loop(10_000_000)), ("long_loop", loop(60_000)), ("slow_node", slow_node()),
                        ("denoted", denoted()), ("own_operator", own_operator()), ("wide", wide())):
        onnx.save(proto, folder / f"{name}.onnx")
    external = dense()
    tensor = onnx.numpy_helper.from_array(np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3), "w")
    external.graph.initializer[0].CopyFrom(tensor)
    onnx.save(external, folder / "external.onnx", save_as_external_data=True, location="external.bin", size_threshold=0)
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(folder / "dense.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    ort.InferenceSession(str(folder / "dense.onnx"), options, providers=["CPUExecutionProvider"])


if __name__ == "__main__":
    main()
