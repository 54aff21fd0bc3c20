# SPDX-License-Identifier: Apache-2.0
"""Writes the tensors of bench/run bytes into a folder, and the models that take and give them.

    bytes_inputs.py FOLDER PICTURE PHOTO

`det` and `rec` are what RapidOCR hands to its detector and its recogniser for PICTURE, `map` is what its detector answers;
`openpose` is PHOTO at 368x656 as OpenPose takes it (x / 256 - 0.5). Models: NAME.onnx reduces an input of NAME to its
mean (all of the work is the transfer), map.onnx gives the map as it is.
"""
import pathlib
import sys

import numpy
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper


def record(picture):
    """The first input of each of RapidOCR's models, and the detector's output."""
    seen = {}
    original = onnxruntime.InferenceSession

    class Recording(original):
        def run(self, names, feeds, options=None):
            outputs = super().run(names, feeds, options)
            (value,) = feeds.values()
            # The models differ in their number of outputs' dimensions: a map, two classes, a text.
            kind = {4: "det", 2: "cls", 3: "rec"}[outputs[0].ndim]
            if kind not in seen:
                seen[kind] = numpy.ascontiguousarray(value[:1])
                if kind == "det":
                    seen["map"] = outputs[0]
            return outputs

    onnxruntime.InferenceSession = Recording
    try:
        import rapidocr_onnxruntime.utils.infer_engine as engine
        engine.InferenceSession = Recording
        import rapidocr_onnxruntime
        rapidocr_onnxruntime.RapidOCR()(str(picture))
    finally:
        onnxruntime.InferenceSession = original
    return seen


def openpose(photo):
    from PIL import Image
    pixels = numpy.asarray(Image.open(photo).convert("RGB").resize((656, 368)), numpy.float32)
    return numpy.ascontiguousarray((pixels / 256 - 0.5).transpose(2, 0, 1)[None])


def save(graph, path):
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, path)


def main():
    folder = pathlib.Path(sys.argv[1])
    tensors = record(sys.argv[2])
    tensors["openpose"] = openpose(sys.argv[3])
    for name, value in tensors.items():
        numpy.save(folder / f"{name}.npy", value)
        if name == "map":
            continue
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, list(value.shape))
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [])
        save(helper.make_graph([helper.make_node("ReduceMean", ["x"], ["y"], keepdims=0)], name, [x], [y]),
             folder / f"{name}.onnx")
    answer = tensors["map"]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, list(answer.shape))
    save(helper.make_graph([helper.make_node("Add", ["map", "x"], ["y"])], "map", [x], [y],
                           [numpy_helper.from_array(answer, "map")]), folder / "map.onnx")
    print({name: list(value.shape) for name, value in tensors.items()})


if __name__ == "__main__":
    main()
