# SPDX-License-Identifier: Apache-2.0
"""A weak device and a server of one core on the test bed of links (tests/net/bed.py), for `adaptive` and `device`.

The server is pinned to the last core, the device to the first. What the device does is bench_device's; it starts without
its CPU quota and gets it once its session is open, so that a slow start costs no one's time.
"""
import json
import os
import pathlib
import subprocess
import sys

import common

sys.path.insert(0, str(common.ROOT / "tests/net"))
import bed as beds  # noqa: E402


def cores():
    """The device's core and the server's."""
    have = sorted(os.sched_getaffinity(0))
    return have[0], have[-1]


def make_bed():
    reason = beds.why_not()
    if reason is not None:
        raise common.Missing(f"no test bed of links here: {reason}")
    return beds.Bed(common.BUILD)


def serve(link, folder):
    return link.serve(pathlib.Path(folder), "--threads", 1, core=cores()[1], ort_library=common.ort_library())


class Device:
    """A program that makes Runs of a model, in `mode` auto, remote, local, or None: without Outboard. It gets its share
    of a core by limit(), so that starting and warming up cost nobody's time."""

    def __init__(self, bed, model, mode=None, servers=(), trace=None, environment=None):
        command = [common.program("bench/bench_device"), common.ort_library(), common.model(model)]
        if mode is not None:
            options = [option for server in servers for option in ("--server", server.address)]
            options += ["--trace", trace] if trace is not None else []
            # The input is the same each time: coded, it would travel as its hash.
            command = [common.program(), "run", "--mode", mode, "--coding", "off", *options, "--", *command]
        self._bed, self._trace = bed, trace
        self.process = bed.popen(command, core=cores()[0], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                 env={**os.environ, **(environment or {})})
        if self.process.stdout.readline() != "ready\n":
            raise common.Missing(f"the device's program did not start with {model} in mode {mode}")

    def limit(self, share):
        group = self._bed.cgroup(f"share{share}", share if share < 1 else None)
        for task in os.listdir(f"/proc/{self.process.pid}/task"):
            (group / "tasks").write_text(task)
        return self

    def runs(self, count, seconds):
        """[(milliseconds, milliseconds of processor)] of at most `count` Runs, or as many as `seconds` are enough for."""
        self.ask(count, seconds)
        return self.answer()

    def ask(self, count, seconds):
        self.process.stdin.write(f"{count} {seconds}\n")
        self.process.stdin.flush()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise common.Missing("the device's program ended in mid-measurement")
        return [(wall / 1e3, cpu / 1e3) for wall, cpu in json.loads(line)]

    def close(self):
        """Ends it; where a trace was asked for, one dictionary for each Run: place, bytes, and milliseconds."""
        self.process.stdin.close()
        self.process.wait(120)
        self.process.stdout.close()
        return [] if self._trace is None else traced_runs(self._trace)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def traced_runs(path):
    """The Runs of a trace, in their order."""
    document = json.loads(pathlib.Path(path).read_text())
    runs = []
    for event in document["traceEvents"] if isinstance(document, dict) else document:
        if "place" in event.get("args", {}):
            runs.append({**event["args"], "total": event["dur"] / 1e3})
        elif event.get("ph") == "X" and runs:
            runs[-1][event["name"]] = event["dur"] / 1e3
    return runs


def goodput_bytes_per_s(bed, link, size_bytes=4_000_000):
    """What a plain TCP stream gets up this link, without its first tenth, in bytes per second."""
    sink = ("import socket,sys\ns=socket.create_server(('127.0.0.1',0))\nprint(s.getsockname()[1],flush=True)\n"
            "import time\nc,_=s.accept()\nn=0\nt=None\nm=0\n"
            "while True:\n b=c.recv(1<<18)\n if not b: break\n n+=len(b)\n"
            f" if t is None and n>{size_bytes}//10: t,m=time.monotonic(),n\n"
            "print((n-m)/(time.monotonic()-t),flush=True)")
    source = ("import socket,sys\nh,p=sys.argv[1].rsplit(':',1)\nc=socket.create_connection((h,int(p)))\n"
              f"c.sendall(bytes({size_bytes}))\nc.close()")
    far = link.popen([sys.executable, "-c", sink], stdout=subprocess.PIPE, text=True)
    address = link.relay_to(f"127.0.0.1:{int(far.stdout.readline())}")
    bed.popen([sys.executable, "-c", source, address]).wait(60)
    rate = float(far.stdout.readline())
    far.wait()
    return rate
