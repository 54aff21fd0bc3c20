# SPDX-License-Identifier: Apache-2.0
"""Each Run where it is sooner: 120 cells of rate, delay, device and model against the better of local and remote; steps.

A cell has three programs on the device, of the same model: without Outboard (local), `--mode remote` and `--mode auto`.
The first two serve all links of a model on a device; that of auto is new in each cell and knows nothing. After a warm-up
of auto (20 Runs; fewer where they take longer than some seconds) auto and the better of the other two take turns, so
that whatever else the machine does hits both; a cell's figure is the ratio of their means. Goal: within 5 %. A step
happens while auto works; its figure is how many Runs, and seconds, passed until a Run took at most 15 % more than the
better side takes after the step (the median of a few Runs of each, measured before or after). Goal: 2 Runs or 2 s,
whichever is more; both directions.

Cells that are done are kept in build/bench/adaptive-cells.json: a run that was ended goes on (ADAPTIVE_FRESH=1 begins
anew); ADAPTIVE_ONLY=resnet-50/0.1 does the cells whose names contain it. The local figure of a model on a device does
not depend on the link and is measured once, but again beside auto where it is the better one. `explored/of-time` is what
auto's trials of the other side took beyond the better one, of the time of all Runs after the warm-up, over all cells.
"""
import contextlib
import json
import os
import pathlib
import statistics
import tempfile
import time

import common
import devices

RATES = {"1Mbps": 1e6, "10Mbps": 10e6, "100Mbps": 100e6, "1Gbps": 1e9}
DELAYS_MS = (0, 1, 5, 20, 50)
SHARES = (0.1, 1)
MODELS = ("mobilenet-v2", "resnet-50", "vgg-16")
GOAL = 1.05
KEPT = common.RESULTS / "adaptive-cells.json"


class Stage:
    """One link, one server that has all models, and how a cell is set."""

    def __init__(self, bed, work):
        self.bed, self.work = bed, pathlib.Path(work)
        self.link = bed.link(rate_bps=None)
        self.server = devices.serve(self.link, self.work / "server")
        self.local = {}
        self._kept_of, self._kept, self._kept_stack = None, {}, contextlib.ExitStack()
        for model in MODELS:  # uploads it
            with self.device(model, "remote", 1) as device:
                device.runs(2, 5)
                device.close()

    def device(self, model, mode, share, trace=None):
        return devices.Device(self.bed, model, mode, [self.server] if mode else (), trace).limit(share)

    def kept(self, model, mode, share):
        """The program of that mode, for as long as cells are of that model and device."""
        if (model, share) != self._kept_of:
            self.close()
        self._kept_of = model, share
        if mode not in self._kept:
            # A Run over a link that has become slow is late; a second try would not be the server's.
            device = devices.Device(self.bed, model, mode, [self.server] if mode else (), environment={"OUTBOARD_HEDGING": "off"})
            self._kept[mode] = self._kept_stack.enter_context(device).limit(share)
            device.runs(1, 0)
        return self._kept[mode]

    def close(self):
        self._kept_stack.close()
        self._kept.clear()

    def local_ms(self, model, share):
        if (model, share) not in self.local:
            with self.device(model, None, share) as device:
                device.runs(1, 1)
                self.local[model, share] = median(device.runs(5, 4))
                device.close()
        return self.local[model, share]


def median(runs):
    return statistics.median(wall for wall, _ in runs)


def mean(runs):
    return statistics.mean(wall for wall, _ in runs)


