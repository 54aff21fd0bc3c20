# SPDX-License-Identifier: Apache-2.0
"""What worker processes cost: one caller's Runs of the tiny model and of 16 MB each way over a unix socket, with the
models in the server's process and in a worker's; what a worker takes to start, to start again, and to hold.

Two servers, one of each kind; the callers take turns, so that whatever else the machine does hits both.
"""
import os
import pathlib
import signal
import subprocess
import tempfile
import time

import common
from tls import p50_us

MODELS = ("tiny", "bytes-16mb")


def run(quick):
    bench = common.Bench("isolation", quick=quick)
    seconds, repetitions = (1, 2) if quick else (3, 7)
    with tempfile.TemporaryDirectory() as work:
        folders = {kind: pathlib.Path(work, kind) for kind in ("off", "on")}
        for folder in folders.values():
            folder.mkdir()
        servers = {kind: common.Server(folder, "--isolation", kind, listen=f"unix:{folder}/socket")
                   for kind, folder in folders.items()}
        with servers["off"], servers["on"]:
            worker = workers(servers["on"])["-"]
            bench.row("worker/memory-idle", worker["resident_bytes"] / 1e6, "MB", "lower")
            for name in MODELS:
                compare(bench, servers, name, seconds, repetitions)
            bench.samples("worker/memory-open", [workers(servers["on"])["local"]["resident_bytes"] / 1e6], "MB", "lower")
            bench.samples("worker/again", [again_ms(servers["on"]) for _ in range(1 if quick else 3)], "ms", "lower")
        bench.samples("worker/start", [started_ms(folders["on"], kind="on") - started_ms(folders["off"], kind="off")
                                       for _ in range(2 if quick else 7)], "ms", "lower")
    return bench.finish()


def compare(bench, servers, name, seconds, repetitions):
    model = common.model(name)
    for server in servers.values():
        subprocess.run([common.program(), "push", model, server.address], check=True, stdout=subprocess.DEVNULL)
    found = {kind: [] for kind in servers}
    for _ in range(repetitions):
        for kind, server in servers.items():
            found[kind].append(p50_us(model, server.address, seconds))
    base = common.Samples(found["off"]).median
    bench.samples(f"{name}/off/p50", found["off"], "us", "lower")
    bench.samples(f"{name}/on/p50", found["on"], "us", "lower", baseline="off", baseline_value=base)
    bench.samples(f"{name}/cost-of-isolation", [on - off for off, on in zip(found["off"], found["on"])], "us", "lower")


def workers(server):
    return {row["tenant"]: row for row in server.status()["workers"]}


def again_ms(server):
    """From a worker's end to the first Run that its successor has computed, the model opened anew."""
    def profiled():
        command = [common.program(), "profile", common.model("tiny"), "--server", server.address, "--seconds", "0.001"]
        return subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0

    p50_us(common.model("tiny"), server.address, 0.1)  # its worker is there
    os.kill(workers(server)["local"]["pid"], signal.SIGKILL)
    begin = time.monotonic()
    while not profiled():  # until the server has seen the end, what comes is refused
        if time.monotonic() - begin > 20:
            raise common.Missing("a worker that was killed has no successor after 20 s")
    whole = time.monotonic() - begin
    begin = time.monotonic()
    profiled()
    return (whole - (time.monotonic() - begin)) * 1e3


def started_ms(folder, kind):
    begin = time.monotonic()
    with common.Server(folder, "--isolation", kind, listen=f"unix:{folder}/socket"):
        return (time.monotonic() - begin) * 1e3
