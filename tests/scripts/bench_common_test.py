# SPDX-License-Identifier: Apache-2.0
"""bench/run and bench/common.py: the result file's format, the table, what misses its goal, and bad names."""
import contextlib
import io
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

BENCH = pathlib.Path(sys.argv.pop(1))
sys.path.insert(0, str(BENCH))
import common  # noqa: E402
import offload  # noqa: E402


class Rows(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.bench = common.Bench("sample", results=self.folder.name)

    def finish(self):
        with contextlib.redirect_stdout(io.StringIO()) as out:
            missed = self.bench.finish()
        document = json.loads(pathlib.Path(self.folder.name, "sample.json").read_text())
        return document, out.getvalue(), [r["name"] for r in missed]

    def test_format_of_the_file(self):
        self.bench.row("tiny/added_p50", 24.5, "us", "lower", goal=60, baseline="in-process", baseline_value=3.0, spread=1.5)
        self.bench.row("plain", 7, "1/s", "higher")
        document, _, _ = self.finish()
        self.assertEqual({"machine", "rows"}, set(document))
        self.assertTrue({"cpu", "cores", "memory_bytes", "kernel", "load_1min", "commit", "time_utc",
                         "tcp_congestion_control"} == set(document["machine"]))
        self.assertEqual({"name": "tiny/added_p50", "value": 24.5, "unit": "us", "better": "lower", "goal": 60,
                          "baseline": "in-process", "baseline_value": 3.0, "spread": 1.5}, document["rows"][0])
        self.assertIsNone(document["rows"][1]["goal"])

    def test_missed_goals_are_marked(self):
        self.bench.row("low and fine", 60, "us", "lower", goal=60)
        self.bench.row("low and missed", 60.1, "us", "lower", goal=60)
        self.bench.row("high and fine", 2.0, "x", "higher", goal=1.75)
        self.bench.row("high and missed", 1.5, "x", "higher", goal=1.75)
        self.bench.row("no value", None, "x", "higher", goal=1.75)
        self.bench.row("no goal", 1e9, "x", "lower")
        _, text, missed = self.finish()
        self.assertEqual(["low and missed", "high and missed", "no value"], missed)
        marked = [line for line in text.splitlines() if line.endswith("MISSED")]
        self.assertEqual(3, len(marked))
        self.assertIn("<= 60", marked[0])
        self.assertIn(">= 1.75", marked[1])

    def test_median_and_spread_of_repetitions(self):
        self.bench.samples("figure", [5.0, 1.0, 2.0, 4.0, 100.0], "us", "lower")
        document, _, _ = self.finish()
        self.assertEqual(4.0, document["rows"][0]["value"])
        self.assertEqual(1.5, document["rows"][0]["spread"])  # quartiles 2 and 5
        self.assertEqual(0.0, common.Samples([3.0]).spread)
        with self.assertRaises(ValueError):
            common.Samples([])

    def test_quick_figures_say_so(self):
        self.bench.quick = True
        document, text, _ = self.finish()
        self.assertTrue(document["quick"])
        self.assertIn("not to be quoted", text)

    def test_a_name_twice_or_a_wrong_direction(self):
        self.bench.row("x", 1, "us", "lower")
        with self.assertRaises(ValueError):
            self.bench.row("x", 1, "us", "lower")
        with self.assertRaises(ValueError):
            self.bench.row("y", 1, "us", "smaller")


class Offload(unittest.TestCase):
    """How bench/offload.py makes figures of times."""

    def test_figures_by_hand(self):
        measured = offload.Measured.__new__(offload.Measured)
        measured.kinds = ["in-process", "outboard-tcp"]
        own = {"p50": 2.0, "times": [float(t) for t in range(100)], "runs_per_s": 10.0}
        through = {"p50": 12.0, "times": [float(2 * t) for t in range(100)], "runs_per_s": 5.0}
        measured.rounds = [{"in-process": own, "outboard-tcp": through}]
        self.assertEqual([10.0], measured.added("outboard-tcp"))
        self.assertEqual([0.5], measured.ratio("outboard-tcp", "in-process", "runs_per_s"))
        self.assertEqual((99.0, 198.0), (measured.p99("in-process"), measured.p99("outboard-tcp")))
        measured.rounds = [{"in-process": {**own, "times": own["times"][:99]}}]
        self.assertIsNone(measured.p99("in-process"))  # too few

    def test_interval_of_a_median(self):
        low, high = offload.interval([1.0] * 20 + [2.0] * 20)
        self.assertEqual((1.0, 2.0), (low, high))
        self.assertEqual((3.0, 3.0), offload.interval([3.0]))

    def test_a_run_that_was_not_remote_spoils_the_figure(self):
        with tempfile.TemporaryDirectory() as folder:
            report = pathlib.Path(folder, "report.json")

            def check(runs, transport):
                report.write_text(json.dumps({"processes": [{"sessions": [{"runs": runs}],
                                                             "servers": [{"transport": transport}]}]}))
                offload.all_on_the_server(report, "shm")
            remote = {"server": 10, "local": 0, "failed": 0}
            check(remote, "shared memory")
            for runs, transport in (({**remote, "local": 1}, "shared memory"), ({**remote, "server": 0}, "shared memory"),
                                    (remote, "unix")):
                with self.assertRaises(common.Missing):
                    check(runs, transport)


class Ready(unittest.TestCase):
    def wait(self, script, limit_s=120):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        ready, log = (pathlib.Path(folder.name, name) for name in ("ready", "log"))
        log.write_text("what it said")
        process = subprocess.Popen(["sh", "-c", script, "sh", str(ready)])
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return common.wait_ready(process, ready, log, limit_s)

    def test_the_addresses_of_a_whole_file(self):
        self.assertEqual(["a:1", "unix:/b"], self.wait('printf a: >"$1"; printf "1\nunix:/b\n" >>"$1"; exec sleep 1000'))

    def test_one_that_ends_or_never_is_ready_is_said_with_its_log(self):
        for script, limit_s, said in (("exit 3", 120, "ended: what it said"), ("exec sleep 1000", 0, "is not ready: what it said")):
            with self.assertRaisesRegex(common.Missing, said):
                self.wait(script, limit_s)


class Run(unittest.TestCase):
    def run_it(self, *arguments):
        return subprocess.run([sys.executable, str(BENCH / "run"), *arguments], capture_output=True, text=True)

    def test_unknown_and_missing_names_are_one_sentence(self):
        for arguments, said in ((["no-such"], "(no-such)"), ([], "no benchmark was named")):
            got = self.run_it(*arguments)
            self.assertEqual(2, got.returncode)
            self.assertEqual(1, got.stderr.count("\n"), got.stderr)
            self.assertIn(said, got.stderr)

    def test_list_has_a_purpose_for_each(self):
        got = self.run_it("--list")
        self.assertEqual(0, got.returncode, got.stderr)
        names = [line.split()[0] for line in got.stdout.splitlines()]
        self.assertNotIn("common", names)
        for line in got.stdout.splitlines():
            self.assertGreater(len(line.split()), 3, line)


if __name__ == "__main__":
    unittest.main()
