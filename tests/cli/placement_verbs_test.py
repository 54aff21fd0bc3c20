#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The placing verbs of `outboard manage` as programs: bad input is one sentence with its place, the order of a file changes
nothing, what --write wrote is placed, and the files of simulate are what they should be.

    placement_verbs_test.py SOURCE_DIR OUTBOARD
"""
import copy
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import unittest

SOURCE, OUTBOARD = pathlib.Path(sys.argv.pop(1)), str(pathlib.Path(sys.argv.pop(1)).resolve())
EXAMPLE = json.loads((SOURCE / "examples/placement/edge-cluster.json").read_text())


class Verbs(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = pathlib.Path(scratch.name)

    def write(self, document, name="c.json"):
        path = self.folder / name
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        return str(path)

    def outboard(self, *arguments, status=0):
        got = subprocess.run([OUTBOARD, "manage", *map(str, arguments)], capture_output=True, text=True, timeout=120)
        self.assertEqual(got.returncode, status, got.stderr + got.stdout)
        return got.stdout if status == 0 else got.stderr

    def test_bad_input_names_its_place(self):
        def changed(change):
            document = copy.deepcopy(EXAMPLE)
            change(document)
            return document
        cases = [
            (lambda d: d["applications"][2].update(rate_per_s=-1), "applications[2].rate_per_s (-1)"),
            (lambda d: d["applications"][1].update(pinned=["x"]), "applications[1].pinned[0] (x)"),
            (lambda d: d["applications"][0].update(max_replicas=0), "applications[0].max_replicas (0)"),
            (lambda d: d["applications"][0].update(apart=3), "applications[0].apart (3)"),
            (lambda d: d["applications"][3].update(model="x"), "applications[3].model (x)"),
            (lambda d: d["devices"][1].update(may_batch="yes"), 'devices[1].may_batch ("yes")'),
            (lambda d: d["models"][0].update(memory_per_application_bytes=-5), "models[0].memory_per_application_bytes (-5)"),
            (lambda d: d["applications"][0].update(replicas=[{"device": "tpu-gate", "share": 0.5}]),
             "applications[0].replicas"),
            (lambda d: d.update(devices=[]), "devices is empty"),
        ]
        for change, sentence in cases:
            path = self.write(changed(change))
            for verb in (["place"], ["explain", "--application", "gate-people"], ["capacity", "--like", "gate-people"],
                         ["simulate"]):
                fault = self.outboard(verb[0], path, *verb[1:], status=1)
                self.assertIn(sentence, fault)
                self.assertEqual(fault.count("\n"), 1)
        self.assertIn("is not JSON", self.outboard("place", self.write("{"), status=1))
        self.assertIn("cannot be read", self.outboard("place", self.folder / "none", status=1))
        path = self.write(EXAMPLE)
        self.assertIn("(nobody) is not among", self.outboard("explain", path, "--application", "nobody", status=1))
        self.assertIn("(nobody) is not among", self.outboard("capacity", path, "--like", "nobody", status=1))
        self.assertIn("no application is on a device", self.outboard("simulate", path, status=1))
        for text in ("tpu-gate", "tpu-gate@8", "@8+20", "tpu-gate@x+20", "tpu-gate@8+20x3"):
            self.assertIn("must be NAME@HOURS+MINUTES", self.outboard("simulate", path, "--fail", text, status=1))
        self.outboard("place", path, "--margin", "100", status=2)
        self.outboard("place", path, "--survive", "2", status=2)

    def test_the_order_of_the_file_changes_nothing(self):
        first = self.outboard("place", self.write(EXAMPLE), "--json")
        shuffled = copy.deepcopy(EXAMPLE)
        for seed in range(3):
            for part in shuffled.values():
                random.Random(seed).shuffle(part)
            self.assertEqual(self.outboard("place", self.write(shuffled), "--json"), first)

    def test_what_was_written_is_placed_and_holds(self):
        placed = self.folder / "placed.json"
        result = json.loads(self.outboard("place", self.write(EXAMPLE), "--json", "--write", placed))
        self.assertEqual(result["placed"], result["asked"])
        for slack in result["slacks"]:
            self.assertGreaterEqual(slack["slack_ms"], 0.1 * slack["limit_ms"] - 1e-6)
        again = json.loads(self.outboard("place", placed, "--json"))
        self.assertEqual(again["asked"], 0)
        self.assertEqual(again["slacks"], result["slacks"])
        plot, trace = self.folder / "day.svg", self.folder / "day.json"
        day = json.loads(self.outboard("simulate", placed, "--hours", "1", "--json", "--plot", plot, "--trace", trace,
                                       "--fail", "nano-hall@0.5+10"))
        by_name = {a["application"]: a for a in day["applications"]}
        self.assertEqual(set(by_name), {a["name"] for a in EXAMPLE["applications"]})
        on_nano = {s["application"] for s in result["slacks"] if s["device"] == "nano-hall"}
        for name, a in by_name.items():
            self.assertEqual(bool(a["broken"]), name in on_nano, a)
            self.assertEqual(a["lost"] > 0, name in on_nano)
        self.assertIn("<svg", plot.read_text())
        names = {e["name"] for e in json.loads(trace.read_text())["traceEvents"]}
        self.assertIn("limit broken", names)
        self.assertIn("lost: nano-hall", names)

    def test_capacity_is_what_place_can_do(self):
        path = self.folder / "placed.json"
        self.outboard("place", self.write(EXAMPLE), "--write", path)
        more = json.loads(self.outboard("capacity", path, "--like", "gate-people", "--json"))["more"]
        document = json.loads(path.read_text())
        like = next(a for a in document["applications"] if a["name"] == "gate-people")
        for i in range(more):
            document["applications"].append({**like, "name": f"more-{i:03}"})
            del document["applications"][-1]["device"]
        result = json.loads(self.outboard("place", self.write(document), "--json"))
        self.assertEqual(result["placed"], more)


if __name__ == "__main__":
    unittest.main()
