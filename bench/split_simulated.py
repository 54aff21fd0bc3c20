# SPDX-License-Identifier: Apache-2.0
"""Simulated splits: the papers' set-ups, and every scheme over a grid of devices, rates, delays and models.

Everything comes from `outboard split simulate`; nothing here computes a time. Device classes are rooflines (arithmetic
rate, memory rate) with a cost of every call; docs/split.md says where the numbers are from.
"""
import concurrent.futures
import json
import math
import os
import subprocess
import tempfile

from common import BUILD, MODELS, RESULTS, Bench, Missing

# name: FLOP/s, memory bytes/s, call cost in us
CLASSES = {
    "gtx-1080-ti": (5.67e12, 484e9, 5), "xavier": (1.41e12, 137e9, 10), "nano": (0.47e12, 25.6e9, 25),
    "x86-core": (0.10e12, 15e9, 20), "rpi4": (0.012e12, 4e9, 50),
}
RATES_GBPS = [0.1, 1, 10, 40, 100]
DELAYS_US = [20, 50, 200]
GRID_MODELS = ["vgg-16", "resnet-50", "mobilenet-v2", "inception-v3", "densenet-121", "openpose-body25", "yolo-v8n", "unet"]
BASELINES = ["single", "halp", "modnn", "dpfp", "tiles"]


def cluster(kind, nodes, gbps, delay_us, memory=True, call_us=None):
    flops, memory_rate, call = CLASSES[kind]
    node = {"flops_per_s": flops, "call_us": call if call_us is None else call_us}
    if memory:
        node["memory_bytes_per_s"] = memory_rate
    return {"nodes": [{"name": "host" if i == 0 else f"node{i}", **node} for i in range(nodes)],
            "link": {"delay_us": delay_us, "rate_bits_per_s": gbps * 1e9}}


def simulate(model, machines, *options):
    """What `outboard split simulate` says, as a dictionary by scheme."""
    path = MODELS / f"{model}.onnx"
    if not path.exists():
        raise Missing(f"{path} is not there: run scripts/make_models.py")
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(machines, file)
        file.flush()
        got = subprocess.run([BUILD / "outboard", "split", "simulate", path, "--no-engine", "--json",
                              "--cluster", file.name, *map(str, options)], capture_output=True, text=True, check=False)
    if got.returncode != 0:
        raise RuntimeError(got.stderr.strip())
    rows = json.loads(got.stdout)
    return {row["scheme"]: row for row in (rows if isinstance(rows, list) else [rows])}


def papers(bench):
    """Three and four nodes, VGG-16, one image and four."""
    for kind in ("xavier", "gtx-1080-ti"):
        for gbps in (1, 10, 40, 100):
            for tasks in (1, 4):
                rows = simulate("vgg-16", cluster(kind, 3, gbps, 50), "--scheme", "all", "--tasks", tasks)
                best = max(rows[b]["speed_up"] for b in BASELINES)
                goal = {1: 2.6, 4: 2.7}[tasks] if kind == "xavier" and gbps == 40 else None
                bench.row(f"vgg-16/{kind}/3 nodes/{gbps} Gbps/{tasks} tasks/auto", rows["auto"]["speed_up"], "x", "higher",
                          goal=goal, baseline="halp", baseline_value=rows["halp"]["speed_up"])
                bench.row(f"vgg-16/{kind}/3 nodes/{gbps} Gbps/{tasks} tasks/best baseline", best, "x", "higher")
    four = simulate("vgg-16", cluster("xavier", 4, 40, 50), "--scheme", "all")
    bench.row("vgg-16/xavier/4 nodes/40 Gbps/1 tasks/auto", four["auto"]["speed_up"], "x", "higher", goal=3.5,
              baseline="dpfp", baseline_value=four["dpfp"]["speed_up"])
    # HALP as its paper has it: time is FLOPs over a rate. Without a cost of calls, and with a stated one.
    for kind, call in (("xavier", 20), ("gtx-1080-ti", 5)):
        for gbps in (40, 100):
            free = simulate("vgg-16", cluster(kind, 3, gbps, 50, memory=False, call_us=0), "--scheme", "halp")["halp"]
            paid = simulate("vgg-16", cluster(kind, 3, gbps, 50, memory=False, call_us=call), "--scheme", "halp")["halp"]
            bench.row(f"halp reproduced/{kind}/{gbps} Gbps/no call cost", free["speed_up"], "x", "higher")
            bench.row(f"halp reproduced/{kind}/{gbps} Gbps/{call} us a call (published 1.7-2.0)", paid["speed_up"], "x",
                      "higher", goal=1.7 if kind == "xavier" else None, baseline="published", baseline_value=1.7)


