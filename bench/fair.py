# SPDX-License-Identifier: Apache-2.0
"""What a flood of one tenant costs another: p95 of MobileNet-v2 asked for now and then, alone and beside threads without pause.

One real server with TLS and tokens on one core, `--slots 1`: its device computes a Run at a time and does not interrupt it.
The tenant asks as a Poisson process does; the response time counts from the moment at which a request was due. Alone and
flooded take turns. The promise (docs/security.md): p95 beside the flood is at most p95 alone plus one service of the
flooder's longest model. fair_workers.py has the other one, of worker processes.
"""
import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

import common

ASKS, FLOODS = "mobilenet-v2", ("resnet-50", "tiny")
LOADS = (0.1, 0.3)
CALLERS_A_MODEL = 4
CLIENT = pathlib.Path(__file__).resolve().parent / "fair_client.py"
SERVER_CORE, CLIENT_CORE = (0, 1) if len(os.sched_getaffinity(0)) > 1 else (0, 0)


def run(quick):
    bench = common.Bench("fair", quick=quick)
    requests, repetitions = (60, 1) if quick else (200, 3)
    return compare(bench, "off", requests, repetitions, lambda alone, longest: alone + longest)


def compare(bench, isolation, requests, repetitions, goal):
    """`goal`: of p95 beside the flood, from p95 alone and the flooder's longest service."""
    with tempfile.TemporaryDirectory() as work:
        folder = pathlib.Path(work)
        os.environ["XDG_CONFIG_HOME"] = str(folder / "config")
        with on_core(SERVER_CORE), common.Server(folder, "--listen", "127.0.0.1:0", "--state", folder / "state", "--slots", 1,
                                                 "--threads", 1, "--isolation", isolation, listen="0.0.0.0:0"):
            addresses = (folder / "ready").read_text().split()
            secured, plain = (next(a for a in addresses if a.startswith(host)) for host in ("0.", "127."))
            for tenant in ("asks", "floods"):
                admit(folder, tenant, secured.replace("0.0.0.0", "127.0.0.1"))
            service_ms = profile(ASKS, "asks", 2)["compute_ms"]["mean"]
            for load in LOADS:
                alone, beside, longest = [], [], []
                for _ in range(repetitions):
                    alone.append(p95_ms(requests, service_ms / load))
                    with Flood(plain) as flood:
                        beside.append(p95_ms(requests, service_ms / load))
                    longest.append(flood.longest_ms)
                    print(f"load {load}: p95 {alone[-1]:.1f} ms alone, {beside[-1]:.1f} beside services of up to"
                          f" {longest[-1]:.1f} ms", file=sys.stderr, flush=True)
                base = common.Samples(alone).median
                bench.samples(f"load-{load}/p95-alone", alone, "ms", "lower")
                bench.samples(f"load-{load}/flooder's-longest-service", longest, "ms", "lower")
                bench.samples(f"load-{load}/p95-beside-a-flood", beside, "ms", "lower",
                              goal=goal(base, common.Samples(longest).median), baseline="alone", baseline_value=base)
    return bench.finish()


@contextlib.contextmanager
def on_core(core):
    """Of this process, and what it starts: a server, its threads and workers. Clients choose their own."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def on_client_core():
    os.sched_setaffinity(0, {CLIENT_CORE})


def admit(folder, tenant, address):
    """A token for a tenant, and a login under its name."""
    line = folder / f"{tenant}.line"
    subprocess.run([common.program(), "token", "add", tenant, "--state", folder / "state", "--output", line], check=True)
    subprocess.run([common.program(), "login", "--name", tenant], check=True, text=True, stdout=subprocess.DEVNULL,
                   input=re.sub(r"//[^?#]*", f"//{address}", line.read_text()))


def caller(model, tenant, seconds):
    return subprocess.Popen([common.program(), "profile", common.model(model), "--server", tenant, "--seconds", str(seconds),
                             "--runs", "10000000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            preexec_fn=on_client_core)


def measured(process):
    out, err = process.communicate(timeout=600)
    if process.returncode not in (0, -2):
        raise common.Missing(f"a caller failed: {err.strip()[-500:]}")
    return json.loads(out)["measurements"][0]


def profile(model, tenant, seconds):
    return measured(caller(model, tenant, seconds))


def p95_ms(requests, mean_gap_ms):
    """Of one program under `outboard run`, with every Run at the server."""
    got = subprocess.run([common.program(), "run", "--mode", "remote", "--server", "asks", "--no-summary", "--", sys.executable,
                          CLIENT, common.model(ASKS), str(requests), str(mean_gap_ms)], capture_output=True, text=True,
                         check=False, preexec_fn=on_client_core)
    if got.returncode != 0:
        raise common.Missing(f"the program that asks failed: {got.stderr.strip()[-500:]}")
    times = sorted(json.loads(got.stdout))
    return times[len(times) * 95 // 100]


class Flood:
    """Callers without pause, until they are interrupted; then longest_ms is the p95 of the longest model's services, which vary."""

    def __init__(self, address):
        self._address = address

    def __enter__(self):
        self._callers = [caller(model, "floods", 3600) for model in FLOODS for _ in range(CALLERS_A_MODEL)]
        # Past loading: all of them have a Run under way.
        while common.status(self._address)["runs_in_flight"] < len(self._callers):
            if any(process.poll() is not None for process in self._callers):
                self.__exit__()
                raise common.Missing("a caller of the flood ended before its time")
            time.sleep(0.05)
        return self

    def __exit__(self, *_):
        for process in self._callers:
            process.send_signal(signal.SIGINT)
        # A caller that got nothing has no times.
        took = [m["compute_ms"]["p95"] for m in map(measured, self._callers) if "compute_ms" in m]
        if not took:
            raise common.Missing("no Run of the flood has ended")
        self.longest_ms = max(took)
