# SPDX-License-Identifier: Apache-2.0
"""Programs under `outboard run` with a server that computes in worker processes: a model that asks for a terabyte, a
worker that dies under a program, and what a worker is allowed, with the real ONNX Runtime."""
import ctypes
import errno
import json
import os
import pathlib
import platform
import signal
import struct
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from harness import ORT, OUTBOARD, PYTHON, Compared, Outboard, Server, run, wait_for, work  # noqa: E402

MODELS = work / "isolation-models"

MAKE = """
import numpy, onnx, sys
from onnx import TensorProto as T, helper, numpy_helper
def save(name, nodes, x, y, weights=(), **more):
    graph = helper.make_graph(nodes, name, [x], [y], list(weights))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, f"{sys.argv[1]}/{name}.onnx", **more)
value = helper.make_tensor_value_info
save("fill", [helper.make_node("ConstantOfShape", ["x"], ["y"])], value("x", T.INT64, [1]), value("y", T.FLOAT, ["n"]))
weight = numpy_helper.from_array(numpy.arange(1 << 18, dtype=numpy.float32), "w")
save("external", [helper.make_node("Add", ["x", "w"], ["y"])], value("x", T.FLOAT, [1 << 18]), value("y", T.FLOAT, [1 << 18]),
     [weight], save_as_external_data=True, location="weights.bin", size_threshold=1024)
save("strings", [helper.make_node("Identity", ["x"], ["y"])], value("x", T.STRING, ["n"]), value("y", T.STRING, ["n"]))
"""

# Prints what it computed; the first argument is the model.
FILL = """
import sys, numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
for size in map(int, sys.argv[2:]):
    try:
        print(session.run(None, {"x": numpy.array([size], numpy.int64)})[0].shape, flush=True)
    except Exception as error:
        print(type(error).__name__, flush=True)
"""
ADD = """
import sys, numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
print(session.run(None, {"x": numpy.full(1 << 18, 7, numpy.float32)})[0].sum())
"""
STRINGS = """
import sys, numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
print(session.run(None, {"x": numpy.array(["a", "", "long" * 9000, "\\u00e4"], dtype=object)})[0].tolist())
"""
# A Run for each line of its input, so that the test decides what happens in between.
STEPS = """
import sys, numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
for line in sys.stdin:
    print(session.run(None, {"x": numpy.array([int(line)], numpy.int64)})[0].shape, flush=True)
"""


def make_models():
    if not MODELS.exists():
        MODELS.mkdir()
        subprocess.run([PYTHON, "-c", MAKE, str(MODELS)], check=True)


def workers(server):
    return {row["tenant"]: row for row in server.status()["workers"]}


