# SPDX-License-Identifier: Apache-2.0
"""What a program's memory is while its model is at a server, after the server was lost for a while, and once it is back.

One program (Python, 40 Runs between two looks) in mode remote; its server is stopped and goes on. `local` is the same
program without Outboard.
"""
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import common

PROGRAM = common.ROOT / "tests/intercept/programs/second_try.py"
MODELS = ("resnet-50",)
LIMIT_S = 60


class Program:
    def __init__(self, model, *before):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("OUTBOARD_")}
        self.process = subprocess.Popen([*map(str, before), sys.executable, str(PROGRAM), "resident", str(model)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    def resident_mb(self):
        """After 40 more Runs."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())["resident_bytes"] / 1e6

    def end(self):
        self.process.stdin.close()
        if self.process.wait(LIMIT_S) != 0:
            raise RuntimeError(f"the program ended with status {self.process.returncode}")
        self.process.stdout.close()


def run(quick):
    bench = common.Bench("memory", quick=quick)
    repetitions = 1 if quick else 3
    for name in MODELS:
        found = {"local": [], "at-server": [], "beside-stopped-server": [], "back-at-server": []}
        for _ in range(repetitions):
            for where, mb in measured(common.model(name)).items():
                found[where].append(mb)
        local = common.Samples(found["local"]).median
        for where, values in found.items():
            more = {} if where == "local" else {"baseline": "local", "baseline_value": local}
            bench.samples(f"{name}/{where}", values, "MB", "lower", **more)
        at_server, back = (common.Samples(found[w]).median for w in ("at-server", "back-at-server"))
        model_mb = pathlib.Path(common.model(name)).stat().st_size / 1e6
        bench.row(f"{name}/kept-of-model", (back - at_server) / model_mb, "of its bytes", "lower", goal=0.1)
    return bench.finish()


def measured(model):
    """{where: resident MB}."""
    plain = Program(model)
    mb = {"local": plain.resident_mb()}
    plain.end()
    with tempfile.TemporaryDirectory() as work, common.Server(work) as server:
        report = pathlib.Path(work, "report.json")
        program = Program(model, common.program(), "run", "--server", server.address, "--mode", "remote", "--no-summary",
                          "--json", report, "--")
        mb["at-server"] = program.resident_mb()
        os.kill(server.process.pid, signal.SIGSTOP)
        try:
            mb["beside-stopped-server"] = program.resident_mb()
        finally:
            os.kill(server.process.pid, signal.SIGCONT)
        end = time.monotonic() + LIMIT_S
        while True:
            mb["back-at-server"] = program.resident_mb()
            halfway = (mb["at-server"] + mb["beside-stopped-server"]) / 2
            if mb["back-at-server"] < halfway or time.monotonic() > end:
                break
        program.end()
    return mb
