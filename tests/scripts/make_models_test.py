# SPDX-License-Identifier: Apache-2.0
"""The model zoo: published sizes, the same bytes every time, and models that run and give finite values."""
import importlib
import io
import contextlib
import pathlib
import subprocess
import sys
import tempfile
import unittest

import numpy
import onnx
import onnxruntime

SCRIPTS = pathlib.Path(sys.argv.pop(1))
sys.path.insert(0, str(SCRIPTS))
import make_models  # noqa: E402
from models.graph import Graph  # noqa: E402


class PublishedSizes(unittest.TestCase):
    """Of every architecture, by counting: no weight is made."""

    def setUp(self):
        Graph.counting_only = True

    def tearDown(self):
        Graph.counting_only = False

    def test_parameters_and_multiply_accumulates(self):
        for name, (module, function, parameters, macs, _) in make_models.ZOO.items():
            with self.subTest(name):
                counts = getattr(importlib.import_module(f"models.{module}"), function)().counts
                self.assertEqual(parameters, counts.learnable)
                if macs is not None:  # publications round, and some count additions of biases
                    self.assertLessEqual(abs(counts.macs - macs), 0.01 * macs)


class Made(unittest.TestCase):
    def run_model(self, path, **inputs):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        return onnxruntime.InferenceSession(str(path), options).run(None, inputs)

    def test_same_bytes_in_another_process_and_nothing_done_when_there(self):
        command = [sys.executable, str(SCRIPTS / "make_models.py"), "tiny", "mobilenet-v2", "--output"]
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
            subprocess.run([*command, one], check=True, stdout=subprocess.DEVNULL)
            subprocess.run([*command, two], check=True, stdout=subprocess.DEVNULL)
            for name in ("tiny.onnx", "mobilenet-v2.onnx", "mobilenet-v2.json"):
                self.assertEqual(pathlib.Path(one, name).read_bytes(), pathlib.Path(two, name).read_bytes(), name)
            path = pathlib.Path(one, "mobilenet-v2.onnx")
            before = path.stat().st_mtime_ns
            again = subprocess.run([*command, one], check=True, capture_output=True, text=True)
            self.assertEqual("", again.stdout)
            self.assertEqual(before, path.stat().st_mtime_ns)
            path.write_bytes(path.read_bytes()[:-1])  # a damaged file is made again
            subprocess.run([*command, one], check=True, stdout=subprocess.DEVNULL)
            self.assertEqual(pathlib.Path(two, "mobilenet-v2.onnx").read_bytes(), path.read_bytes())

    def test_valid_finite_and_of_the_described_shape(self):
        cases = {"tiny": (1, 16), "mobilenet-v2": (1, 3, 224, 224), "densenet-121": (1, 3, 224, 224),
                 "yolo-v8n": (1, 3, 640, 640)}
        with tempfile.TemporaryDirectory() as folder:
            for name, shape in cases.items():
                with self.subTest(name):
                    known, _ = make_models.make(name, pathlib.Path(folder))
                    path = pathlib.Path(folder, f"{name}.onnx")
                    onnx.checker.check_model(str(path), full_check=True)
                    self.assertLessEqual(onnx.load(path).ir_version, 8)
                    x = numpy.random.default_rng(1).standard_normal(shape, dtype=numpy.float32)
                    outputs = self.run_model(path, **{known["inputs"][0]["name"]: x})
                    self.assertEqual(known["outputs"][0]["shape"], list(outputs[0].shape))
                    self.assertTrue(numpy.isfinite(outputs[0]).all())
                    self.assertGreater(outputs[0].std(), 1e-3)

    def test_bytes_come_back_negated(self):
        with tempfile.TemporaryDirectory() as folder:
            known, _ = make_models.make("bytes-16mb", pathlib.Path(folder))
            x = numpy.arange(4 << 20, dtype=numpy.float32)[None]
            self.assertEqual(16 << 20, x.nbytes)
            numpy.testing.assert_array_equal(-x, self.run_model(pathlib.Path(folder, "bytes-16mb.onnx"), input=x)[0])
            self.assertEqual(0, known["parameters"])


class CommandLine(unittest.TestCase):
    def test_unknown_name_is_one_sentence(self):
        got = subprocess.run([sys.executable, str(SCRIPTS / "make_models.py"), "vgg-17"], capture_output=True, text=True)
        self.assertEqual(2, got.returncode)
        self.assertEqual(1, got.stderr.count("\n"))
        self.assertIn("(vgg-17)", got.stderr)

    def test_list_names_every_model(self):
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()) as out:
            make_models.make("tiny", pathlib.Path(folder))
            make_models.table(pathlib.Path(folder))
        lines = out.getvalue().splitlines()
        self.assertEqual(len(make_models.ZOO) + 1, len(lines))
        self.assertIn("1x16", next(line for line in lines if line.startswith("tiny")))
        self.assertIn("(not made)", next(line for line in lines if line.startswith("vgg-16")))


if __name__ == "__main__":
    unittest.main()