def reliability(bench):
    """P(uplink of a 224x224x3 image + inference <= deadline) while the uplink's rate varies."""
    machines = cluster("xavier", 3, 40, 50)
    worst = None
    curves = {s: [] for s in BASELINES + ["auto"]}
    deadlines = [16, 20, 24, 28, 33.3, 40, 50, 60]
    with tempfile.NamedTemporaryFile("w", suffix=".json") as channel:
        json.dump({"rate_bits_per_s": 100e6, "varies": {"sd": 0.3, "coherence_ms": 20, "seed": 7}}, channel)
        channel.flush()
        for deadline in deadlines:
            rows = simulate("vgg-16", machines, "--scheme", "all", "--deadline-ms", deadline, "--channel", channel.name,
                            "--image-bytes", 224 * 224 * 3)
            for scheme, curve in curves.items():
                curve.append(rows[scheme]["service_reliability"])
            gain = rows["auto"]["service_reliability"] - rows["halp"]["service_reliability"]
            undecided = 0 < rows["halp"]["service_reliability"] < 1 or 0 < rows["auto"]["service_reliability"] < 1
            worst = gain if worst is None and undecided else min(worst, gain) if undecided else worst
            bench.row(f"reliability/100 Mbps sd 0.3/deadline {deadline} ms/auto", rows["auto"]["service_reliability"], "",
                      "higher", baseline="halp", baseline_value=rows["halp"]["service_reliability"])
    bench.row("reliability/least gain over halp where any of the two is undecided", worst, "", "higher", goal=1e-9)
    return deadlines, curves


def grid_cell(cell, effort):
    kind, gbps, delay, model = cell
    rows = simulate(model, cluster(kind, 3, gbps, delay), "--scheme", "all", "--effort", effort)
    return cell, {scheme: row["speed_up"] for scheme, row in rows.items()}


def grid(bench, quick):
    rates, delays = (RATES_GBPS[1:3], DELAYS_US[1:2]) if quick else (RATES_GBPS, DELAYS_US)
    cells = [(k, g, d, m) for m in GRID_MODELS for k in CLASSES for g in rates for d in delays]
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        got = dict(pool.map(lambda c: grid_cell(c, 0.25), cells))
    behind = [c for c, s in got.items() if s["auto"] < max(s[b] for b in BASELINES) * (1 - 1e-9)]
    below = [c for c, s in got.items() if s["auto"] < 1 - 1e-9]
    bench.row("grid/cells", len(got), "", "higher")
    bench.row("grid/cells where auto is behind a baseline", len(behind), "", "lower", goal=0)
    bench.row("grid/cells where auto is below one node", len(below), "", "lower", goal=0)
    split = [c for c, s in got.items() if s["auto"] > 1.05]
    bench.row("grid/cells where splitting pays more than 5 %", len(split), "", "higher")
    for model in GRID_MODELS:
        ups = [s["auto"] for c, s in got.items() if c[3] == model]
        best = [max(s[b] for b in BASELINES) for c, s in got.items() if c[3] == model]
        mean = lambda values: float(pow(2, sum(math.log2(v) for v in values) / len(values)))
        bench.row(f"grid/{model}/geometric mean/auto", mean(ups), "x", "higher", baseline="best baseline of each cell",
                  baseline_value=mean(best))
    return got