class Isolation(Compared):
    @classmethod
    def setUpClass(cls):
        make_models()
        cls.server = Server("127.0.0.1:0", "--isolation", "on", "--worker-memory", "2GiB")

    @classmethod
    def tearDownClass(cls):
        cls.server.kill()

    def program(self, text, model, *arguments, **more):
        return self.same([PYTHON, "-c", text, str(MODELS / f"{model}.onnx"), *arguments], "--mode", "remote", **more)

    def test_computes_in_a_worker_that_can_do_nothing_else(self):
        self.all_remote(self.program(FILL, "fill", "3", "100000"))
        worker = workers(self.server)["local"]
        self.assertNotEqual(worker["pid"], self.server.process.pid)
        self.assertGreater(worker["resident_bytes"], 1 << 20)
        lines = dict(line.split(":\t", 1) for line in
                     pathlib.Path(f"/proc/{worker['pid']}/status").read_text().splitlines() if ":\t" in line)
        self.assertEqual((lines["Seccomp"], lines["NoNewPrivs"]), ("2", "1"))
        for thread in pathlib.Path(f"/proc/{worker['pid']}/task").iterdir():
            self.assertIn("Seccomp:\t2", (thread / "status").read_text())
        # ONNX Runtime is not in the server's own process.
        self.assertNotIn("libonnxruntime", pathlib.Path(f"/proc/{self.server.process.pid}/maps").read_text())

    def test_external_data_and_strings(self):
        self.all_remote(self.program(ADD, "external"))
        self.all_remote(self.program(STRINGS, "strings"))

    def test_a_model_that_asks_for_a_terabyte_fails_alone(self):
        before = workers(self.server).get("local", {}).get("pid")
        terabyte = str(1 << 38)  # floats
        through = self.program(FILL, "fill", "3", terabyte, "4")
        self.assertGreaterEqual(through.runs("server"), 1)
        # Neither the server nor its worker minded.
        self.all_remote(self.program(FILL, "fill", "5"))
        if before is not None:
            self.assertEqual(workers(self.server)["local"]["pid"], before)

    def test_more_than_its_limit_is_not_given(self):
        # 3 GiB: the machine has them, the worker may not; the program computes it itself.
        through = Outboard(self.server, [PYTHON, "-c", FILL, str(MODELS / "fill.onnx"), str(3 << 28)], "--mode", "remote")
        self.assertEqual(through.result.stdout, f"({3 << 28},)\n", through.result.stderr)
        self.assertEqual(through.runs("local"), 1)

    def test_a_program_survives_its_worker(self):
        with subprocess.Popen([OUTBOARD, "run", "--server", self.server.address, "--mode", "remote", "--", PYTHON, "-c", STEPS,
                               str(MODELS / "fill.onnx")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                              # A second try would answer first where the machine is busy and a worker starts slowly.
                              env={**os.environ, "OUTBOARD_HEDGING": "off"}) as program:
            def step(size):
                program.stdin.write(f"{size}\n")
                program.stdin.flush()
                self.assertEqual(program.stdout.readline(), f"({size},)\n")
            def end_worker():
                pid = workers(self.server)["local"]["pid"]
                os.kill(pid, signal.SIGSEGV)
                # A signal takes its time on a busy machine: a Run could still be computed meanwhile.
                wait_for(lambda: not pathlib.Path(f"/proc/{pid}").exists(), "the worker's end", program)
                seen.add(pid)
            step(3)
            runs, seen = self.server.runs(), set()
            for size in (4, 5):
                end_worker()
                step(size)  # in another worker: the program notices nothing but time
            self.assertEqual(self.server.runs(), runs + 2)
            # Again so soon, the next one waits for a second: the program goes on by itself, and then comes back.
            end_worker()
            for size in range(6, 9):
                step(size)
            wait_for(lambda: step(9) or self.server.runs() > runs + 2, "the next worker", program)
            self.assertEqual(len(seen), 3)
            self.assertNotIn(workers(self.server)["local"]["pid"], seen)
            program.stdin.close()
            self.assertEqual(program.wait(60), 0)


class OneId(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        make_models()

    def test_one_grep_finds_client_server_and_worker(self):
        trace = work / "isolation-trace.json"
        with Server("127.0.0.1:0", "--isolation", "on", "--log", "json", "--log-level", "debug") as server:
            Outboard(server, [PYTHON, "-c", FILL, str(MODELS / "fill.onnx"), "3", "4", "5"], "--mode", "remote", "--trace",
                     str(trace), environment={"OUTBOARD_HEDGING": "off"})
            events = json.loads(trace.read_text())
            events = events if isinstance(events, list) else events["traceEvents"]
            places = [e["args"]["place"] for e in events if "place" in e.get("args", {})]
            self.assertEqual(len(places), 3)
            # On a busy machine a Run may have been answered here because its server was late.
            runs = [e["args"] for e in events if e.get("args", {}).get("place") == "server"]
            self.assertTrue(runs)
            self.assertEqual(len({run["id"] for run in runs}), len(runs))
            path = work / f"server{Server.count}" / "server.log"
            wait_for(lambda: all(path.read_text().count(run["id"]) >= 2 for run in runs), "the server's and its worker's lines")
            log = path.read_text().splitlines()
        for run_arguments in runs:
            self.assertGreater(run_arguments["hop_us"], 0)
            found = [json.loads(line) for line in log if run_arguments["id"] in line]
            self.assertEqual({line["event"] for line in found}, {"run done", "worker says"})
            done = next(line for line in found if line["event"] == "run done")
            self.assertEqual(done["id"], run_arguments["id"])
            said = next(line for line in found if line["event"] == "worker says")
            self.assertIn(f"run done id={run_arguments['id']}", said["line"])
        names = [e["args"]["name"] for e in events if e.get("name") == "process_name"]
        self.assertTrue(any(name.startswith("workers of ") for name in names), names)
        self.assertEqual(len([e for e in events if e.get("name") == "engine"]), len(runs))


def without_seccomp():
    """In a child: from now on the kernel says that it has no filters of system calls, as one that was built without."""
    libc = ctypes.CDLL(None, use_errno=True)
    arch, seccomp = {"x86_64": (0xC000003E, 317), "aarch64": (0xC00000B7, 277)}[platform.machine()]
    prctl = {"x86_64": 157, "aarch64": 167}[platform.machine()]
    load, equal, give = 0x20, 0x15, 0x06
    allowed, no_such_call, invalid = 0x7FFF0000, 0x00050000 | errno.ENOSYS, 0x00050000 | errno.EINVAL
    program = [(load, 0, 0, 4), (equal, 1, 0, arch), (give, 0, 0, allowed), (load, 0, 0, 0),
               (equal, 0, 1, seccomp), (give, 0, 0, no_such_call), (equal, 0, 3, prctl), (load, 0, 0, 16),
               (equal, 0, 1, 22), (give, 0, 0, invalid), (give, 0, 0, allowed)]
    code = b"".join(struct.pack("=HBBI", *step) for step in program)
    held = ctypes.create_string_buffer(code, len(code))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(held)))
    if libc.prctl(38, 1, 0, 0, 0) != 0 or libc.prctl(22, 2, header, 0, 0) != 0:
        os._exit(99)


