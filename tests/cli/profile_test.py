# SPDX-License-Identifier: Apache-2.0
"""`outboard profile` as a program: what it writes, its sentences, and that an interrupt loses nothing."""
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import unittest

ROOT, OUTBOARD = pathlib.Path(sys.argv.pop(1)), sys.argv.pop(1)
sys.path.insert(0, str(ROOT / "scripts"))
import make_models  # noqa: E402


def profile(*arguments, **options):
    return subprocess.run([OUTBOARD, "profile", *map(str, arguments)], capture_output=True, text=True, timeout=100,
                          check=False, **options)


class Profile(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.path = pathlib.Path(cls.folder.name)
        make_models.make("tiny", cls.path)
        make_models.make("mobilenet-v2", cls.path)

    def test_two_models_here(self):
        got = profile(self.path / "tiny.onnx", self.path / "mobilenet-v2.onnx", "--runs", 20, "--seconds", 2,
                      "--threads", 1)
        self.assertEqual(0, got.returncode, got.stderr)
        self.assertEqual("", got.stderr)  # progress is for terminals
        report = json.loads(got.stdout)
        self.assertEqual(["tiny", "mobilenet-v2"], [m["model"] for m in report["models"]])
        self.assertEqual("cpu-1", report["models"][0]["device_kind"])
        tiny, mobilenet = report["measurements"]
        self.assertEqual(20, tiny["runs"])
        self.assertEqual([{"name": "input", "type": "float", "dims": [1, 3, 224, 224]}], mobilenet["inputs"])
        self.assertGreater(mobilenet["total_ms"]["p50"], 10 * tiny["total_ms"]["p50"])
        self.assertLessEqual(mobilenet["total_ms"]["p50"], mobilenet["total_ms"]["p99"])
        # 14 MB of weights: their memory is seen, and it is not a thousand times more.
        self.assertGreater(report["models"][1]["memory_bytes"], 10e6)
        self.assertLess(report["models"][1]["memory_bytes"], 1e9)
        self.assertFalse(report["interrupted"])

    def test_output_file_and_table(self):
        out = self.path / "profile.json"
        got = profile(self.path / "tiny.onnx", "--runs", 5, "--output", out, "--device-kind", "desk")
        self.assertEqual(0, got.returncode, got.stderr)
        self.assertEqual("desk", json.loads(out.read_text())["models"][0]["device_kind"])
        self.assertIn("tiny", got.stdout)
        self.assertIn("p99", got.stdout)

    def test_interrupted_it_writes_what_was_measured(self):
        out = self.path / "interrupted.json"
        # A second terminal line is not needed to know that it measures: the file of a pseudo-terminal is.
        main, side = os.openpty()
        process = subprocess.Popen([OUTBOARD, "profile", str(self.path / "tiny.onnx"), "--seconds", "1000", "--runs",
                                    "100000000", "--output", str(out)], stdout=subprocess.PIPE, stderr=side, text=True)
        os.close(side)
        self.addCleanup(process.kill)
        seen = b""
        while b" Runs, " not in seen:
            seen += os.read(main, 4096)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        os.close(main)
        self.assertEqual(0, process.returncode)
        report = json.loads(out.read_text())
        self.assertTrue(report["interrupted"])
        self.assertGreater(report["measurements"][0]["runs"], 0)
        self.assertEqual(1, len(report["models"]))

    def test_what_was_measured_is_kept_when_a_later_model_is_bad(self):
        got = profile(self.path / "tiny.onnx", self.path / "missing.onnx", "--runs", 5)
        self.assertEqual(1, got.returncode)
        self.assertIn("missing.onnx", got.stderr)
        self.assertEqual(["tiny"], [m["model"] for m in json.loads(got.stdout)["models"]])

    def test_bad_input_is_one_sentence(self):
        (self.path / "garbage.onnx").write_bytes(b"\xff" * 100)
        tiny = self.path / "tiny.onnx"
        for arguments, said in (([self.path / "none.onnx"], "none.onnx"), ([self.path / "garbage.onnx"], "garbage.onnx"),
                                ([tiny, "--shape", "input=1,x"], "(input=1,x)"),
                                ([tiny, "--shape", "image=1,16"], "no input (image)"),
                                ([tiny, "--shape", "input=1,17"], "(1,17)"),
                                ([tiny, "--device", "tpu"], "(tpu)"),
                                ([tiny, "--server", "nowhere:port"], "(nowhere:port)"),
                                ([tiny, "--ort-library", "/none/lib.so"], "/none/lib.so"),
                                ([tiny, "--runs", 5, "--output", "/none/out.json"], "(/none/out.json)")):
            got = profile(*arguments)
            self.assertEqual(1, got.returncode, (arguments, got.stderr))
            self.assertIn(said, got.stderr)
            self.assertEqual(1, got.stderr.count("\n"), got.stderr)
            self.assertTrue(got.stderr.startswith("outboard: "), got.stderr)
        self.assertEqual(2, profile().returncode)
        self.assertEqual(2, profile(tiny, "--seconds", "-1").returncode)
        self.assertEqual(2, profile(tiny, "--server", "a:1", "--device", "cpu").returncode)


if __name__ == "__main__":
    unittest.main()
