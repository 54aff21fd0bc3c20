# SPDX-License-Identifier: Apache-2.0
"""`outboard profile` as a program: what it writes, its sentences, and that an interrupt loses nothing."""
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import unittest

ROOT, OUTBOARD = pathlib.Path(sys.argv.pop(1)), sys.argv.pop(1)
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "bench")]
import common  # noqa: E402
import make_models  # noqa: E402


def profile(*arguments, **options):
    return subprocess.run([OUTBOARD, "profile", *map(str, arguments)], capture_output=True, text=True, timeout=300,
                          check=False, **options)


class WithModels(unittest.TestCase):
    """A folder with two models, for the life of the class."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.path = pathlib.Path(cls.folder.name)
        make_models.make("tiny", cls.path)
        make_models.make("mobilenet-v2", cls.path)


class Profile(WithModels):
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
        process.communicate(timeout=300)
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


class ProfileServer(WithModels):
    """The same against a real server."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        ready = cls.path / "ready"
        log = open(cls.path / "server.log", "wb")
        cls.addClassCleanup(log.close)
        cls.server = subprocess.Popen([OUTBOARD, "serve", "--listen", "127.0.0.1:0", "--store", str(cls.path / "store"),
                                       "--ready-file", str(ready)], stdout=log, stderr=log)
        cls.addClassCleanup(cls.server.wait)
        cls.addClassCleanup(cls.server.kill)
        cls.address = common.wait_ready(cls.server, ready, cls.path / "server.log")[0]

    def test_times_link_and_sizes(self):
        got = profile(self.path / "mobilenet-v2.onnx", self.path / "tiny.onnx", "--server", self.address, "--runs", 20,
                      "--seconds", 60)
        self.assertEqual(0, got.returncode, got.stderr)
        report = json.loads(got.stdout)
        self.assertEqual(self.address, report["devices"][0]["name"])
        self.assertEqual(self.address, report["links"][0]["to"])
        self.assertGreater(report["links"][0]["up"]["delay_ms"], 0)
        mobilenet, tiny = report["measurements"]
        # A 1x3x224x224 float image there, 1,000 floats back, and the headers.
        self.assertLess(602_112, mobilenet["request_bytes"])
        self.assertLess(mobilenet["request_bytes"], 602_112 + 1024)
        self.assertLess(4_000, mobilenet["reply_bytes"])
        self.assertLess(mobilenet["reply_bytes"], 4_000 + 1024)
        for measured in (mobilenet, tiny):
            self.assertEqual(20, measured["runs"])
            self.assertLess(measured["compute_ms"]["mean"], measured["total_ms"]["mean"])
            self.assertGreater(measured["load_ms"]["p50"], 0)
        self.assertGreater(mobilenet["compute_ms"]["p50"], 10 * tiny["compute_ms"]["p50"])
        self.assertGreater(report["models"][0]["memory_bytes"], 10e6)

    def test_a_model_that_the_server_rejects_is_one_sentence(self):
        (self.path / "garbage.onnx").write_bytes(b"\xff" * 100)
        got = profile(self.path / "garbage.onnx", "--server", self.address)
        self.assertEqual(1, got.returncode)
        self.assertIn("garbage.onnx", got.stderr)
        self.assertEqual(1, got.stderr.count("\n"), got.stderr)

    def test_nobody_there_is_one_sentence(self):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))  # bound, and nobody listens
            address = f"127.0.0.1:{unused.getsockname()[1]}"
            got = profile(self.path / "tiny.onnx", "--server", address)
        self.assertEqual(1, got.returncode)
        self.assertIn(address, got.stderr)
        self.assertEqual(1, got.stderr.count("\n"), got.stderr)


if __name__ == "__main__":
    unittest.main()