def run(quick):
    bench = common.Bench("adaptive", quick=quick)
    kept = {} if os.environ.get("ADAPTIVE_FRESH") or quick or not KEPT.exists() else json.loads(KEPT.read_text())
    only = os.environ.get("ADAPTIVE_ONLY", "")
    cells = [c for c in all_cells(quick) if only in name_of(c)]
    with devices.make_bed() as bed, tempfile.TemporaryDirectory() as work:
        stage = Stage(bed, work)
        begin = time.monotonic()
        for number, cell in enumerate(cells):
            name = name_of(cell)
            if name not in kept:
                since = time.monotonic()
                kept[name] = measure(stage, *cell, quick)
                kept[name]["seconds"] = time.monotonic() - since
                if not quick:
                    keep(kept)
            got = kept[name]
            print(f"   [{number + 1}/{len(cells)}, {time.monotonic() - begin:.0f} s] {name}: auto {got['auto']:.1f} ms, local "
                  f"{got['local']:.1f}, remote {got['remote']:.1f}: {got['ratio']:.3f}", flush=True)
            bench.row(f"{name}/over_best", got["ratio"], "x", "lower", goal=GOAL, baseline=f"{got['best']}, ms",
                      baseline_value=got[got["best"]], spread=got["spread"])
        stage.close()
        explored(bench, [kept[name_of(c)] for c in cells])
        for step in [s for s in (rate_step, load_step) if only in "" or only in s.__name__]:
            step(bench, stage)
    draw(kept, common.ROOT / "docs/img/adaptive.png")
    return bench.finish()


def all_cells(quick):
    rates = ("1Mbps", "100Mbps", "1Gbps") if quick else RATES
    delays = (1, 50) if quick else DELAYS_MS
    models = ("mobilenet-v2", "resnet-50") if quick else MODELS
    return [(m, s, r, d) for m in models for s in SHARES for r in rates for d in delays]


def name_of(cell):
    model, share, rate, delay_ms = cell
    return f"{model}/{share}core/{rate}/{delay_ms}ms"


def keep(kept):
    KEPT.parent.mkdir(parents=True, exist_ok=True)
    scratch = KEPT.with_suffix(f".{os.getpid()}")
    scratch.write_text(json.dumps(kept, indent=1))
    scratch.replace(KEPT)


def measure(stage, model, share, rate, delay_ms, quick):
    stage.link.set_rate(RATES[rate])
    stage.link.set_delay(delay_ms)
    block_s, rounds = (0.6, 2) if quick else (0.8, 3)
    local = stage.local_ms(model, share)
    trace = stage.work / "trace.json"
    far = stage.kept(model, "remote", share)
    # Its connection knows another link, which is felt where Runs are short.
    remote = median(far.runs(1, 0))
    if remote < 2000:
        remote = median(far.runs(2, 1.5))
    with stage.device(model, "auto", share, trace) as auto:
        warm_up = auto.runs(20, 3)
        while len(warm_up) < 5:  # where a Run takes seconds
            warm_up += auto.runs(1, 0)
        best, program = ("local", stage.kept(model, None, share)) if local <= remote else ("remote", far)
        ours, theirs = [], []
        for _ in range(rounds):
            ours.append(auto.runs(60, block_s))
            theirs.append(program.runs(60, block_s))
        auto.close()
    count = sum(map(len, ours))
    traced = devices.traced_runs(trace)[-count:]
    places = [r["place"] for r in traced]
    ratios = [mean(a) / mean(b) for a, b in zip(ours, theirs)]
    auto_ms, best_ms = (mean([run for block in blocks for run in block]) for blocks in (ours, theirs))
    return {"auto": auto_ms, "local": best_ms if best == "local" else local, "remote": best_ms if best == "remote" else remote,
            "best": best, "ratio": auto_ms / best_ms, "spread": common.Samples(ratios).spread, "runs": count,
            "all_ms": sum(r["total"] for r in traced),
            "explored_ms": sum(max(0.0, r["total"] - best_ms) for r in traced if r.get("explores")),
            "at_server": places.count("server") / max(1, len(places))}


def explored(bench, cells):
    known = [c for c in cells if "explored_ms" in c]
    if known:
        share = sum(c["explored_ms"] for c in known) / sum(c["all_ms"] for c in known)
        bench.row("explored/of-time", share, "share", "lower", goal=0.01)


# ---- steps


def until(device, limit_ms, most_s=20):
    """Runs, and seconds, before the first of two in a row that take at most `limit_ms`."""
    walls, begin = [], time.monotonic()
    while time.monotonic() - begin < most_s:
        walls += [wall for wall, _ in device.runs(1, 0)]
        if len(walls) >= 2 and max(walls[-2:]) <= limit_ms:
            return len(walls) - 2, sum(walls[:-2]) / 1e3
    return len(walls), sum(walls) / 1e3


