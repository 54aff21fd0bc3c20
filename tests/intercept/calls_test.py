# SPDX-License-Identifier: Apache-2.0
"""The list of calls (docs/calls.md) against ONNX Runtime's header, its Python module and what really happens: every
call is on the list, what is said to be passed through is untouched and nothing else, and every check that the list
names is one that runs. The checks of this file run an ordinary program plainly and through a server.

    calls_test.py [unittest arguments]
"""
import json
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import unittest

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper as h

SOURCE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(SOURCE.parent))
from gpu_test import ClaimingServer  # noqa: E402
from harness import (BUILD, DEPS, ENVIRONMENT, OUTBOARD, PYTHON, ROOT, Compared, Outboard, Server,  # noqa: E402
                     check_output, run, wait_for, work)

CPP = str(BUILD / "tests/program_calls")
PROGRAM = [PYTHON, str(SOURCE / "programs/calls.py")]
OPERATORS = str(BUILD / "tests/libown_operators.so")
HEADER = DEPS / "onnxruntime/include/onnxruntime_c_api.h"
PAGE = ROOT / "docs/calls.md"
STATES = {"passed through", "forwarded", "emulated", "stays here"}
ANSWER_MS = 50
executed = set()


class Calls(Compared):
    @classmethod
    def setUpClass(cls):
        cls.models = work / "calls"
        check_output([PYTHON, str(SOURCE / "make_calls.py"), str(cls.models)])
        cls.server = Server()

    @classmethod
    def tearDownClass(cls):
        cls.server.kill()

    def setUp(self):
        executed.add(self._testMethodName)

    def model(self, name):
        return str(self.models / name)

    def both(self, command, *options, server=None):
        """The same output, and every Run at the server."""
        through = self.same(command, "--mode", "remote", *options, server=server)
        self.assertGreater(through.runs("server"), 0)
        self.assertEqual(through.runs("local"), 0, through.sessions)
        self.assertNotIn("It will be overwritten", through.result.stderr)
        return through

    def here(self, command, reason):
        """The same output, computed here for this reason."""
        through = self.same(command, "--mode", "remote")
        self.assertEqual(through.runs("server"), 0)
        for session in through.sessions:
            self.assertRegex(session["why_local"], reason)
        return through

    # ---- ending a Run

    def check_terminate(self, command, model, times=5):
        """The quickest is what the program waits for; others may have waited for a core, which they share with the server's
        computing and whatever else the machine does."""
        before = self.server.status()["cancelled_runs"]
        process = subprocess.Popen(
            [OUTBOARD, "run", "--server", self.server.address, "--mode", "remote", "--no-summary", "--", *command],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
        self.addCleanup(process.kill)

        def line():
            process.stdin.write("\n")
            process.stdin.flush()

        answers = []
        for i in range(times):
            wait_for(lambda: self.server.status()["runs_in_flight"] == 0, "the end at the server")
            line()
            wait_for(lambda: self.server.status()["runs_in_flight"] == 1, "the Run", process)
            line()
            took, said = process.stdout.readline().split(" ", 1)
            self.assertIn("terminate flag", said)
            answers.append(float(took))
        process.stdin.close()
        self.assertEqual(process.wait(60), 0)
        process.stdout.close()
        wait_for(lambda: self.server.status()["runs_in_flight"] == 0, "the end at the server")
        print(f"\nterminate {command[-1]} {model}: least {min(answers):.1f} ms, median {statistics.median(answers):.1f} ms,"
              f" most {max(answers):.1f} ms")
        self.assertLess(min(answers), ANSWER_MS, answers)
        if model == "slow_loop":  # ten million steps: the server was stopped
            self.assertEqual(self.server.status()["cancelled_runs"] - before, times)

    def test_terminate_c(self):
        for way in ("run", "binding", "async"):
            self.check_terminate([CPP, "terminate", self.model("slow_loop.onnx"), way], "slow_loop")
        self.check_terminate([CPP, "terminate", self.model("slow_node.onnx"), "run"], "slow_node", times=3)

    def test_terminate_python(self):
        for way in ("run", "values", "binding", "async"):
            self.check_terminate([*PROGRAM, "terminate", self.model("slow_loop.onnx"), way], "slow_loop", times=3)

    # ---- sessions and their options

    def test_create(self):
        through = self.both([CPP, "create", self.model("dense.onnx")])
        self.assertEqual(through.runs("server"), 4)

    def test_free_dimensions(self):
        for command in ([CPP], PROGRAM):
            self.both([*command, "dimensions", self.model("denoted.onnx")])

    def test_session_options(self):
        for command in ([CPP], PROGRAM):
            with ClaimingServer() as server:
                self.both([*command, "options", self.model("dense.onnx")], server=server)
                self.assertEqual({tuple(s) for s in server.sessions()}, {("session.set_denormal_as_zero=1",)})
                self.assertIn("options level=1 parallel=1", (server.folder / "log").read_text())
                self.assertIn("session.set_denormal_as_zero=1", (server.folder / "log").read_text())

    def test_global_threads(self):
        self.both([CPP, "threads", self.model("dense.onnx")])

    def test_custom_allocator(self):
        through = self.both([CPP, "allocator", self.model("dense.onnx")])
        self.assertIn("output in the program's memory 1", through.result.stdout)

    def test_log_callbacks(self):
        through = self.both([CPP, "log", self.model("dense.onnx")])
        self.assertIn("messages 1 1", through.result.stdout)

    def test_ort_format(self):
        self.both([CPP, "run", self.model("dense.ort")])
        self.both([*PROGRAM, "cases", self.model("dense.ort")])

    def test_fewer_outputs(self):
        through = self.both([*PROGRAM, "fewer_outputs", self.model("dense.onnx")])
        self.assertEqual(through.runs("server"), 3)

    # ---- what stays here

    def test_own_operators(self):
        self.here([CPP, "operators", self.model("own_operator.onnx"), OPERATORS], "the program's own operators")
        self.here([*PROGRAM, "operators", self.model("own_operator.onnx"), OPERATORS], "the program's own operators")

    def test_own_weights(self):
        for command in ([CPP], PROGRAM):
            self.here([*command, "weights", self.model("dense.onnx"), self.model("external.onnx")],
                      "initializers from")

    def test_optimised_model(self):
        for command in ([CPP], PROGRAM):
            self.here([*command, "optimised", self.model("dense.onnx"), str(work / "optimised.onnx")], "optimised model")

    def test_devices_of_this_machine(self):
        self.here([*PROGRAM, "devices", self.model("dense.onnx")], "names devices of this machine")

    # ---- profiles

    def test_profile(self):
        for command in ([CPP], PROGRAM):
            folder = pathlib.Path(tempfile.mkdtemp(dir=work))
            through = Outboard(self.server, [*command, "profile", self.model("dense.onnx"), str(folder)], "--mode",
                               "remote")
            self.assertEqual(through.result.returncode, 0, through.result.stderr)
            ended = pathlib.Path(through.result.stdout.splitlines()[0])
            self.check_profile(ended, 3)
            (released,) = folder.glob("released*.json")
            self.check_profile(released, 1)
            self.assertEqual(len(list(folder.iterdir())), 2)

    def check_profile(self, path, runs):
        events = json.loads(path.read_text())
        spans = {name: [e for e in events if e.get("name") == name]
                 for name in ("send", "wait", "receive", "queue", "compute")}
        self.assertEqual({name: len(found) for name, found in spans.items()}, dict.fromkeys(spans, runs))
        ours = [e for e in events if e.get("name", "").startswith("Run of session")]
        self.assertTrue(all({"network_us", "queue_us", "compute_us"} <= set(e["args"]) for e in ours))
        # The library's own events of the same Runs lie around ours, on the same clock.
        library = [e for e in events if e.get("name") == "model_run"]
        self.assertEqual(len(library), runs)
        for e in ours:
            self.assertTrue(any(r["ts"] - 2000 <= e["ts"] and e["ts"] + e["dur"] <= r["ts"] + r["dur"] + 2000
                                for r in library), (e, library))

    # ---- a model beyond 2 GB

    def test_huge_model(self):
        """2.2 GB of external data, nearly all of it holes; the rows that are read are seeded."""
        folder = pathlib.Path(tempfile.mkdtemp(dir=work))
        rows, columns = 550, 1_000_000
        size = rows * columns * 4
        weights = onnx.TensorProto(name="w", data_type=T.FLOAT, dims=[rows, columns],
                                   data_location=onnx.TensorProto.EXTERNAL)
        for key, text in (("location", "w.bin"), ("offset", "0"), ("length", str(size))):
            weights.external_data.add(key=key, value=text)
        graph = h.make_graph(
            [h.make_node("Gather", ["w", "x"], ["g"]), h.make_node("ReduceSum", ["g", "axis"], ["y"])], "huge",
            [h.make_tensor_value_info("x", T.INT64, ["n"])], [h.make_tensor_value_info("y", T.FLOAT, None)],
            [weights, h.make_tensor("axis", T.INT64, [1], [1])])
        (folder / "huge.onnx").write_bytes(
            h.make_model(graph, ir_version=8, opset_imports=[h.make_opsetid("", 17)]).SerializeToString())
        generator = np.random.default_rng(20)
        with open(folder / "w.bin", "wb") as file:
            file.truncate(size)
            for row in (0, 1, rows - 1):
                file.seek(row * columns * 4)
                file.write(generator.standard_normal(columns, np.float32).tobytes())
        with Server() as server:
            through = self.both([*PROGRAM, "huge", str(folder / "huge.onnx")], server=server)
            client_kib = int(re.search(r"peak_kib (\d+)", through.result.stderr).group(1))
            peak = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
            server_kib = int(re.search(r"VmHWM:\s+(\d+)", peak).group(1))
        print(f"\n{size / 1e9:.1f} GB model: the client's peak {client_kib / 1e6:.2f} GB, the server's"
              f" {server_kib / 1e6:.2f} GB")
        self.assertGreater(size, 2 ** 31)
        self.assertLess(client_kib * 1024, 0.25 * size)
        self.assertLess(server_kib * 1024, 1.3 * size)


def members_of_the_header():
    """The functions of OrtApi in the order of the table."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", "", HEADER.read_text(), flags=re.S)
    body = text[text.index("struct OrtApi {"):]
    body = body[:body.index("\n};")]
    found = re.findall(r"ORT_API2_STATUS\(\s*(\w+)|ORT_CLASS_RELEASE\(\s*(\w+)\)|\(ORT_API_CALL\s*\*\s*(\w+)\)", body)
    return [a or (f"Release{b}" if b else c) for a, b, c in found]


def rows_of_the_page():
    """[(kind, names, state, checks)] of every table of docs/calls.md."""
    rows, kind = [], None
    for line in PAGE.read_text().splitlines():
        if line.startswith("## "):
            kind = line[3:]
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("| `") and len(cells) == 4:
            rows.append((kind, re.findall(r"`([^`]+)`", cells[0]), cells[1], re.findall(r"`([^`]+)`", cells[3])))
    return rows


class TheList(unittest.TestCase):
    """Last in the file, so that it sees which checks have run."""

    def setUp(self):
        self.rows = rows_of_the_page()
        self.c = {name: state for kind, names, state, _ in self.rows if kind.startswith("C:") for name in names}
        self.python = {name: state for kind, names, state, _ in self.rows if kind.startswith("Python:")
                       for name in names}

    def test_the_page_is_in_order(self):
        names = [(kind.split(":")[0], name) for kind, names, _, _ in self.rows for name in names]
        self.assertEqual([n for n in set(names) if names.count(n) > 1], [])
        self.assertEqual({state for _, _, state, _ in self.rows} - STATES, set())

    def test_every_function_of_the_header(self):
        members = members_of_the_header()
        self.assertGreater(len(members), 280)
        self.assertEqual([m for m in members if m not in self.c], [])
        self.assertEqual([n for n in self.c if n not in members and not n.startswith("Ort")], [])

    def test_what_is_passed_through_is_untouched(self):
        members = members_of_the_header()
        plain = run([CPP, "slots"]).stdout.split("\n")
        through = run([OUTBOARD, "run", "--mode", "local", "--no-summary", "--", CPP, "slots"]).stdout.split("\n")
        self.assertEqual({line.split()[1] for line in plain if line}, {"own"})
        slots = dict(line.split() for line in through if line)
        self.assertEqual(len(slots), len(members))
        replaced = {members[int(i)] for i, what in slots.items() if what == "replaced"}
        self.assertEqual(replaced, {n for n in members if self.c[n] != "passed through"})

    def test_every_name_in_python(self):
        lines = check_output([OUTBOARD, "run", "--mode", "local", "--no-summary", "--", *PROGRAM, "modules"],
                             env=ENVIRONMENT).splitlines()
        public = {line.split(" ", 1)[1] if line.startswith("module ") else ".".join(line.split())
                  for line in lines if not line.startswith("replaced")}
        self.assertEqual(sorted(public - set(self.python)), [])
        public_class = {"SessionIOBinding": "IOBinding"}
        replaced = {".".join([public_class.get(line.split()[1], line.split()[1]), line.split()[2]])
                    for line in lines if line.startswith("replaced")}
        internal = {"InferenceSession.initialize_session", "InferenceSession.create_ortvalue_from_shape_and_type",
                    "InferenceSession.create_ortvalue_from_shape_and_onnx_type",
                    "InferenceSession.run_with_ortvaluevector"}
        untouched = {n for n, state in self.python.items() if state == "passed through"}
        self.assertEqual(sorted((replaced - internal) & untouched), [])

    def test_every_check_runs(self):
        files = {path.stem: path.read_text() for path in SOURCE.glob("*_test.py")}
        registered = (SOURCE / "CMakeLists.txt").read_text()
        for kind, names, state, checks in self.rows:
            if state == "passed through":
                continue
            self.assertTrue(checks, f"{names} of {kind} need a check")
            for check in checks:
                file, method = check.split(".")
                self.assertIn(f"def {method}(", files[file], check)
                self.assertIn(f"/{file}.py", registered)
                if file == "calls_test" and not sys.argv[1:]:
                    self.assertIn(method, executed)


if __name__ == "__main__":
    # Calls first: unittest sorts classes by name.
    unittest.main()
