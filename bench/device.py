# SPDX-License-Identifier: Apache-2.0
"""A device of a tenth of a core against a server of one core over 100 Mbps and 1 Gbps: the figure of AVEC.

Speed-up: a Run on the device without Outboard / the same Run through it. A CPU quota lets a mostly idle client run at the
core's full speed while it has quota left, which a slow processor would not; so a remote Run is charged (1 / share - 1)
times the processor time that the client spent in it, and `as measured` is the figure without that. Ideal: the local Run /
(the server's compute + bytes / goodput + 2 x delay), the goodput that of a plain TCP stream over the same link. The
device has the quota of a tenth of a core in periods of 10 ms; both engines have one thread.
"""
import pathlib
import statistics
import tempfile

import common
import devices

SHARE = 0.1
RATES = {"100Mbps": 100e6, "1Gbps": 1e9}
MODELS = ("openpose-body25", "vgg-16", "resnet-50", "mobilenet-v2")
PUBLISHED = 7.48  # AVEC's highest speed-up (arXiv 2103.04930)
OF_IDEAL = 0.95


def run(quick):
    bench = common.Bench("device", quick=quick)
    rows = []
    with devices.make_bed() as bed, tempfile.TemporaryDirectory() as work:
        local = {model: local_ms(bed, model, quick) for model in MODELS}
        for rate, rate_bps in RATES.items():
            link = bed.link(rate_bps=rate_bps)
            goodput = statistics.median(devices.goodput_bytes_per_s(bed, link, round(rate_bps / 20)) for _ in range(5))
            bench.row(f"goodput/{rate}", goodput * 8 / 1e6, "Mbps", "higher")
            server = devices.serve(link, pathlib.Path(work, "server"))
            for model in MODELS:
                row = measure(bed, server, model, local[model], goodput, pathlib.Path(work, "trace.json"), quick)
                add(bench, f"{model}/{rate}", row)
                rows.append((f"{model}\n{rate}", row))
                print(f"   {model}/{rate}: {row['speed_up']:.2f}x of {row['ideal']:.2f}x", flush=True)
            server.kill()
    draw(rows, common.ROOT / "docs/img/device.png")
    return bench.finish()


def local_ms(bed, model, quick):
    """Mean milliseconds of a Run on the device itself."""
    with devices.Device(bed, model) as device:
        device.runs(3, 8)
        device.limit(SHARE)
        walls = [wall for wall, _ in device.runs(2 if quick else 12, 8 if quick else 25)]
        device.close()
    print(f"   {model}: {statistics.mean(walls):.1f} ms on the device ({len(walls)} Runs)", flush=True)
    return statistics.mean(walls)


def measure(bed, server, model, local, goodput, trace, quick):
    with devices.Device(bed, model, "remote", [server], trace) as device:
        device.limit(SHARE)
        device.runs(5, 6)
        runs = device.runs(10 if quick else 60, 4 if quick else 15)
        traced = device.close()[-len(runs):]
    if any(r["place"] != "server" for r in traced):
        raise common.Missing(f"not every Run of {model} was on the server")
    mean = {part: statistics.mean(r[part] for r in traced)
            for part in ("send", "wait", "queue", "compute", "receive", "bytes_sent", "bytes_received")}
    wall, cpu = (statistics.mean(column) for column in zip(*runs))
    charge = (1 / SHARE - 1) * cpu
    wire = 1e3 * (mean["bytes_sent"] + mean["bytes_received"]) / goodput
    return {"local": local, "wall": wall, "cpu": cpu, "charge": charge, "wire": wire, "compute": mean["compute"],
            "bytes": mean["bytes_sent"] + mean["bytes_received"], "ideal": local / (mean["compute"] + wire),
            "speed_up": local / (wall + charge), "as_measured": local / wall}


def add(bench, name, row):
    reachable = PUBLISHED if row["ideal"] * OF_IDEAL > PUBLISHED else None
    bench.row(f"{name}/speed_up", row["speed_up"], "x", "higher", goal=reachable, baseline="AVEC", baseline_value=PUBLISHED)
    bench.row(f"{name}/as_measured", row["as_measured"], "x", "higher")
    bench.row(f"{name}/of_ideal", row["speed_up"] / row["ideal"], "", "higher", goal=OF_IDEAL, baseline="ideal, x",
              baseline_value=row["ideal"])
    bench.row(f"{name}/local", row["local"], "ms", "lower")
    bench.row(f"{name}/remote", row["wall"], "ms", "lower", baseline="the server's compute", baseline_value=row["compute"])
    bench.row(f"{name}/wire", row["wire"], "ms", "lower", baseline="kB there and back", baseline_value=row["bytes"] / 1e3)
    bench.row(f"{name}/charged", row["charge"], "ms", "lower", baseline="processor, ms", baseline_value=row["cpu"])


def draw(rows, path):
    """Speed-up beside the ideal; AVEC's figure as a line."""
    pyplot = common.figure()
    if pyplot is None:
        return
    figure, axes = pyplot.subplots(figsize=(9, 3.4))
    for x, (name, row) in enumerate(rows):
        axes.bar(x - 0.2, row["ideal"], 0.38, color="#c8c8c8", label="ideal" if x == 0 else None)
        axes.bar(x + 0.2, row["speed_up"], 0.38, color="#4c72b0", label="Outboard" if x == 0 else None)
        axes.text(x, row["ideal"] + 0.1, f"{100 * row['speed_up'] / row['ideal']:.0f} %", ha="center", fontsize=8)
    axes.axhline(PUBLISHED, color="#c44e52", linestyle="--", linewidth=1, label=f"AVEC {PUBLISHED}x")
    axes.set_xticks(range(len(rows)), [name for name, _ in rows], fontsize=7)
    axes.set_ylabel("times as fast as the device")
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="upper right", bbox_to_anchor=(1, 1.15))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight", dpi=120)
