# SPDX-License-Identifier: Apache-2.0
"""What a Run through Outboard takes beyond the same Run in the process, over unix and TCP loopback.

bench_offload (offload.cc) makes both kinds of Runs side by side in one process, in blocks that alternate. Added p50 is
the median over the pairs of blocks of the difference of their medians; added p99 the difference of the percentiles over
all Runs. `nothing/...` is the same without Outboard: what the method itself adds. A Run has one thread on either side, so
that the engines do the same work in the same way, and what is left is Outboard's.
"""
import json
import pathlib
import statistics
import subprocess
import tempfile

import common

MODELS = ("tiny", "mobilenet-v2", "resnet-50", "vgg-16", "bytes-16mb")
CALLERS = (1, 4)
THREADS = 1
GOALS_US = {"tiny/tcp/1/added_p50": 60}


def run(quick):
    bench = common.Bench("offload", quick=quick)
    program = common.program("bench/bench_offload")
    library = common.ort_library()
    models = {name: common.model(name) for name in MODELS}
    seconds = 1 if quick else 8
    with tempfile.TemporaryDirectory() as work:
        nothing = measure([program, library, models["tiny"], 1, seconds, THREADS])
        add_rows(bench, "nothing/1", nothing)
        breakdown = {}
        for transport in ("unix", "tcp"):
            listen = f"unix:{work}/socket" if transport == "unix" else "127.0.0.1:0"
            with common.Server(work, "--threads", THREADS, listen=listen) as server:
                for name in MODELS:
                    for callers in CALLERS:
                        row = f"{name}/{transport}/{callers}"
                        report = pathlib.Path(work, f"{name}-{transport}-{callers}.json")
                        figures = measure([common.program(), "run", "--server", server.address, "--mode", "remote",
                                           "--json", report, "--", program, library, models[name], callers, seconds,
                                           THREADS])
                        breakdown[row] = all_on_the_server(report, row)
                        add_rows(bench, row, figures)
                        print(f"   {row}: {bench.rows[-2]['value']:.1f} us", flush=True)
    draw(breakdown, bench.results / "offload.png")
    return bench.finish()


def measure(command):
    got = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=600, check=False)
    if got.returncode != 0:
        raise common.Missing(f"the measuring program failed: {got.stderr.strip()[-500:]}")
    return json.loads(got.stdout)


def all_on_the_server(report, row):
    """The session's entry in the report of `outboard run`; a Run that was not remote would falsify the figure."""
    sessions = [s for p in json.loads(report.read_text())["processes"] for s in p["sessions"]]
    runs = [s["runs"] for s in sessions]
    if len(sessions) != 1 or runs[0]["server"] == 0 or runs[0]["local"] > 0 or runs[0]["failed"] > 0:
        raise common.Missing(f"not every Run of {row} was on the server: {runs}")
    return sessions[0]["server_run_mean_us"]


def add_rows(bench, row, figures):
    if figures["largest_difference"] != 0:
        raise common.Missing(f"the outputs of {row} differ by {figures['largest_difference']}")
    p50, p99, base50, base99 = added(figures["pairs"])
    bench.samples(f"{row}/added_p50", p50, "us", "lower", goal=GOALS_US.get(f"{row}/added_p50"),
                  baseline="in-process p50", baseline_value=base50)
    bench.row(f"{row}/added_p99", p99, "us", "lower", baseline="in-process p99", baseline_value=base99)


def added(pairs):
    """Differences of the blocks' medians, difference of the p99 of all Runs, and both percentiles in-process."""
    medians = [statistics.median(p["outboard_us"]) - statistics.median(p["in_process_us"]) for p in pairs]
    inside = sorted(t for p in pairs for t in p["in_process_us"])
    outside = sorted(t for p in pairs for t in p["outboard_us"])
    return medians, percentile(outside, 0.99) - percentile(inside, 0.99), percentile(inside, 0.5), percentile(inside, 0.99)


def percentile(ordered, share):
    """The smallest value that at least this share does not exceed."""
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def draw(breakdown, path):
    """Where the mean Run went, one bar a model over TCP with one caller, as shares of the whole."""
    pyplot = common.figure()
    if pyplot is None:
        return
    parts = ("send", "network", "queue", "compute", "receive")
    figure, axes = pyplot.subplots(figsize=(8, 3))
    for y, name in enumerate(reversed(MODELS)):
        times = breakdown[f"{name}/tcp/1"]
        whole = sum(times[p] for p in parts) or 1
        left = 0
        for color, part in zip(("#4c72b0", "#dd8452", "#8c8c8c", "#55a868", "#c44e52"), parts):
            width = 100 * times[part] / whole
            axes.barh(y, width, left=left, color=color, label=part if y == 0 else None)
            left += width
        axes.text(101, y, f"{whole / 1e3:.3g} ms", va="center")
    axes.set_yticks(range(len(MODELS)), reversed(MODELS))
    axes.set_xlim(0, 115)
    axes.set_xlabel("share of a mean Run, TCP loopback, one caller (%)")
    axes.legend(ncols=len(parts), loc="upper center", bbox_to_anchor=(0.5, 1.2), frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight", dpi=120)
