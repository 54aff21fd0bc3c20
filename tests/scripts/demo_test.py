# SPDX-License-Identifier: Apache-2.0
"""scripts/demo.sh: the whole demonstration with the program of this build, and a sentence for whatever is missing."""
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT, OUTBOARD, DEPS = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
del sys.argv[1:4]


def demo(*arguments, **environment):
    return subprocess.run([str(ROOT / "scripts/demo.sh"), *arguments], capture_output=True, text=True, timeout=110,
                          check=False, env={**os.environ, "OUTBOARD": OUTBOARD, "OUTBOARD_DEPS": DEPS, **environment})


class Demo(unittest.TestCase):
    def test_it_reads_the_page_the_same_through_the_server(self):
        with tempfile.TemporaryDirectory() as scratch:
            got = demo(TMPDIR=scratch)
            self.assertEqual(0, got.returncode, got.stdout + got.stderr)
            self.assertIn("segmentation", got.stdout)
            self.assertIn("second time, the server has them: the same text", got.stdout)
            self.assertIn("3 sessions, 3 Runs, every session on the server", got.stdout)
            # Nothing of ours is left behind; ONNX Runtime itself writes a ".ses" there.
            self.assertEqual([], [name for name in os.listdir(scratch) if name != ".ses"])


class Missing(unittest.TestCase):
    def assert_sentence(self, got, said):
        self.assertEqual(1, got.returncode)
        self.assertEqual(1, got.stderr.count("\n"), got.stderr)
        self.assertTrue(got.stderr.startswith("demo: "), got.stderr)
        self.assertIn(said, got.stderr)

    def test_each_missing_thing_is_a_sentence(self):
        self.assert_sentence(demo("/no/such/picture.png"), "(/no/such/picture.png)")
        self.assert_sentence(demo(OUTBOARD="/no/outboard"), "(/no/outboard)")
        self.assert_sentence(demo(OUTBOARD_DEPS="/no/deps"), "(/no/deps/venv)")

    def test_a_picture_without_text(self):
        with tempfile.TemporaryDirectory() as scratch:
            white = pathlib.Path(scratch, "white.ppm")
            white.write_bytes(b"P6 64 64 255\n" + b"\xff" * (64 * 64 * 3))
            self.assert_sentence(demo(str(white)), "no text")

    def test_a_server_that_does_not_start(self):
        with tempfile.TemporaryDirectory() as scratch:
            broken = pathlib.Path(scratch, "outboard")
            broken.write_text("#!/bin/sh\nexit 1\n")
            broken.chmod(0o755)
            self.assert_sentence(demo(OUTBOARD=str(broken)), "ended before it was ready")


if __name__ == "__main__":
    unittest.main()
