# SPDX-License-Identifier: Apache-2.0
"""Programs that want a GPU which only the server has. There is none in the tests either: tests/claiming_server says that
it has one, prints what sessions ask for, and computes on the CPU. So this tests what a program sees and what reaches
the server, not a GPU.

    gpu_test.py [unittest arguments]
"""
import ast
import pathlib
import shutil
import subprocess
import sys
import unittest

SOURCE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(SOURCE.parent))
from harness import BUILD, DEPS, ORT, PYTHON, Compared, Outboard, Server, check_output, common, run, work  # noqa: E402

CPP = [str(BUILD / "tests/program_gpu")]
PYTHON_PROGRAM = [PYTHON, str(SOURCE / "programs/gpu.py")]


class ClaimingServer:
    count = 0

    def __init__(self, *arguments):
        self.arguments = arguments

    def __enter__(self):
        ClaimingServer.count += 1
        self.folder = work / f"claims{ClaimingServer.count}"
        self.folder.mkdir()
        ready = self.folder / "ready"
        self.log = open(self.folder / "log", "w+")
        self.process = subprocess.Popen(
            [str(BUILD / "tests/claiming_server"), "serve", "--listen", "127.0.0.1:0", "--store",
             str(self.folder / "store"), "--ready-file", str(ready), "--ort-library", ORT, *self.arguments],
            stdout=self.log)
        self.address = common.wait_ready(self.process, ready, self.folder / "log")[0]
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(30)
        self.log.close()

    def sessions(self):
        """What each session asked for: ["PROVIDER", "key=value", ...]."""
        return [line.split()[1:] for line in (self.folder / "log").read_text().splitlines()
                if line.startswith("session")]


