# SPDX-License-Identifier: Apache-2.0
"""Small models, one for each thing that a session can look like.

    make_cases.py FOLDER
"""
import pathlib
import sys

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper as h

TYPES = {"float": T.FLOAT, "double": T.DOUBLE, "float16": T.FLOAT16, "bfloat16": T.BFLOAT16, "bool": T.BOOL,
         "int8": T.INT8, "uint8": T.UINT8, "int16": T.INT16, "uint16": T.UINT16, "int32": T.INT32,
         "uint32": T.UINT32, "int64": T.INT64, "uint64": T.UINT64, "string": T.STRING}


def value(name, dims, kind=T.FLOAT):
    return h.make_tensor_value_info(name, kind, dims)


def weights(name, dims):
    return h.make_tensor(name, T.FLOAT, dims, np.linspace(-1, 1, int(np.prod(dims)), dtype=np.float32))


def model(nodes, inputs, outputs, initializers=(), ir=8, **attributes):
    graph = h.make_graph(nodes, "graph", inputs, outputs, list(initializers), doc_string="of a test")
    return h.make_model(graph, ir_version=ir, opset_imports=[h.make_opsetid("", 17)], producer_name="make_cases",
                        **attributes)


def dense(ir=8, overridable=False):
    """Two layers; two outputs."""
    inputs = [value("x", ["batch", 4])]
    if ir == 3 or overridable:
        inputs.append(value("w", [4, 3]))
    return model([h.make_node("MatMul", ["x", "w"], ["h"]), h.make_node("Relu", ["h"], ["y"]),
                  h.make_node("Neg", ["h"], ["z"])], inputs, [value("y", ["batch", 3]), value("z", ["batch", 3])],
                 [weights("w", [4, 3])], ir=ir)


def cases():
    named = dense()
    named.domain, named.model_version, named.doc_string = "org.example", 7, "a description"
    h.set_model_props(named, {"author": "nobody", "classes": "cat,dog"})
    yield "metadata", named
    for name, kind in TYPES.items():
        yield f"type_{name}", model([h.make_node("Identity", ["x"], ["y"])], [value("x", ["n", 3], kind)],
                                    [value("y", ["n", 3], kind)])
    yield "scalar", model([h.make_node("ReduceSum", ["x"], ["y"], keepdims=0)], [value("x", ["n", 3])],
                          [value("y", [])])
    yield "scalar_input", model([h.make_node("Mul", ["x", "s"], ["y"])], [value("x", [2]), value("s", [])],
                                [value("y", [2])])
    yield "dynamic_output", model([h.make_node("NonZero", ["x"], ["y"])], [value("x", ["a", "b"])],
                                  [value("y", [2, None], T.INT64)])
    yield "no_inputs", model([h.make_node("Add", ["w", "w"], ["y"])], [], [value("y", [4])], [weights("w", [4])])
    yield "unused_input", model([h.make_node("Relu", ["x"], ["y"])], [value("x", [4]), value("unused", [2], T.INT64)],
                                [value("y", [4])])
    yield "passed_through", model([h.make_node("Relu", ["x"], ["y"])], [value("x", [4])],
                                  [value("x", [4]), value("y", [4])])
    yield "no_shape", model([h.make_node("Relu", ["x"], ["y"])], [value("x", ["n"])], [value("y", None)])
    yield "ir3", dense(ir=3)
    yield "fails", model([h.make_node("Reshape", ["x", "shape"], ["y"])],
                         [value("x", ["n", 3]), value("shape", [1], T.INT64)], [value("y", None)])
    # Those that stay local.
    yield "local_sequence", model([h.make_node("SplitToSequence", ["x"], ["y"], axis=0)], [value("x", [4])],
                                  [h.make_tensor_sequence_value_info("y", T.FLOAT, None)])
    yield "local_overridable", dense(overridable=True)


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, proto in cases():
        onnx.save(proto, folder / f"{name}.onnx")
    external = dense()
    external.graph.initializer[0].CopyFrom(weights("w", [4, 3]))
    raw = onnx.numpy_helper.to_array(external.graph.initializer[0])
    external.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(raw, "w"))
    onnx.save(external, folder / "external.onnx", save_as_external_data=True, location="external.data", size_threshold=0)
    (folder / "garbage.onnx").write_bytes(b"this is no model")


if __name__ == "__main__":
    main()
