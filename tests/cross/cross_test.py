# SPDX-License-Identifier: Apache-2.0
"""The client for other machines: what it asks of a C library, and that an aarch64 program in C++ and one in Python, both
on Debian 11 under qemu-user, work with a server on this machine. scripts/cross-build.sh has built it.

    cross_test.py [unittest arguments]
"""
import pathlib
import re
import shutil
import sys
import unittest

SOURCE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(SOURCE.parent))
import harness  # noqa: E402
from harness import DEPS, PYTHON, ROOT, Compared, Outboard, Server, check_output, run, work  # noqa: E402

harness.TIMEOUT_S = 300  # emulated
OLDEST_GLIBC = (2, 31)
DEBIAN = DEPS / "cross/debian11"
QEMU = ["qemu-aarch64-static", "-L", str(DEBIAN)]
C_LIBRARY = re.compile(r"(libc|libm|libdl|libpthread|librt)\.so\.\d+|ld-linux-(aarch64|x86-64)\.so\.\d")


class Needs(unittest.TestCase):
    def check(self, arch):
        for name in ("outboard", "liboutboard_onnxruntime.so"):
            path = ROOT / f"build/cross-{arch}" / name
            versions = re.findall(r"GLIBC_(\d+)\.(\d+)", check_output(["readelf", "-V", path]))
            self.assertTrue(versions, path)
            self.assertLessEqual(max((int(a), int(b)) for a, b in versions), OLDEST_GLIBC)
            header = check_output(["readelf", "-h", "-d", path])
            self.assertRegex(header, {"aarch64": "AArch64", "x86_64": "X86-64"}[arch])
            for library in re.findall(r"NEEDED.*\[(.*)\]", header):
                self.assertRegex(library, C_LIBRARY)
        names = {line.split()[-1] for line in check_output(["nm", "-D", "--defined-only", path]).splitlines()}
        here = {line.split()[-1] for line in check_output(
            ["nm", "-D", "--defined-only", harness.BUILD / "liboutboard_onnxruntime.so"]).splitlines()}
        self.assertEqual(names, here)

    def test_aarch64(self):
        self.check("aarch64")

    def test_x86_64(self):
        self.check("x86_64")


class Runs(Compared):
    @classmethod
    def setUpClass(cls):
        if not shutil.which(QEMU[0]):
            raise unittest.SkipTest(f"WITHOUT EMULATION: the program ({QEMU[0]}) is missing; run scripts/install-deps.sh")
        check_output([PYTHON, str(ROOT / "tests/intercept/make_cases.py"), str(work / "models")])
        cls.models = [str(work / f"models/{name}.onnx") for name in ("metadata", "external", "type_string", "dynamic_output")]
        cls.server = Server()

    @classmethod
    def tearDownClass(cls):
        cls.server.kill()

    def check(self, arch, emulator, program, environment, *options, server=None):
        plain = run([*emulator, *program], environment)
        self.assertEqual(plain.returncode, 0, plain.stderr)
        # No handler of the kernel starts aarch64 programs: the emulated client becomes the emulator.
        through = Outboard(server or self.server, [*emulator, *program], "--mode", "remote", *options, environment=environment,
                           outboard=[*emulator, str(ROOT / f"build/cross-{arch}/outboard")])
        self.assertEqual((through.result.stdout, through.result.returncode), (plain.stdout, 0), through.result.stderr)
        self.assertEqual(len(through.sessions), len(self.models))
        self.all_remote(through)

    def test_cpp_aarch64(self):
        library = next(DEBIAN.glob("newest/onnxruntime/capi/libonnxruntime.so.*"))
        self.check("aarch64", QEMU, [str(ROOT / "build/cross-aarch64/program_dlopen"), "cases", *self.models],
                   {"PROGRAM_ORT": str(library)})

    def test_tls_and_coding_aarch64(self):
        """The static OpenSSL, zstd and LZ4, and toml++ of the other machine."""
        library = next(DEBIAN.glob("newest/onnxruntime/capi/libonnxruntime.so.*"))
        state, config = work / "state", {"XDG_CONFIG_HOME": str(work / "config")}
        outboard = [*QEMU, str(ROOT / "build/cross-aarch64/outboard")]
        with Server("0.0.0.0:0", "--state", str(state)) as server:
            line = re.sub("//[^?#]*", "//127.0.0.1:" + server.address.split(":")[1], (state / "first-token").read_text())
            done = run([*outboard, "login", "--name", "edge"], config, input=line)
            self.assertEqual(0, done.returncode, done.stderr)
            for coding in ("zstd", "lz4"):
                self.check("aarch64", QEMU, [str(ROOT / "build/cross-aarch64/program_dlopen"), "cases", *self.models],
                           {"PROGRAM_ORT": str(library), **config}, "--coding", coding, server="edge")
            self.assertIn("cpu", run([*outboard, "status", "edge"], config).stdout)

    def test_python_aarch64(self):
        self.check("aarch64", QEMU, [str(DEBIAN / "usr/bin/python3.9"), str(ROOT / "tests/clients/python/client.py"), *self.models],
                   {"PYTHONHOME": str(DEBIAN / "usr"), "PYTHONPATH": str(DEBIAN / "site")})

    def test_cpp_x86_64(self):
        self.check("x86_64", [], [str(ROOT / "build/cross-x86_64/program_dlopen"), "cases", *self.models],
                   {"PROGRAM_ORT": harness.ORT})


if __name__ == "__main__":
    unittest.main()
