# SPDX-License-Identifier: Apache-2.0
"""`outboard manage predict` and `validate` as programs: what they print, and their sentences."""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

OUTBOARD = sys.argv.pop(1)
CLUSTER = {
    "devices": [{"name": "tpu0", "kind": "edge-tpu", "network_ms": {"atoms_ms": [[4, 3], [9, 1]]}},
                {"name": "gpu0", "kind": "nano", "discipline": "time-shared"}],
    "models": [{"model": "inception_v3", "device_kind": "edge-tpu", "service_ms": 62.95, "swap_ms": 19.39},
               {"model": "mobilenet_v2", "device_kind": "edge-tpu", "service_ms": 4.91, "swap_ms": 10.43},
               {"model": "resnet18", "device_kind": "nano", "service_ms": 10.8}],
    "applications": [{"name": "gate", "model": "inception_v3", "device": "tpu0", "rate_per_s": 4,
                      "limit": {"percentile": 95, "latency_ms": 250}},
                     {"name": "door", "model": "mobilenet_v2", "device": "tpu0", "rate_per_s": 10,
                      "limit": {"percentile": 99, "latency_ms": 100}},
                     {"name": "cam", "model": "resnet18", "device": "gpu0", "rate_per_s": 20}]}


class Manage(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = pathlib.Path(folder.name)

    def manage(self, *arguments):
        return subprocess.run([OUTBOARD, "manage", *map(str, arguments)], capture_output=True, text=True, timeout=100,
                              check=False)

    def predict(self, cluster, *arguments):
        file = self.path / "cluster.json"
        file.write_text(json.dumps(cluster))
        return self.manage("predict", file, *arguments)

    def refuses(self, got, *parts):
        self.assertEqual(1, got.returncode)
        self.assertEqual("", got.stdout)  # no answer that looks like one
        self.assertEqual(1, got.stderr.count("\n"), got.stderr)
        for part in parts:
            self.assertIn(part, got.stderr)

    def test_predicts_every_application(self):
        got = self.predict(CLUSTER, "--json")
        self.assertEqual(0, got.returncode, got.stderr)
        tpu, gpu = json.loads(got.stdout)["devices"]
        self.assertEqual("exact", tpu["method"])
        self.assertEqual("simulated", gpu["method"])
        gate, door = tpu["applications"]
        self.assertAlmostEqual(4 * (62.95 + 19.39 * 10 / 14) / 1e3 + 10 * (4.91 + 10.43 * 4 / 14) / 1e3,
                               tpu["utilisation"], places=9)
        self.assertTrue(gate["limit"]["holds"])
        self.assertFalse(door["limit"]["holds"])
        self.assertLess(door["limit"]["slack_ms"], 0)
        self.assertGreater(door["limit"]["p_late"], 0.01)
        self.assertAlmostEqual(gate["mean_ms"], sum(gate["terms_ms"].values()), places=6)
        percentiles = [gate["percentiles_ms"][p] for p in ("50", "90", "95", "99", "99.9")]
        self.assertEqual(sorted(percentiles), percentiles)
        self.assertLess(gate["percentile_error_ms"], 0.02 * percentiles[2])
        self.assertEqual(got.stdout, self.predict(CLUSTER, "--json").stdout)  # deterministic

    def test_draws_and_sets_measurements_beside_the_model(self):
        measured = self.path / "measured.csv"
        measured.write_text("application,response_ms\n" + "".join(f"gate,{90 + i}\n" for i in range(50)))
        got = self.predict(CLUSTER, "--plot", self.path / "cdf.svg", "--measured", measured)
        self.assertEqual(0, got.returncode, got.stderr)
        self.assertIn("measured", got.stdout)
        svg = (self.path / "cdf.svg").read_text()
        self.assertIn("gate (dotted: measured)", svg)
        self.assertEqual(4, svg.count("<polyline"))
        self.refuses(self.predict(CLUSTER, "--plot", self.path / "cdf.gif"), "cdf.gif) must end in .svg or .png")

    def test_adds_applications_to_the_only_device(self):
        cluster = dict(CLUSTER, devices=CLUSTER["devices"][:1], applications=[])
        got = self.predict(cluster, "--json", "--add", "inception_v3=2,300", "--add", "inception_v3=1,200@99")
        self.assertEqual(0, got.returncode, got.stderr)
        names = [a["application"] for a in json.loads(got.stdout)["devices"][0]["applications"]]
        self.assertEqual(["inception_v3", "inception_v3#2"], names)
        self.refuses(self.predict(cluster, "--add", "nothing=2"), "model (nothing) is not in the file", "mobilenet_v2")
        self.refuses(self.predict(cluster, "--add", "inception_v3=-2"), "(-2) must be a positive number")
        self.refuses(self.predict(cluster), "no application is on a device")

    def test_bad_files_are_answered_with_their_place(self):
        def changed(**fields):
            return dict(CLUSTER, applications=[dict(CLUSTER["applications"][0], **fields)])
        self.refuses(self.predict(changed(rate_per_s=-4)), "applications[0].rate_per_s (-4) must be")
        self.refuses(self.predict(changed(model="vgg")), "applications[0].model (vgg) is not among the models")
        self.refuses(self.predict(changed(rate_per_s=40)), "utilisation (2.518)", "devices[0] (tpu0)")
        self.refuses(self.manage("predict", self.path / "none.json"), "none.json) cannot be read")
        (self.path / "x.json").write_text("{")
        self.refuses(self.manage("predict", self.path / "x.json"), "x.json is not JSON", "line 1")

    def test_validates_a_folder(self):
        (self.path / "a.csv").write_text("model,input_rate,vary_rho,start_time,end_time\n"
                                         "inception_v3,2,0.1,10.0,10.08\ninception_v3,2,0.1,11.0,11.09\n")
        got = self.manage("validate", self.path, "--json")
        self.assertEqual(0, got.returncode, got.stderr)
        result = json.loads(got.stdout)
        self.assertEqual(["mean", "p50", "p95", "p99"], sorted(result["mape_percent"]))
        self.assertAlmostEqual(85, result["points"][0]["mean"]["measured_ms"], places=5)
        self.refuses(self.manage("validate", self.path / "none"), "none) cannot be read")


if __name__ == "__main__":
    unittest.main()
