# SPDX-License-Identifier: Apache-2.0
"""What setting a split up takes on a node, and the node's memory: bands not kept, made and kept, found.

Two nodes with a core each over namespaces at 1 Gbps, as `bench/run split` has them. Bands are kept in the store's folder
`bands`; where that is a file they are not, which is how it was before. A run sets up a plan, tries it, and most often others
beside it, which have the same weights. Four minutes or so.

    OUTBOARD_SPLIT_MODELS=vgg-16,resnet-50 bench/run split-set-up
"""
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import split
from common import Bench, Missing, model, ort_library, program

FRAMES = {"vgg-16": 12, "resnet-50": 40}
FOUND = 3  # runs


def resident_mb(pid):
    """(anonymous, of files) now."""
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    found = dict(line.split(":", 1) for line in lines if line.startswith("Rss"))
    return tuple(int(found[key].split()[0]) / 1024 for key in ("RssAnon", "RssFile"))


def run_split(nodes, name, path, cache, frames):
    """`outboard split run` on the first node: what it printed, and the other node's set-ups and memory meanwhile."""
    command = [program(), "split", "run", model(name), "--cluster", path, "--insecure", "--json", "--runs", frames]
    node, memory = nodes.servers[0].pid, []
    log = pathlib.Path(nodes.folder, "server1.log")
    said_before = log.stat().st_size
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(nodes.inside(0, command), stdout=output, stderr=errors,
                                   env=dict(os.environ, XDG_CACHE_HOME=cache, OUTBOARD_ORT_LIBRARY=str(ort_library())))
        while process.poll() is None:
            memory.append(resident_mb(node))
            time.sleep(0.1)
        for file in (output, errors):
            file.seek(0)
        if process.returncode != 0:
            raise RuntimeError(errors.read().strip()[-500:])
        got = json.load(output)
    if got["nodes"] < 2 or not got["difference"] <= 1e-4:
        raise RuntimeError(f"no split, or a wrong result: {got['state']}, {got['difference']}")
    said = log.read_bytes()[said_before:].decode()
    got["built_ms"] = [float(ms) for ms in re.findall(r"split part built .* ms=([0-9.]+)", said)]
    # Frames run in the last third; the very last samples are of a node that has no part any more.
    steady = memory[-max(4, len(memory) // 3):-3]
    got["anonymous_mb"], got["file_mb"] = (statistics.median(values) for values in zip(*steady))
    got["peak_mb"] = max(sum(values) for values in memory)
    got["peak_anonymous_mb"] = max(anonymous for anonymous, _ in memory)
    return got


def add_rows(bench, name, what, rows):
    def add(label, value, unit="ms"):
        bench.row(f"{name}/{what}/{label}", value, unit, "lower")
    add("first plan, node", statistics.median(row["built_ms"][0] for row in rows))
    if later := [ms for row in rows for ms in row["built_ms"][1:]]:
        add("plans beside it, node", statistics.median(later))
    add("plan in use, host", statistics.median(node["build_ms"] for row in rows for node in row["break_down"] if node["name"] == "n0"))
    add("plan in use, set up", statistics.median(row["set_up_ms"] for row in rows))
    for key, label in (("anonymous_mb", "anonymous"), ("file_mb", "of files"), ("peak_anonymous_mb", "anonymous at most"), ("peak_mb", "at most")):
        add(f"node's memory, {label}", statistics.median(row[key] for row in rows), "MB")
    add("frame", statistics.median(row["split_ms"] for row in rows))
    add("quickest frame", min(us / 1e3 for row in rows for us in row["split_us"]))


def measure(bench, name, folder, kept, frames):
    """A server and a host that keep bands, or do not."""
    os.mkdir(folder)
    cache = os.path.join(folder, "cache")
    stores = [os.path.join(folder, "store1"), os.path.join(cache, "outboard/store")]
    for store in stores:
        os.makedirs(store)
        if not kept:
            pathlib.Path(store, "bands").write_text("no folder: bands are not kept")
    profile = split.profile_of(name)
    with split.Nodes(2, 1000, folder, cores=True, log_level="info") as nodes:
        split.outboard([program(), "push", model(name), nodes.local(1)])
        path = split.cluster_file(nodes, 0, None, folder, profile, split.links_of(nodes, name, folder, profile))
    # A server that has not set up the plan by which the links were measured.
    if kept:
        shutil.rmtree(os.path.join(stores[0], "bands"))
    with split.Nodes(2, 1000, folder, cores=True, log_level="info") as nodes:
        for what, count in (("made", 1), ("found", FOUND)) if kept else (("not kept", 1),):
            print(f"{name}: {what}", file=sys.stderr, flush=True)
            add_rows(bench, name, what, [run_split(nodes, name, path, cache, frames) for _ in range(count)])
    if kept:
        used = sum(f.stat().st_size for f in pathlib.Path(stores[0], "bands").rglob("*") if f.is_file())
        bench.row(f"{name}/found/node's folder", used / 1e6, "MB", "lower")


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
