# SPDX-License-Identifier: Apache-2.0
"""Two commands from a running server and two models to a prediction; then the real load, and what it shows.

Asserted: the two commands give an answer for both applications, and on a machine that keeps time the recorded arrivals and
services, one Run at a time in their order, give the measured mean within 10 % and p95 within 15 %; the prediction from the
profile alone is held to the same marks where Runs took as long during the load as in the profile (within 5 %).
A machine that starts a due thread more than 1 ms late (19 in 20) is busy with something else: what it measures is its
scheduler, so the marks are printed, not asserted.
"""
import pathlib
import sys
import tempfile
import unittest

ROOT, OUTBOARD, LOAD = pathlib.Path(sys.argv.pop(1)), sys.argv.pop(1), sys.argv.pop(1)
sys.path.insert(0, str(ROOT / "tests/manage"))
import server_prediction  # noqa: E402


class ServerPrediction(unittest.TestCase):
    def test_what_was_predicted_is_what_is_measured(self):
        with tempfile.TemporaryDirectory() as folder:
            got = server_prediction.experiment(OUTBOARD, LOAD, folder, rho=0.5, seconds=12, profile_seconds=2)
        first = got["first"]["devices"][0]["applications"]
        self.assertEqual({"small", "large"}, {a["application"] for a in first})
        for a in first:
            self.assertGreater(a["percentiles_ms"]["95"], a["percentiles_ms"]["50"] * 0.999)
            self.assertIn("slack_ms", a["limit"])
        self.assertGreater(len(got["rows"]), 50)
        keeps_time = got["lateness_p95_ms"] <= 1
        if not keeps_time:
            print(f"NOT ASSERTED: this machine is busy, threads start {got['lateness_p95_ms']:.1f} ms late", file=sys.stderr)
        for name, real in got["measured"].items():
            # Whatever the machine does, nobody is served before its turn.
            self.assertGreaterEqual(real["mean"], 0.9 * got["lindley"][name]["mean"])
            self.compare(name, "recorded services", got["lindley"][name], real, keeps_time)
            drift = got["load_ms"][name] / got["profile_ms"][name]
            self.compare(name, f"the profile (Runs took {drift:.2f} times as long)", got["replay_profile"][name], real,
                         keeps_time and abs(drift - 1) < 0.05)

    def compare(self, name, what, predicted, real, asserted):
        for quantity, mark in (("mean", 0.10), ("p95", 0.15)):
            error = predicted[quantity] / real[quantity] - 1
            print(f"{name} {quantity} by {what}: {predicted[quantity]:.2f} ms, real {real[quantity]:.2f} ms, "
                  f"{100 * error:+.1f} %", file=sys.stderr)
            if asserted:
                self.assertLessEqual(abs(error), mark, f"{name} {quantity} by {what}")


if __name__ == "__main__":
    unittest.main()
