# SPDX-License-Identifier: Apache-2.0
"""Runs cases of ONNX's backend tests as an ordinary program would, and knows nothing of Outboard. The tests run it
plainly and under `outboard run` and compare what it writes.

    onnx_cases.py DATA_FOLDER RESULT.json SHARE OF     every OF-th case, beginning with SHARE

RESULT.json: {case: [verdict, digest, model's key]}. The verdict is "passes" where the outputs are those that ONNX
expects, as ONNX's own runner compares them; the digest is of every output's bytes, or of the error.
"""
import ctypes
import hashlib
import json
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests
from onnx.backend.test.runner import Runner

ort.set_default_logger_severity(4)


def cases(data):
    """(name, model, folders of inputs and outputs, tolerances); what is not in the wheel has no model."""
    for kind in ("node", "simple", "pytorch-converted", "pytorch-operator"):
        for case in load_model_tests(str(data), kind):
            folder = pathlib.Path(case.model_dir)
            yield f"{kind}/{case.name}", folder / "model.onnx", sorted(folder.glob("test_data_set_*")), case
    # Models whose weights are computed by the model; ONNX's runner makes up their inputs.
    for case in load_model_tests(str(data), "real"):
        light = data / "light" / f"light_{case.name.removeprefix('test_')}.onnx"
        yield f"light/{case.name}", light, [], case


def read(path, kind):
    content = path.read_bytes()
    if kind.HasField("sequence_type"):
        return numpy_helper.to_list(onnx.SequenceProto.FromString(content))
    if kind.HasField("optional_type"):
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(content))
    return numpy_helper.to_array(onnx.TensorProto.FromString(content))


# Types that numpy has not: they go in and out as OrtValues of the same bytes.
WITHOUT_NUMPY = {onnx.TensorProto.BFLOAT16: np.uint16, onnx.TensorProto.FLOAT8E4M3FN: np.uint8,
                 onnx.TensorProto.FLOAT8E4M3FNUZ: np.uint8, onnx.TensorProto.FLOAT8E5M2: np.uint8,
                 onnx.TensorProto.FLOAT8E5M2FNUZ: np.uint8}


def raw(path):
    tensor = onnx.TensorProto.FromString(path.read_bytes())
    kind = WITHOUT_NUMPY.get(tensor.data_type)
    if kind is None:
        return tensor.data_type, numpy_helper.to_array(tensor)
    flat = np.frombuffer(tensor.raw_data, kind) if tensor.raw_data else np.array(tensor.int32_data, kind)
    return tensor.data_type, flat.reshape(tuple(tensor.dims))


def run_with_values(session, folder, model, digest):
    """Compares bytes: such a model converts, and rounds as ONNX says."""
    feeds = {}
    for i, value in enumerate(model.graph.input):
        kind, array = raw(folder / f"input_{i}.pb")
        feeds[value.name] = (ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, kind) if kind in WITHOUT_NUMPY
                             else ort.OrtValue.ortvalue_from_numpy(array))
    outputs = session.run_with_ort_values([o.name for o in session.get_outputs()], feeds)
    same = True
    for i, output in enumerate(outputs):
        content = ctypes.string_at(output.data_ptr(), output.tensor_size_in_bytes())
        digest.update(f"{output.data_type()}{output.shape()}".encode() + content)
        same = same and raw(folder / f"output_{i}.pb")[1].tobytes() == content
    return "passes" if same else "differs from what ONNX expects: bytes"


def data_of(folder, values, what):
    return [read(folder / f"{what}_{i}.pb", value.type) for i, value in enumerate(values)
            if (folder / f"{what}_{i}.pb").exists()]


def update(digest, value):
    if isinstance(value, np.ndarray):
        digest.update(f"{value.dtype}{value.shape}".encode())
        digest.update("\0".join(map(str, value.ravel())).encode() if value.dtype == object else value.tobytes())
    elif isinstance(value, (list, tuple)):
        digest.update(b"[%d" % len(value))
        for element in value:
            update(digest, element)
    elif isinstance(value, dict):
        update(digest, sorted(value.items()))
    else:
        digest.update(repr(value).encode())


def run(name, path, folders, case, digest):
    model = onnx.load(path)
    # A path, as programs have it; every other one from memory.
    source = str(path) if len(name) % 2 or name.startswith("light") else path.read_bytes()
    session = ort.InferenceSession(source, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    verdict = "passes"
    if not folders:  # no expected outputs but those of the reference evaluator, which takes minutes
        feeds = {v.name: Runner.generate_dummy_data(v) for v in model.graph.input if v.name in names}
        update(digest, session.run(None, feeds))
        return verdict
    if any(v.type.tensor_type.elem_type in WITHOUT_NUMPY for v in [*model.graph.input, *model.graph.output]):
        return run_with_values(session, folders[0], model, digest)
    for folder in folders:
        inputs = data_of(folder, model.graph.input, "input")
        outputs = session.run(None, dict(zip(names, inputs)))
        update(digest, outputs)
        expected = data_of(folder, model.graph.output, "output")
        try:
            Runner.assert_similar_outputs(expected, outputs, rtol=case.rtol, atol=case.atol)
        except Exception as error:
            verdict = f"differs from what ONNX expects: {type(error).__name__}"
    return verdict


def key(path):
    """What Outboard's report calls the model: the name of a manifest with one file."""
    content = path.read_bytes()
    return hashlib.sha256(b"outboard-model-1\n" + (5).to_bytes(4, "little") + b"model" +
                          len(content).to_bytes(8, "little") + hashlib.sha256(content).digest()).hexdigest()


def main():
    data, result, share, of = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    results = {}
    for i, (name, path, folders, case) in enumerate(sorted(cases(data), key=lambda c: c[0])):
        if i % of != share:
            continue
        if not path.exists():
            results[name] = ["not in the wheel", "", ""]
            continue
        digest = hashlib.sha256()
        try:
            verdict = run(name, path, folders, case, digest)
        except Exception as error:
            verdict = f"fails: {type(error).__name__}"
            digest = hashlib.sha256(f"{type(error).__name__} {error}".encode())
        results[name] = [verdict, digest.hexdigest(), key(path)]
    result.write_text(json.dumps(results))


main()
