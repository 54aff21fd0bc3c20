# SPDX-License-Identifier: Apache-2.0
"""Ordinary programs, run plainly and under `outboard run`, must print the same; and the report must prove that their
Runs really went to the server.

    interposer_test.py [unittest arguments]
"""
import contextlib
import json
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

SOURCE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(SOURCE.parent))
from harness import (BUILD, DEPS, ENVIRONMENT, ORT, OUTBOARD, PYTHON, TIMEOUT_S, Compared, Outboard, Server,  # noqa: E402
                     check_output, run, wait_for, work)

LIBRARY = BUILD / "liboutboard_onnxruntime.so"
LINKED, DLOPENED = str(BUILD / "tests/program_linked"), str(BUILD / "tests/program_dlopen")
PROGRAM = str(SOURCE / "programs/program.py")
# Reading the library's address from the environment keeps the plain run equal.
ENVIRONMENT["PROGRAM_ORT"] = ORT


def models(*patterns):
    found = sorted({str(p) for pattern in patterns for p in (work / "models").glob(pattern + ".onnx")})
    assert found, patterns
    return found


class Interposer(Compared):
    @classmethod
    def setUpClass(cls):
        check_output([PYTHON, str(SOURCE / "make_cases.py"), str(work / "models")])
        cls.server = Server()

    @classmethod
    def tearDownClass(cls):
        cls.server.kill()

    # ---- every kind of session and Run

    def check_cases(self, command):
        paths = [p for p in models("*") if "garbage" not in p]
        through = self.same([*command, "cases", *paths], "--mode", "remote")
        self.assertEqual(len(through.sessions), len(paths))
        went = [s for s in through.sessions if s["runs"]["server"] > 0]
        stayed = [s for s in through.sessions if s["why_local"]]
        self.assertEqual(len(stayed), 2, stayed)
        self.assertEqual(len(went), len(paths) - 2)
        self.assertEqual([s for s in went if s["runs"]["local"]], [])
        reasons = " ".join(s["why_local"] for s in stayed)
        self.assertRegex(reasons, "sequence")
        self.assertRegex(reasons, "override|overridable")

    def test_cases_linked(self):
        self.check_cases([LINKED])

    def test_cases_dlopened_with_rtld_local(self):
        self.check_cases([DLOPENED])

    def test_cases_python(self):
        paths = [p for p in models("*") if "garbage" not in p and "bfloat16" not in p]
        through = self.same([PYTHON, PROGRAM, "cases", *paths], "--mode", "remote")
        went = [s for s in through.sessions if s["runs"]["server"] > 0 or s["runs"]["failed"] > 0]
        self.assertEqual(len([s for s in went if not s["why_local"]]), len(paths) - 2)
        self.assertEqual([s for s in went if s["runs"]["local"] and not s["why_local"]], [])

    def test_features_of_python(self):
        through = self.same([PYTHON, PROGRAM, "features", models("metadata")[0]], "--mode", "remote")
        self.assertGreaterEqual(len(through.processes), 3)  # the program, and both children
        self.assertTrue(all(sum(s["runs"]["server"] for s in p["sessions"]) > 0 for p in through.processes))
        self.assertEqual(through.runs("local"), 0)

    def test_cases_node(self):
        modules = DEPS / "node/node_modules"
        if not shutil.which("node") or not modules.exists():
            self.skipTest("NODE IS MISSING: scripts/install-deps.sh")
        command = ["node", str(SOURCE / "programs/program.js"), str(modules), *models("metadata", "external", "ir3")]
        through = self.same(command, "--mode", "remote")
        self.assertEqual(len(through.sessions), 3)
        self.all_remote(through)

    def test_a_model_that_cannot_be_opened_gives_the_librarys_own_error(self):
        for command in ([LINKED], [DLOPENED]):
            self.same([*command, "cases", *models("garbage"), "/there/is/no/model.onnx"])

    def test_from_the_first_run_on_while_the_model_is_uploaded(self):
        with Server() as empty:
            through = self.same([LINKED, "cases", *models("metadata", "type_*")], server=empty)
            self.assertEqual(through.runs("failed"), 0)

    def test_spools(self):
        for spool in ("memory", "none"):
            with Server() as empty:
                through = self.same([LINKED, "cases", *models("external", "metadata")], "--mode", "remote", "--spool",
                                    spool, server=empty)
                self.assertGreater(through.runs("server"), 0)

    # ---- what a Run costs on the wire

    def test_one_round_trip_a_run(self):
        model = models("metadata")[0]
        # Ending the server's part of a Run that was begun here as well takes a frame, too.
        few, many = (Outboard(self.server, [LINKED, "repeat", model, str(n)], "--mode", "remote",
                              environment={"OUTBOARD_HEDGING": "off"}) for n in (10, 60))
        self.assertEqual(few.runs("server"), 10)
        self.assertEqual(many.runs("server"), 60)
        self.assertEqual(many.frames() - few.frames(), 50)

    def test_only_the_wanted_outputs_travel(self):
        model = models("metadata")[0]
        both, one = (Outboard(self.server, [LINKED, "repeat", model, "5", *output], "--mode", "remote").sessions[0]
                     for output in ([], ["z"]))
        of_an_output = 2 * 3 * 4  # bytes of z, and more for its header
        self.assertGreaterEqual(both["bytes_received"] - one["bytes_received"], 5 * of_an_output)
        self.assertEqual(both["runs"]["server"], one["runs"]["server"])

    # ---- servers that are not there

    def test_no_server_one_warning(self):
        for command in ([LINKED, "cases", *models("metadata", "type_*")], [PYTHON, PROGRAM, "cases", *models("metadata")]):
            through = self.same(command, server=f"unix:{work}/nobody")
            self.assertEqual(through.result.stderr.count("outboard: warning"), 1, through.result.stderr)
            self.assertEqual(through.runs("server"), 0)
            self.assertEqual(through.runs("failed"), 0)
            self.assertGreater(through.sessions[0]["runs"]["local_because"]["server gone"], 0)

    @contextlib.contextmanager
    def load(self, server, *options):
        report = pathlib.Path(tempfile.mkdtemp(dir=work)) / "report.json"
        process = subprocess.Popen(
            [OUTBOARD, "run", "--server", server.address, "--json", str(report), *options, "--", LINKED, "load",
             models("metadata")[0], "8"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
        self.addCleanup(process.kill)
        self.assertEqual(process.stdout.readline(), "running\n")
        yield process
        out, err = process.communicate(timeout=TIMEOUT_S)
        process.stderr.close()
        self.assertEqual((out, process.returncode), ("failed 0 wrong 0\n", 0), err)
        self.sessions = json.loads(report.read_text())["processes"][0]["sessions"]

    def go_on(self, process):
        process.stdin.write("\n")
        process.stdin.flush()
        self.assertEqual(process.stdout.readline(), "went on\n")

    def test_runs_try_the_server_when_the_upload_is_done(self):
        with Server() as server:
            with self.load(server) as process:
                wait_for(lambda: server.runs() > 0, "the upload", process)
                self.go_on(process)
        runs = self.sessions[0]["runs"]
        self.assertEqual(set(runs["local_because"]) - {"sooner here"}, {"uploading"})
        self.assertGreater(runs["server"], 0)
        self.assertEqual((runs["failed"], runs["replayed"]), (0, 0))

    def test_server_killed_under_load_of_8_threads(self):
        with Server() as server, self.load(server, "--mode", "remote") as process:
            server.kill()
            self.go_on(process)
        runs = self.sessions[0]["runs"]
        self.assertGreater(runs["server"], 0)
        self.assertGreater(runs["local"], 0)
        self.assertEqual(runs["failed"], 0)

    def test_server_comes_back_with_an_empty_store(self):
        listen = f"unix:{work}/comes-back"
        with Server(listen) as server, self.load(server, "--mode", "remote") as process:
            server.kill()
            self.go_on(process)
            with Server(listen) as again:
                wait_for(lambda: again.runs() > 0, "the client", process)
                self.go_on(process)
                process.stdin.close()
                process.stdin = None
                process.wait(TIMEOUT_S)
        self.assertEqual(self.sessions[0]["runs"]["failed"], 0)

    def test_server_drains(self):
        with Server() as server, self.load(server, "--mode", "remote") as process:
            server.process.send_signal(signal.SIGTERM)
            self.go_on(process)
            self.assertEqual(server.process.wait(TIMEOUT_S), 0)
            self.go_on(process)
        self.assertEqual(self.sessions[0]["runs"]["failed"], 0)

    def test_second_server_takes_over(self):
        with Server() as other:
            through = self.same([LINKED, "repeat", models("metadata")[0], "5"], "--server", other.address, "--mode",
                                "remote", server=f"unix:{work}/nobody")
            self.assertEqual(through.runs("server"), 5)
            self.assertEqual(through.sessions[0]["server"], other.address)

    # ---- processes

    def test_fork_from_a_thread(self):
        with Server() as server:
            through = self.same([LINKED, "fork", models("metadata")[0]], "--mode", "remote", server=server)
            self.assertEqual((through.runs("failed"), through.runs("local")), (0, 0))
            # The children end by _exit() and leave no report; the server has counted their Runs.
            self.assertEqual(server.runs() - through.runs("server"), 5 * 3)

    def test_a_program_without_onnxruntime(self):
        through = self.same([PYTHON, "-c", "import sys; print(sys.stdin.read())"], input="from standard input")
        self.assertEqual(through.processes, [])
        self.same(["sh", "-c", "exit 7"], status=7)
        self.same(["sh", "-c", "kill -TERM $$"], status=-signal.SIGTERM)
        self.same(["cat"], input="through\n")

    def test_signal_reaches_the_program(self):
        process = subprocess.Popen([OUTBOARD, "run", "--server", self.server.address, "--", "cat"],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRONMENT)
        process.stdin.write(b"x")
        process.stdin.flush()
        self.assertEqual(process.stdout.read(1), b"x")  # cat runs
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(TIMEOUT_S), -signal.SIGINT)
        process.stdin.close()
        process.stdout.close()

    def test_another_preloaded_library(self):
        second = {"LD_PRELOAD": str(BUILD / "tests/libsecond_preload.so")}
        through = self.same([str(BUILD / "tests/calls_abs")], environment=second)
        self.assertEqual(through.result.stdout, "1007\n")
        through = self.same([DLOPENED, "repeat", models("metadata")[0], "3"], "--mode", "remote", environment=second)
        self.assertEqual(through.runs("server"), 3)

    def test_sitecustomize_of_the_program_is_chained(self):
        folder = work / "site"
        folder.mkdir()
        (folder / "sitecustomize.py").write_text("print('chained')\n")
        through = self.same([PYTHON, PROGRAM, "absent"], environment={"PYTHONPATH": str(folder)})
        self.assertEqual(through.result.stdout, "chained\nimported True\n")

    # ---- reports and the command line

    def test_reports(self):
        trace = work / "trace.json"
        through = Outboard(self.server, [LINKED, "repeat", models("metadata")[0], "4"], "--mode", "remote", "--summary",
                           "--trace", str(trace))
        self.assertRegex(through.result.stderr, r"metadata\.onnx +server .* 4 ")
        events = json.loads(trace.read_text())["traceEvents"]
        names = [e["name"] for e in events]
        for name in ("send", "wait", "receive", "queue", "compute"):
            self.assertEqual(names.count(name), 4, names)
        runs = {e["ts"]: e for e in events if e["name"].startswith("Run of")}
        for e in (e for e in events if e["name"] == "compute"):
            around = [r for ts, r in runs.items() if ts <= e["ts"] and e["ts"] + e["dur"] <= ts + r["dur"] + 1]
            self.assertTrue(around, f"the server's {e} lies in no Run of the client")
        quiet = Outboard(self.server, [LINKED, "repeat", models("metadata")[0], "4"], "--no-summary")
        self.assertNotIn("where the inference", quiet.result.stderr)

    def test_command_line(self):
        for arguments, status, says in (
                (["--", "true"], 1, "no server was given"), (["--server", "x", "--", "/no/such"], 127, "cannot be started"),
                (["--server", "x:y", "--", "true"], 1, "x:y"), (["--server", "x"], 2, "command"),
                (["--server", "x", "--mode", "never", "--", "true"], 2, "never"),
                (["--server", "x", "--json", "/no/such/folder/f", "--", "true"], 1, "cannot be written")):
            result = run([OUTBOARD, "run", *arguments])
            self.assertEqual(result.returncode, status, result.stderr)
            self.assertIn(says, result.stderr)
        result = run([OUTBOARD, "run", "--", "true"], {"OUTBOARD_SERVERS": self.server.address})
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertEqual(run([OUTBOARD, "run", "--mode", "local", "--", "true"]).returncode, 0)

    def test_mode_local(self):
        through = self.same([LINKED, "repeat", models("metadata")[0], "4"], "--mode", "local")
        self.assertEqual((through.runs("server"), through.runs("local")), (0, 4))
        self.assertIn("--mode local", through.sessions[0]["why_local"])

    # ---- the library as a guest

    def test_exports_and_needs(self):
        names = {line.split()[-1] for line in check_output(["nm", "-D", "--defined-only", LIBRARY]).splitlines()}
        foreign = {n for n in names if not n.startswith("outboard_")}
        self.assertEqual(foreign, {"OrtGetApiBase", "OrtSessionOptionsAppendExecutionProvider_CUDA",
                                   "OrtSessionOptionsAppendExecutionProvider_Tensorrt", "RegisterCustomOps", "dlsym"})
        needed = re.findall(r"NEEDED.*\[(.*)\]", check_output(["readelf", "-d", LIBRARY]))
        self.assertLessEqual(set(needed), {"libc.so.6", "libm.so.6", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"})

    def test_installed(self):
        prefix = work / "installed"
        check_output(["cmake", "--install", str(BUILD), "--prefix", str(prefix)])
        result = run([str(prefix / "bin/outboard"), "run", "--server", self.server.address, "--mode", "remote", "--json",
                      str(work / "installed.json"), "--", PYTHON, PROGRAM, "cases", *models("metadata")])
        self.assertEqual(result.returncode, 0, result.stderr)
        session = json.loads((work / "installed.json").read_text())["processes"][0]["sessions"][0]
        self.assertGreater(session["runs"]["server"], 0)


if __name__ == "__main__":
    unittest.main()