class Choice(unittest.TestCase):
    def test_a_kernel_that_cannot_isolate_is_a_sentence_beyond_this_machine_only(self):
        def serve(listen, *more):
            return subprocess.Popen([OUTBOARD, "serve", "--ort-library", ORT, "--listen", listen, "--insecure", "--store",
                                     str(work / "no-seccomp"), *more], stderr=subprocess.PIPE, text=True,
                                    preexec_fn=without_seccomp)
        with serve("0.0.0.0:0") as far:
            said = far.stderr.read().splitlines()
            self.assertEqual(far.wait(60), 1, said)
        self.assertIn("models cannot be computed in processes of their own", said[-1])
        self.assertIn("the filter of system calls", said[-1])
        self.assertIn("--isolation off", said[-1])
        for listen, more in (("127.0.0.1:0", ()), ("0.0.0.0:0", ("--isolation", "off"))):
            with serve(listen, *more) as served:
                self.assertTrue(any(" serving addresses=" in line for line in served.stderr))
                served.terminate()
                served.stderr.read()
                self.assertEqual(served.wait(60), 0)

    def test_on_beyond_this_machine_and_off_within_it(self):
        with Server("127.0.0.1:0") as near:
            self.assertEqual(near.status()["workers"], [])
            maps = pathlib.Path(f"/proc/{near.process.pid}/maps").read_text()
            self.assertIn("libonnxruntime", maps)
        with Server("0.0.0.0:0", "--insecure") as far:
            far.address = far.address.replace("0.0.0.0", "127.0.0.1")
            self.assertEqual(len(far.status()["workers"]), 1)
        with Server("0.0.0.0:0", "--insecure", "--isolation", "off") as far:
            far.address = far.address.replace("0.0.0.0", "127.0.0.1")
            self.assertEqual(far.status()["workers"], [])

    def test_nobody_starts_a_worker_by_hand(self):
        result = run([OUTBOARD, "worker", "--ort-library", "/none"], stdin=subprocess.DEVNULL)
        self.assertEqual(result.returncode, 1)
        self.assertIn("a worker is started by outboard serve", result.stderr)

    def test_a_server_that_is_killed_leaves_no_worker(self):
        server = Server("127.0.0.1:0", "--isolation", "on")
        pid = workers(server)["-"]["pid"]
        server.kill()
        wait_for(lambda: not pathlib.Path(f"/proc/{pid}").exists(), "the worker's end")


if __name__ == "__main__":
    unittest.main()
