# SPDX-License-Identifier: Apache-2.0
"""Models whose right answer to any input is known bit for bit, for tests/net/fault_client.cc.

    write(folder)       # folder/small.onnx, large.onnx, small-plain.onnx and large-plain.onnx, each with its .base

A small network of convolutions with whole weights >= 0 and without biases: for inputs that are whole and >= 0 its ReLU
changes nothing, so it is linear, and every sum stays below 2^24, so floats are exact in whatever order they are added.
`large` carries a table of LARGE_BYTES besides, from which every Run takes a zero. The others are the same with a weight
that a Run may override: Outboard leaves such a model alone.

NAME.base: two uint32 (elements of x and of y), then the floats p, q, f(p), f(q), worked out here by numpy.
"""
import pathlib
import struct

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper, numpy_helper

SIDE, LARGE_BYTES = 48, 16 << 20
LARGEST = 60  # what p and q are multiplied with (fault_client.cc)


def convolved(image, weights):
    """3x3, padded by one. [channels, SIDE, SIDE] -> [weights' first, SIDE, SIDE]"""
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1)))
    result = np.zeros((weights.shape[0], SIDE, SIDE), np.int64)
    for row in range(3):
        for column in range(3):
            result += np.einsum("oc,chw->ohw", weights[:, :, row, column],
                                padded[:, row:row + SIDE, column:column + SIDE])
    return result


def write(folder):
    folder = pathlib.Path(folder)
    random = np.random.default_rng(1)
    first, second = random.integers(0, 4, (8, 3, 3, 3)), random.integers(0, 3, (4, 8, 3, 3))
    p, q = random.integers(0, 8, (2, 3, SIDE, SIDE))
    made = [convolved(convolved(image, first), second) for image in (p, q)]
    assert LARGEST * (made[0] + made[1]).max() < 2 ** 24
    base = struct.pack("<II", p.size, made[0].size) + b"".join(a.astype("<f4").tobytes() for a in (p, q, *made))
    weights = [numpy_helper.from_array(w.astype(np.float32), name) for w, name in ((first, "w1"), (second, "w2"))]

    for name, overridable, table in (("small", False, 0), ("small-plain", True, 0), ("large", False, LARGE_BYTES),
                                     ("large-plain", True, LARGE_BYTES)):
        nodes = [helper.make_node("Conv", ["x", "w1"], ["h"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
                 helper.make_node("Relu", ["h"], ["r"]),
                 helper.make_node("Conv", ["r", "w2"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1])]
        inputs = [helper.make_tensor_value_info("x", T.FLOAT, [1, 3, SIDE, SIDE])]
        initializers = list(weights)
        if overridable:
            inputs.append(helper.make_tensor_value_info("w2", T.FLOAT, list(second.shape)))
        if table:
            values = random.integers(1, 1000, table // 4).astype(np.float32)
            values[0] = 0
            initializers += [numpy_helper.from_array(values, "table"), numpy_helper.from_array(np.float32(0), "zero")]
            nodes += [helper.make_node("ReduceMin", ["x"], ["least"], keepdims=0),
                      helper.make_node("Mul", ["least", "zero"], ["place"]),
                      helper.make_node("Cast", ["place"], ["row"], to=T.INT64),
                      helper.make_node("Gather", ["table", "row"], ["nothing"])]
        nodes.append(helper.make_node("Add", ["c", "nothing"], ["y"]) if table else
                     helper.make_node("Identity", ["c"], ["y"]))
        graph = helper.make_graph(nodes, name, inputs, [helper.make_tensor_value_info("y", T.FLOAT, [1, 4, SIDE, SIDE])],
                                  initializer=initializers)
        made_model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        (folder / f"{name}.onnx").write_bytes(made_model.SerializeToString())
        (folder / f"{name}.onnx.base").write_bytes(base)
    onnx.checker.check_model(str(folder / "small.onnx"))
