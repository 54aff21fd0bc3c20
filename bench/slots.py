# SPDX-License-Identifier: Apache-2.0
"""How many Runs a CPU device should compute at the same time: servers with 1, 2 and 4 slots under four callers.

The servers run side by side and are loaded in turn, repetition by repetition, so that whatever else the machine does hits
each of them. A caller is a process of `outboard profile`; throughput is the sum over the callers, latency that of a caller's
whole Run, waiting included.
"""
import contextlib
import json
import pathlib
import subprocess
import tempfile

import common

MODELS = ("tiny", "mobilenet-v2", "resnet-50")
SLOTS = (1, 2, 4)
CALLERS = 4


def run(quick):
    bench = common.Bench("slots", quick=quick)
    seconds, repetitions = (1, 1) if quick else (3, 5)
    with tempfile.TemporaryDirectory() as work, contextlib.ExitStack() as servers:
        addresses = {}
        for slots in SLOTS:
            folder = pathlib.Path(work, str(slots))
            folder.mkdir()
            addresses[slots] = servers.enter_context(common.Server(folder, "--slots", slots)).address
        for name in MODELS:
            model = common.model(name)
            for address in addresses.values():
                subprocess.run([common.program(), "push", model, address], check=True, stdout=subprocess.DEVNULL)
            found = {slots: [] for slots in SLOTS}
            for _ in range(repetitions):
                for slots, address in addresses.items():
                    found[slots].append(load(model, address, seconds))
            for slots in SLOTS:
                baseline = common.Samples([f["runs_per_s"] for f in found[SLOTS[0]]]).median
                bench.samples(f"{name}/{slots}/throughput", [f["runs_per_s"] for f in found[slots]], "1/s", "higher",
                              baseline="1 slot", baseline_value=baseline)
                for percentile in ("p50", "p99"):
                    bench.samples(f"{name}/{slots}/{percentile}", [f[percentile] for f in found[slots]], "ms", "lower")
    return bench.finish()


def load(model, address, seconds):
    """CALLERS callers at once on one server."""
    command = [str(common.program()), "profile", str(model), "--server", address, "--seconds", str(seconds), "--runs", "10000000",
               "--warm-up", "3"]
    callers = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(CALLERS)]
    reports = []
    for caller in callers:
        out, err = caller.communicate(timeout=seconds + 120)
        if caller.returncode != 0:
            raise common.Missing(f"a caller failed: {err.strip()[-500:]}")
        reports.append(json.loads(out)["measurements"][0])
    return {"runs_per_s": sum(1e3 / r["total_ms"]["mean"] for r in reports),
            "p50": sum(r["total_ms"]["p50"] for r in reports) / CALLERS,
            "p99": max(r["total_ms"]["p99"] for r in reports)}