def pictures(got, deadlines, curves):
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    folder = RESULTS / "split-simulated"
    folder.mkdir(parents=True, exist_ok=True)
    rates = sorted({c[1] for c in got})
    figure, axes = plt.subplots(2, 4, figsize=(15, 7), sharex=True, sharey=True)
    for axis, model in zip(axes.flat, GRID_MODELS):
        for colour, kind in zip("krgbm", CLASSES):
            delay = 50
            points = [got.get((kind, r, delay, model)) for r in rates]
            axis.plot(rates, [p["auto"] for p in points], colour + "-o", ms=3, label=f"{kind}: auto")
            axis.plot(rates, [max(p[b] for b in BASELINES) for p in points], colour + ":", lw=1)
        axis.set_xscale("log")
        axis.set_title(model)
        axis.grid(alpha=0.3)
    axes[0][0].legend(fontsize=7)
    for axis in axes[1]:
        axis.set_xlabel("Gbps")
    for row in axes:
        row[0].set_ylabel("speed-up over one node")
    figure.suptitle("Three equal nodes, 50 us a message: auto (solid) and the best baseline of each cell (dotted)")
    figure.tight_layout()
    figure.savefig(folder / "grid.png", dpi=90)
    plt.close(figure)
    figure, axis = plt.subplots(figsize=(7, 4))
    for scheme, curve in curves.items():
        axis.plot(deadlines, curve, "-o", ms=3, label=scheme)
    axis.set_xlabel("deadline, ms")
    axis.set_ylabel("P(uplink + inference <= deadline)")
    axis.set_title("VGG-16, 3 Xavier-class nodes, 40 Gbps; uplink 100 Mbps, sd 30 %")
    axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(folder / "reliability.png", dpi=90)
    plt.close(figure)
    for scheme in ("halp", "auto"):
        timeline(plt, folder, scheme)
    print(f"pictures: {folder}")


def timeline(plt, folder, scheme):
    """One image of VGG-16 on three Xavier-class nodes at 40 Gbps, from the Chrome trace."""
    trace = folder / f"{scheme}.trace.json"
    row = simulate("vgg-16", cluster("xavier", 3, 40, 50), "--scheme", scheme, "--trace", trace)[scheme]
    events = json.loads(trace.read_text())["traceEvents"]
    names = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    figure, axis = plt.subplots(figsize=(13, 3))
    colours = {"compute": "#2a6f97", "boundary": "#f2b134", "message": "#c8553d"}
    for e in events:
        if e["ph"] == "X":
            lane = e["pid"] * 2 + e["tid"]
            axis.broken_barh([(e["ts"] / 1e3, e["dur"] / 1e3)], (lane - 0.4, 0.8), color=colours[e["cat"]], lw=0.2, ec="w")
    axis.set_yticks(range(2 * len(names)), [f"{names[i // 2]} {'sends' if i % 2 else 'computes'}" for i in range(2 * len(names))])
    axis.invert_yaxis()
    axis.set_xlabel("ms")
    axis.set_title(f"{scheme}: {row['makespan_ms']:.2f} ms, {row['speed_up']:.2f}x (yellow: boundary rows first)")
    figure.tight_layout()
    figure.savefig(folder / f"timeline-{scheme}.png", dpi=90)
    plt.close(figure)


def run(quick=False):
    if not (BUILD / "outboard").exists():
        raise Missing(f"{BUILD / 'outboard'} is not there: run scripts/build.sh release")
    bench = Bench("split-simulated", quick=quick)
    papers(bench)
    deadlines, curves = reliability(bench)
    got = grid(bench, quick)
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "split-simulated-grid.json").write_text(json.dumps(
        [{"class": c[0], "gbps": c[1], "delay_us": c[2], "model": c[3], **s} for c, s in got.items()], indent=0))
    if not quick:
        pictures(got, deadlines, curves)
    return bench.finish()