class Gpu(Compared):
    @classmethod
    def setUpClass(cls):
        check_output([PYTHON, str(SOURCE / "make_cases.py"), str(work / "models")])
        cls.model = str(work / "models/metadata.onnx")

    def through(self, server, command):
        result = Outboard(server, [*command, self.model], "--mode", "remote")
        self.assertEqual(result.result.returncode, 0, result.result.stderr)
        self.assertNotIn("It will be overwritten", result.result.stderr)
        return result

    def test_c_api(self):
        plain = run([*CPP, self.model]).stdout.splitlines()
        values = next(line for line in plain if line.startswith("plain:")).split(":")[1]
        with ClaimingServer() as server:
            through = self.through(server, CPP)
            lines = through.result.stdout.splitlines()
            asked = server.sessions()
        self.assertTrue(lines[0].startswith("providers TensorrtExecutionProvider CUDAExecutionProvider "), lines[0])
        self.assertTrue(lines[0].endswith("CPUExecutionProvider"))
        for how in ("plain", "cuda v2", "cuda v2 cloned", "tensorrt v2 and cuda", "cuda v1", "tensorrt v1", "by name",
                    "exported function", "wrapped memory"):
            self.assertIn(f"{how}:{values}", lines)
        self.assertIn("cuda options cudnn_conv_algo_search=HEURISTIC;device_id=0;use_tf32=0", lines)
        self.assertTrue(any(line.startswith("device memory:") for line in lines), lines)
        self.assertIn("current device 0", lines)
        failed = [line for line in lines if "failed" in line]
        self.assertEqual(len(failed), 3, failed)
        self.assertIn("(user_compute_stream)", failed[0])
        self.assertIn("user_compute_stream", failed[1])
        self.assertIn("unknown name failed", failed[2])
        self.assertEqual(through.runs("local"), 0)
        # One session a line, as the program opened them; equal ones are one at the server.
        self.assertIn(["CUDAExecutionProvider", "cudnn_conv_algo_search=HEURISTIC", "use_tf32=0"], asked)
        self.assertIn(["TensorrtExecutionProvider", "trt_force_sequential_engine_build=0", "trt_fp16_enable=0",
                       "trt_int8_enable=1"], asked)
        self.assertIn(["CUDAExecutionProvider", "prefer_nhwc=1"], asked)
        both = [a for a in asked if {"TensorrtExecutionProvider", "CUDAExecutionProvider"} <= set(a)]
        self.assertEqual(len(both), 1)
        self.assertIn("trt_fp16_enable=1", both[0])
        self.assertNotIn("of-the-client", str(asked))

    def test_c_api_without_a_gpu_anywhere(self):
        plain = run([*CPP, self.model]).stdout
        with Server() as server:
            self.assertEqual(self.through(server, CPP).result.stdout.replace(
                "exported function failed: 1 CUDAExecutionProvider is neither in this library nor at a server",
                "exported function: absent"), plain)

    def test_python(self):
        plain = run([*PYTHON_PROGRAM, self.model]).stdout.splitlines()
        with ClaimingServer() as server:
            through = self.through(server, PYTHON_PROGRAM)
            lines, asked = through.result.stdout.splitlines(), server.sessions()
        found = {line.split(" (")[0].split(" failed")[0]: line for line in lines}
        values = ast.literal_eval(plain[1][plain[1].index("("):plain[1].rindex(" [")])[2]
        providers = lines[0]
        self.assertTrue(providers.startswith("['TensorrtExecutionProvider', 'CUDAExecutionProvider', "), providers)
        self.assertTrue(providers.endswith(" GPU"), providers)

        def shown(how):
            line = found[how]
            self.assertTrue(line.endswith(" []"), line)  # no warning
            return ast.literal_eval(line[line.index("("):-3])

        cuda, cpu = "CUDAExecutionProvider", "CPUExecutionProvider"
        self.assertEqual(shown("default")[::2], (["TensorrtExecutionProvider", cuda, cpu], values))
        self.assertEqual(shown("cuda"), ([cuda, cpu], {cuda: {"device_id": "0"}, cpu: {}}, values))
        self.assertEqual(shown("cuda with options")[1][cuda], {"device_id": "0", "cudnn_conv_algo_search": "DEFAULT"})
        self.assertEqual(shown("provider_options")[::2], (["TensorrtExecutionProvider", cuda, cpu], values))
        self.assertEqual(shown("cpu"), ([cpu], {cpu: {}}, values))
        self.assertEqual(shown("by options")[1][::2], ([cuda, cpu], values))
        self.assertEqual(shown("bound")[:3], ("cuda", True, values))
        self.assertEqual(shown("again"), ([cpu], values))
        self.assertIn("NoSuchExecutionProvider", found["unknown"].split("}")[-1])
        self.assertIn("Only binary data types", found["strings"])
        self.assertEqual(shown("disabled optimizers")[2], values)
        self.assertEqual(through.runs("local"), 0)
        self.assertIn([cuda, "cudnn_conv_algo_search=DEFAULT"], asked)
        self.assertIn(["TensorrtExecutionProvider", "trt_fp16_enable=True", cuda], asked)
        self.assertIn([cuda, "use_tf32=0"], asked)
        self.assertTrue(any("optimization.disable_specified_optimizers=ConstantFolding" in a for a in asked), asked)

    def test_python_without_a_gpu_anywhere(self):
        with Server() as server:
            self.same([*PYTHON_PROGRAM, self.model], "--mode", "remote", server=server)

    def test_node(self):
        modules = DEPS / "node/node_modules"
        if not shutil.which("node") or not modules.exists():
            self.skipTest("NODE IS MISSING: scripts/install-deps.sh")
        command = ["node", str(SOURCE / "programs/gpu.js"), str(modules)]
        with ClaimingServer() as server:
            through = self.through(server, command)
            lines, asked = through.result.stdout.splitlines(), server.sessions()
        values = lines[0].split(" ", 1)[1]
        self.assertEqual(lines, [f"{how} {values}" for how in ("plain", "name", "options", "tensorrt")])
        self.assertIn("CUDAExecutionProvider", [a[0] for a in asked if a])
        self.assertEqual(through.runs("local"), 0)


if __name__ == "__main__":
    unittest.main()
