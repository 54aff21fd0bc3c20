# SPDX-License-Identifier: Apache-2.0
"""Writes the small models that the tests open, each the least that shows one thing.

    make_models.py FOLDER
"""
import pathlib
import sys

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper, numpy_helper

OPSET, IR = 17, 8


def value(name, element, shape):
    return helper.make_tensor_value_info(name, element, shape)


def model(nodes, inputs, outputs, initializers=(), name="graph", ir=IR, **fields):
    graph = helper.make_graph(nodes, name, inputs, outputs, initializer=list(initializers))
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=ir)
    for key, content in fields.items():
        setattr(made, key, content)
    return made


def node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs, outputs, **attributes)


def constant(name, array):
    return numpy_helper.from_array(np.asarray(array), name)


def add():
    """y = x + 1, with everything that metadata can say."""
    made = model([node("Add", ["x", "one"], ["y"])], [value("x", T.FLOAT, ["batch", 3])],
                 [value("y", T.FLOAT, ["batch", 3])], [constant("one", np.float32(1))], name="add one",
                 producer_name="tests", domain="org.outboard", model_version=7, doc_string="adds one")
    made.graph.doc_string = "the graph's own words"
    helper.set_model_props(made, {"author": "tests", "licence": "none"})
    return made


def identity(element, shape=("n",)):
    return model([node("Identity", ["x"], ["y"])], [value("x", element, list(shape))], [value("y", element, list(shape))])


def slow():
    """n matrix products one after the other: the Run's duration is the caller's choice."""
    weights = np.eye(128, dtype=np.float32)
    body = helper.make_graph(
        [node("Identity", ["condition"], ["condition_out"]), node("MatMul", ["state", "weights"], ["state_out"])], "body",
        [value("i", T.INT64, []), value("condition", T.BOOL, []), value("state", T.FLOAT, [128, 128])],
        [value("condition_out", T.BOOL, []), value("state_out", T.FLOAT, [128, 128])])
    return model([node("Loop", ["n", "", "start"], ["y"], body=body)], [value("n", T.INT64, [])],
                 [value("y", T.FLOAT, [128, 128])], [constant("weights", weights), constant("start", weights)])


def dense(size, external=False):
    """y = x W: `size` squared floats of weights."""
    weights = np.random.default_rng(size).standard_normal((size, size)).astype(np.float32)
    return model([node("MatMul", ["x", "w"], ["y"])], [value("x", T.FLOAT, ["batch", size])],
                 [value("y", T.FLOAT, ["batch", size])], [constant("w", weights)])


def models():
    yield "add", add()
    for name, element in (("float", T.FLOAT), ("uint8", T.UINT8), ("int8", T.INT8), ("uint16", T.UINT16), ("int16", T.INT16),
                          ("int32", T.INT32), ("int64", T.INT64), ("string", T.STRING), ("bool", T.BOOL),
                          ("float16", T.FLOAT16), ("double", T.DOUBLE), ("uint32", T.UINT32), ("uint64", T.UINT64),
                          ("bfloat16", T.BFLOAT16)):
        yield f"identity_{name}", identity(element)
    yield "scalar", identity(T.FLOAT, ())
    shapeless = identity(T.FLOAT)
    for v in (shapeless.graph.input[0], shapeless.graph.output[0]):
        v.type.tensor_type.ClearField("shape")
    yield "shapeless", shapeless
    yield "nonzero", model([node("NonZero", ["x"], ["y"])], [value("x", T.FLOAT, ["n"])], [value("y", T.INT64, [1, "found"])])
    yield "two_outputs", model(
        [node("Add", ["a", "b"], ["sum"]), node("Sub", ["a", "b"], ["difference"])],
        [value("a", T.FLOAT, [2]), value("b", T.FLOAT, [2])],
        [value("sum", T.FLOAT, [2]), value("difference", T.FLOAT, [2])])
    yield "no_inputs", model([node("Identity", ["c"], ["y"])], [], [value("y", T.INT64, [2])], [constant("c", np.array([4, 2]))])
    yield "gather", model([node("Gather", ["data", "i"], ["y"])], [value("i", T.INT64, ["n"])], [value("y", T.FLOAT, ["n"])],
                          [constant("data", np.arange(4, dtype=np.float32))])
    yield "sequence", model([node("SplitToSequence", ["x"], ["y"])], [value("x", T.FLOAT, [4])],
                            [helper.make_tensor_sequence_value_info("y", T.FLOAT, None)])
    yield "overridable", model([node("Add", ["x", "w"], ["y"])], [value("x", T.FLOAT, [2]), value("w", T.FLOAT, [2])],
                               [value("y", T.FLOAT, [2])], [constant("w", np.ones(2, np.float32))])
    yield "slow", slow()
    yield "dense", dense(256)
    yield "unknown_operator", model([node("NoSuchOperator", ["x"], ["y"])], [value("x", T.FLOAT, [1])], [value("y", T.FLOAT, [1])])


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, made in models():
        (folder / f"{name}.onnx").write_bytes(made.SerializeToString(deterministic=True))
    (folder / "external").mkdir(exist_ok=True)
    weights = folder / "external" / "weights" / "w.bin"
    weights.parent.mkdir(exist_ok=True)
    weights.unlink(missing_ok=True)
    onnx.save_model(dense(128), folder / "external" / "model.onnx", save_as_external_data=True,
                    location="weights/w.bin", size_threshold=0)


if __name__ == "__main__":
    main()
