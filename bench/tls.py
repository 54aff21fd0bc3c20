# SPDX-License-Identifier: Apache-2.0
"""What TLS costs: one caller's Runs of the tiny model and of 16 MB each way, over TCP loopback, plain and through TLS 1.3.

One server, which computes in its own process, listens on both; the callers take turns, so that whatever else the machine does hits both.
"""
import json
import os
import pathlib
import re
import subprocess
import tempfile

import common

MODELS = ("tiny", "bytes-16mb")


def run(quick):
    bench = common.Bench("tls", quick=quick)
    seconds, repetitions = (1, 1) if quick else (3, 7)
    with tempfile.TemporaryDirectory() as work:
        folder = pathlib.Path(work)
        os.environ["XDG_CONFIG_HOME"] = str(folder / "config")
        with common.Server(folder, "--listen", "127.0.0.1:0", "--state", folder / "state", "--isolation", "off",
                           listen="0.0.0.0:0"):
            # Plain addresses are listed first.
            addresses = (folder / "ready").read_text().split()
            plain = next(a for a in addresses if a.startswith("127."))
            secured = next(a for a in addresses if a.startswith("0.")).replace("0.0.0.0", "127.0.0.1")
            line = (folder / "state/first-token").read_text()
            subprocess.run([common.program(), "login", "--name", "secured"], check=True, text=True, stdout=subprocess.DEVNULL,
                           input=re.sub(r"//[^?#]*", f"//{secured}", line))
            servers = {"plain": plain, "tls": "secured"}
            for name in MODELS:
                model = common.model(name)
                for server in servers.values():
                    subprocess.run([common.program(), "push", model, server], check=True, stdout=subprocess.DEVNULL)
                found = {kind: [] for kind in servers}
                for _ in range(repetitions):
                    for kind, server in servers.items():
                        found[kind].append(p50_us(model, server, seconds))
                base = common.Samples(found["plain"]).median
                for kind in servers:
                    more = {} if kind == "plain" else {"baseline": "plain", "baseline_value": base}
                    bench.samples(f"{name}/{kind}/p50", found[kind], "us", "lower", **more)
                bench.samples(f"{name}/cost-of-tls", [t - p for p, t in zip(found["plain"], found["tls"])], "us", "lower")
    return bench.finish()


def p50_us(model, server, seconds):
    """The median of one caller's whole Runs."""
    with tempfile.TemporaryDirectory() as work:
        output = pathlib.Path(work, "profile.json")
        subprocess.run([common.program(), "profile", model, "--server", server, "--seconds", str(seconds), "--output", output],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return json.loads(output.read_text())["measurements"][0]["total_ms"]["p50"] * 1e3
