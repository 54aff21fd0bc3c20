# SPDX-License-Identifier: Apache-2.0
"""`outboard serve`, `status` and `push` as programs: addresses, signals, sentences, uploads that break off."""
import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import harness  # noqa: E402
from harness import OUTBOARD  # noqa: E402

MODELS = harness.BUILD / "tests/models"
LIMIT_S = harness.TIMEOUT_S


def outboard(*arguments, **options):
    return subprocess.run([OUTBOARD, *map(str, arguments)], capture_output=True, text=True, timeout=LIMIT_S, check=False,
                          **options)


def sizes_in(folder):
    """Of the files in a folder from which the server may take them meanwhile."""
    sizes = []
    for file in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            sizes.append(file.stat().st_size)
    return sizes


class Server(harness.LoggedServer):
    """Started when its log says that it serves."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.serving = self.wait_for(" serving ")

    def wait_for(self, text):
        return self.line(lambda line: text in line)

    def addresses(self):
        return self.serving.split("addresses=")[1].split()[0].split(",")

    def stop(self):
        self.process.terminate()
        rest = self.process.communicate(timeout=LIMIT_S)[1]
        self.log.append(rest or "")
        return self.process.returncode


class Serve(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = pathlib.Path(folder.name)
        self.servers = []
        self.addCleanup(lambda: [s.kill() for s in self.servers])

    def start(self, *arguments, listen="127.0.0.1:0"):
        server = Server("--listen", listen, "--store", self.path / "store", *arguments)
        self.servers.append(server)
        return server

    def test_ready_file_and_clean_end(self):
        ready = self.path / "ready"
        server = self.start("--listen", f"unix:{self.path}/socket", "--ready-file", ready)
        # Written before or after the log line, but before the first signal is taken; a client need not wait.
        for address in server.addresses():
            self.assertEqual(0, outboard("status", address).returncode)
        lines = ready.read_text().splitlines()
        self.assertEqual(server.addresses(), lines)
        self.assertNotEqual("127.0.0.1:0", lines[0])
        self.assertEqual(f"unix:{self.path}/socket", lines[1])
        self.assertIn('engine="onnxruntime 1.', server.serving)
        self.assertIn("device=cpu", server.serving)
        self.assertIn("version=", server.serving)
        self.assertEqual(0, server.stop())
        self.assertFalse(ready.exists())
        self.assertFalse((self.path / "socket").exists())

    def test_push_and_status(self):
        address = self.start().addresses()[0]
        pushed = outboard("push", MODELS / "external/model.onnx", address)
        self.assertEqual(0, pushed.returncode, pushed.stderr)
        self.assertIn("uploaded", pushed.stdout)
        again = outboard("push", MODELS / "external/model.onnx", address)
        self.assertEqual(0, again.returncode, again.stderr)
        self.assertIn("is already there", again.stdout)
        status = json.loads(outboard("status", address, "--json").stdout)
        self.assertEqual([2], [m["files"] for m in status["models"]])
        self.assertEqual("onnxruntime", status["engine"]["name"])
        for key in ("device", "sessions", "runs", "bytes", "queue_wait", "compute", "uptime_s", "draining", "connections"):
            self.assertIn(key, status)
        table = outboard("status", address).stdout
        self.assertIn("queue wait", table)
        self.assertIn(status["models"][0]["id"][:12], table)

    def test_upload_survives_a_kill_of_the_server(self):
        # Pieces have at most 4 MiB: the server is killed when the first ones are there, and no earlier.
        model = self.path / "large.onnx"
        model.write_bytes(os.urandom(40 << 20))
        server = self.start()
        push = subprocess.Popen([OUTBOARD, "push", str(model), server.addresses()[0]], stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)
        partial, whole = self.path / "store/partial", self.path / "store/blobs"
        while push.poll() is None and not any(size > 0 for size in sizes_in(partial)):
            pass
        server.process.kill()
        server.process.wait(LIMIT_S)
        error = push.communicate(timeout=LIMIT_S)[1]
        if push.returncode != 0:  # on a busy machine the kill may come after the last piece, or between it and its answer
            self.assertTrue(error.startswith("outboard: "), error)
            self.assertEqual(1, len(sizes_in(partial) + sizes_in(whole)))
            self.assertGreater(sum(sizes_in(partial) + sizes_in(whole)), 0)
        address = self.start().addresses()[0]
        pushed = outboard("push", model, address)
        self.assertEqual(0, pushed.returncode, pushed.stderr)
        self.assertTrue("of it before" in pushed.stdout or "already there" in pushed.stdout, pushed.stdout)
        self.assertEqual([], list(partial.iterdir()))
        self.assertEqual([model.stat().st_size], [m["size_bytes"] for m in
                                                  json.loads(outboard("status", address, "--json").stdout)["models"]])

    def test_store_limit_is_kept(self):
        address = self.start("--store-limit", "100KB").addresses()[0]
        self.assertEqual(0, outboard("push", MODELS / "external/model.onnx", address).returncode)
        self.assertEqual(0, outboard("push", MODELS / "add.onnx", address).returncode)
        refused = outboard("push", MODELS / "dense.onnx", address)
        self.assertEqual(1, refused.returncode)
        self.assertIn("must be at most the store's (100000)", refused.stderr)
        status = json.loads(outboard("status", address, "--json").stdout)
        self.assertLessEqual(status["store"]["used_bytes"], 100000)

    def test_sigterm_while_a_client_is_at_work(self):
        server = self.start()
        client = subprocess.Popen([OUTBOARD, "profile", str(MODELS / "add.onnx"), "--server", server.addresses()[0],
                                   "--seconds", "1000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        server.wait_for(" session opened ")
        self.assertEqual(0, server.stop())
        error = client.communicate(timeout=LIMIT_S)[1]
        self.assertNotEqual(0, client.returncode)
        self.assertEqual(1, len(error.splitlines()), error)  # told so, in one sentence, at once
        log = "".join(server.log)
        self.assertIn(" draining ", log)
        self.assertIn(" stopped ", log)
        self.assertNotIn(" given up ", log)

    def test_an_address_beyond_this_machine_is_secured_unless_told_otherwise(self):
        server = self.start("--insecure", listen="0.0.0.0:0")
        self.assertTrue(any(" warning insecure " in line for line in server.log), server.log)
        self.assertEqual(0, outboard("status", server.addresses()[0].replace("0.0.0.0", "127.0.0.1")).returncode)
        self.assertEqual(0, server.stop())
        server = self.start("--state", self.path / "state", listen="0.0.0.0:0")
        self.assertFalse(any(" warning " in line for line in server.log), server.log)
        self.assertEqual(1, outboard("status", server.addresses()[0].replace("0.0.0.0", "127.0.0.1")).returncode)
        self.assertEqual(0, server.stop())

    def test_one_clear_sentence(self):
        for arguments, words in (
                (("--device", "tpu:0"), "the device (tpu:0) is not known"),
                (("--ort-library", "/nonexistent.so"), "/nonexistent.so"),
                (("--listen", "127.0.0.1:99999"), "99999"),
                (("--device", "cuda:0"), "cuda:0")):
            with self.subTest(arguments):
                failed = outboard("serve", "--store", self.path / "s", "--listen", "127.0.0.1:0", *arguments)
                self.assertEqual(1, failed.returncode)
                self.assertIn(words, failed.stderr.splitlines()[-1])
        self.assertEqual(2, outboard("serve", "--store-limit", "a lot").returncode)
        self.assertEqual(2, outboard("serve", "--no-such-option").returncode)
        nobody = outboard("status", f"unix:{self.path}/nobody")
        self.assertEqual(1, nobody.returncode)
        self.assertEqual(1, len(nobody.stderr.splitlines()), nobody.stderr)
        missing = outboard("push", self.path / "missing.onnx", f"unix:{self.path}/nobody")
        self.assertEqual(1, missing.returncode)
        self.assertIn("missing.onnx", missing.stderr)

    def test_a_store_in_use_is_said(self):
        self.start()
        second = outboard("serve", "--store", self.path / "store", "--listen", "127.0.0.1:0")
        self.assertEqual(1, second.returncode)
        self.assertIn("in use by another server", second.stderr)

    def test_what_is_no_client_harms_nobody(self):
        server = self.start()
        address = server.addresses()[0]
        host, port = address.split(":")
        for nonsense in (b"GET / HTTP/1.1\r\n\r\n" + b"x" * 64, b"\x00" * 64, os.urandom(4096), b"OTB1"):
            with socket.create_connection((host, int(port)), timeout=LIMIT_S) as s:
                s.sendall(nonsense)
                s.shutdown(socket.SHUT_WR)
                while s.recv(4096):
                    pass
        self.assertEqual(0, outboard("status", address).returncode)
        self.assertEqual(0, server.stop())


if __name__ == "__main__":
    unittest.main()
