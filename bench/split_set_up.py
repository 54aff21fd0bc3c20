# SPDX-License-Identifier: Apache-2.0
"""What setting a split up takes on each of two nodes, and the node's memory: bands not kept, new, found, beside another plan.

Two nodes with a core each over namespaces at 1 Gbps, as `bench/run split` has them. Bands are kept in the store's folder
`bands`; where that is a file they are not, which is how it was before. Four minutes or so.

    OUTBOARD_SPLIT_MODELS=vgg-16,resnet-50 bench/run split-set-up
"""
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import split
from common import Bench, Missing, model, ort_library, program

FRAMES = {"vgg-16": 12, "resnet-50": 40}
FOUND = 3  # set-ups from the folder


def resident_mb(pid):
    """(anonymous, of files) now."""
    found = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("Rss"))
    return tuple(int(found[key].split()[0]) / 1024 for key in ("RssAnon", "RssFile"))


class Host:
    """`outboard split run` on the first node, with a store of its own, and the other node's memory meanwhile."""

    def __init__(self, nodes, name, path, cache, frames, scheme="auto"):
        command = [program(), "split", "run", model(name), "--cluster", path, "--insecure", "--json", "--scheme", scheme, "--runs", frames]
        self.node, self.memory = nodes.servers[0].pid, []
        self.output = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(nodes.inside(0, command), stdout=self.output, stderr=subprocess.PIPE, text=True,
                                        env=dict(os.environ, XDG_CACHE_HOME=cache, OUTBOARD_ORT_LIBRARY=str(ort_library())))

    def wait(self):
        """What it printed, and the node's memory (medians of the last third, when frames run)."""
        while self.process.poll() is None:
            self.memory.append(resident_mb(self.node))
            time.sleep(0.1)
        said = self.process.stderr.read()
        if self.process.returncode != 0:
            raise RuntimeError(said.strip()[-500:])
        self.output.seek(0)
        got = json.load(self.output)
        if got["nodes"] < 2 or not got["difference"] <= 1e-4:
            raise RuntimeError(f"no split, or a wrong result: {got['state']}, {got['difference']}")
        last = self.memory[-max(1, len(self.memory) // 3):]
        got["anonymous_mb"], got["file_mb"] = (statistics.median(values) for values in zip(*last))
        got["peak_mb"] = max(sum(values) for values in self.memory)
        return got

    def end(self):
        self.process.kill()
        self.process.wait()


def add_rows(bench, name, what, rows):
    for index, node in enumerate(("host", "node")):
        bench.row(f"{name}/{what}/{node}/open sessions", statistics.median(row["break_down"][index]["build_ms"] for row in rows), "ms", "lower")
    bench.row(f"{name}/{what}/set up", statistics.median(row["set_up_ms"] for row in rows), "ms", "lower")
    for key, unit in (("anonymous_mb", "anonymous"), ("file_mb", "of files"), ("peak_mb", "at most")):
        bench.row(f"{name}/{what}/node/memory {unit}", statistics.median(row[key] for row in rows), "MB", "lower")
    bench.row(f"{name}/{what}/frame", statistics.median(row["split_ms"] for row in rows), "ms", "lower")


def measure(bench, name, folder, kept, frames):
    """A server and a host that keep bands, or do not."""
    os.mkdir(folder)
    cache = os.path.join(folder, "cache")
    stores = [os.path.join(folder, "store1"), os.path.join(cache, "outboard/store")]
    for store in stores:
        os.makedirs(store)
        if not kept:
            pathlib.Path(store, "bands").write_text("no folder: bands are not kept")
    with split.Nodes(2, 1000, folder, cores=True) as nodes:
        split.outboard([program(), "push", model(name), nodes.local(1)])
        profile = split.profile_of(name)
        path = split.cluster_file(nodes, 0, None, folder, profile, split.links_of(nodes, name, folder, profile))
        for store in stores if kept else []:  # of the plan by which the links were measured
            shutil.rmtree(os.path.join(store, "bands"), ignore_errors=True)
            for part in ("bands", "bands/bands", "bands/weights"):
                os.mkdir(os.path.join(store, part), 0o700)
        print(f"{name}: {'new' if kept else 'not kept'}", file=sys.stderr, flush=True)
        add_rows(bench, name, "new" if kept else "not kept", [Host(nodes, name, path, cache, frames).wait()])
        if not kept:
            return
        print(f"{name}: found", file=sys.stderr, flush=True)
        add_rows(bench, name, "found", [Host(nodes, name, path, cache, frames).wait() for _ in range(FOUND)])
        used = sum(f.stat().st_size for f in pathlib.Path(stores[0], "bands").rglob("*") if f.is_file())
        bench.row(f"{name}/found/node/folder", used / 1e6, "MB", "lower")
        print(f"{name}: beside another plan", file=sys.stderr, flush=True)
        other = Host(nodes, name, path, cache, 10_000)
        try:
            before = time.monotonic()
            while time.monotonic() - before < 6:  # until it is in use
                time.sleep(0.1)
            add_rows(bench, name, "beside another plan", [Host(nodes, name, path, cache, frames, "dpfp").wait()])
        finally:
            other.end()


def run(quick):
    reason = split.bed.lacks(["taskset"])
    if reason is not None:
        raise Missing(f"no links between namespaces here: {reason}")
    bench = Bench("split-set-up", quick=quick)
    names = os.environ.get("OUTBOARD_SPLIT_MODELS", "resnet-50" if quick else ",".join(FRAMES)).split(",")
    folder = tempfile.mkdtemp(prefix="outboard-split-")
    try:
        for name in names:
            for kept in (False, True):
                measure(bench, name, os.path.join(folder, f"{name}-{kept}"), kept, 3 if quick else FRAMES[name])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return bench.finish()