def add_step(bench, name, device, limit_ms):
    runs, seconds = until(device, limit_ms)
    # The goal is 2 Runs or 2 s, whichever is more: seconds count only where there were more than 2 Runs.
    bench.row(f"{name}/runs", runs, "Runs", "lower")
    bench.row(f"{name}/late", 0.0 if runs <= 2 else seconds, "s", "lower", goal=2, baseline="limit, ms", baseline_value=limit_ms)
    print(f"   {name}: {runs} Runs, {seconds:.2f} s until at most {limit_ms:.0f} ms", flush=True)


def rate_step(bench, stage, model="resnet-50", share=0.1):
    """The rate falls a hundred times, and returns."""
    stage.link.set_delay(1)
    stage.link.set_rate(RATES["100Mbps"])
    local = stage.local_ms(model, share)
    with stage.device(model, "remote", share) as far, stage.device(model, "auto", share) as auto:
        far.runs(2, 3)
        remote = median(far.runs(8, 3))
        auto.runs(30, 8)
        stage.link.set_rate(RATES["1Mbps"])
        add_step(bench, "rate-falls-100x", auto, 1.15 * max(local, remote))
        auto.runs(30, 10)
        stage.link.set_rate(RATES["100Mbps"])
        add_step(bench, "rate-returns", auto, 1.15 * remote)
        for device in (auto, far):
            device.close()


def load_step(bench, stage, model="resnet-50", share=1):
    """Another client takes the server, and leaves it."""
    stage.link.set_delay(0)
    stage.link.set_rate(RATES["1Gbps"])
    with stage.device("vgg-16", "remote", 1) as other, stage.device(model, "remote", share) as far, \
            stage.device(model, "auto", share) as auto:
        other.runs(2, 3)
        far.runs(3, 2)
        remote, local = median(far.runs(10, 2)), stage.local_ms(model, share)
        auto.runs(30, 6)
        other.ask(10_000, 12)  # one Run of VGG-16 after the other
        add_step(bench, "server-taken", auto, 1.15 * max(local, remote))
        auto.runs(20, 4)
        other.answer()
        add_step(bench, "server-left", auto, 1.15 * max(local, remote))
        for device in (auto, far, other):
            device.close()


# ---- the picture


def draw(kept, path):
    """A heat map: rows are devices and models, columns rates and delays; colour and number: auto / the better side."""
    pyplot = common.figure()
    if pyplot is None or not kept:
        return
    columns = [(r, d) for r in RATES for d in DELAYS_MS]
    lines = [(s, m) for s in SHARES for m in MODELS]
    table = [[kept.get(name_of((m, s, r, d))) for r, d in columns] for s, m in lines]
    figure, axes = pyplot.subplots(figsize=(12, 3.2))
    colors = [[float("nan") if cell is None else 100 * (cell["ratio"] - 1) for cell in line] for line in table]
    image = axes.imshow(colors, aspect="auto", cmap="RdYlGn_r", vmin=-5, vmax=10)
    for y, line in enumerate(table):
        for x, cell in enumerate(line):
            if cell is not None:
                axes.text(x, y, f"{'L' if cell['best'] == 'local' else 'R'}\n{100 * (cell['ratio'] - 1):+.1f}", ha="center",
                          va="center", fontsize=6)
    axes.set_xticks(range(len(columns)), [f"{d}" for _, d in columns], fontsize=7)
    for i, rate in enumerate(RATES):
        axes.text(i * len(DELAYS_MS) + 2, len(lines) + 0.15, f"delay (ms) at {rate}", ha="center", fontsize=8)
        axes.axvline(i * len(DELAYS_MS) - 0.5, color="white", linewidth=2)
    axes.set_yticks(range(len(lines)), [f"{m}, {s:g} core" for s, m in lines], fontsize=7)
    axes.set_title("Mean Run in mode auto against the better of local (L) and remote (R), %", fontsize=9)
    figure.colorbar(image, ax=axes, pad=0.01)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight", dpi=120)
