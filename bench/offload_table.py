#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints what `bench/run offload` measured as the table of docs/offload.md.

    bench/offload_table.py [build/bench/offload.json]
"""
import json
import pathlib
import sys

from common import RESULTS, misses

WAYS = {"shm": "shared memory", "unix": "unix socket", "tcp": "TCP loopback", "1gbps": "1 Gbps"}


def time(us):
    """Microseconds below 1 ms, else milliseconds; three digits."""
    return f"{us:.3g} us" if abs(us) < 1000 else f"{us / 1000:.3g} ms" if abs(us) < 1e6 else f"{us / 1000:.0f} ms"


def rate(per_s):
    return f"{per_s:,.0f}/s" if per_s >= 100 else f"{per_s:.3g}/s"


def cell(rows, prefix):
    """Added p50 (and p99, where enough Runs were made); Runs/s; the client's processor time a Run. Empty: not measured."""
    if f"{prefix}/added_p50" not in rows:
        return ""
    p50, p99 = rows[f"{prefix}/added_p50"], rows.get(f"{prefix}/added_p99")
    runs, cpu = rows[f"{prefix}/runs_per_s"], rows[f"{prefix}/client_cpu_per_run"]
    added = f"{time(p50['value'])} ± {time(p50['spread'])}" + (f", {time(p99['value'])}" if p99 else "")
    return f"{added}; {rate(runs['value'])}; {time(cpu['value'])}"


def table(rows):
    yield "| model, callers | in the process: p50; Runs/s | | Outboard | gRPC by hand | Open Inference Protocol |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for place in [name.removesuffix("/in-process/p50") for name in rows if name.endswith("/in-process/p50")]:
        model, callers = place.split("/")
        alone = rows[f"{place}/in-process/p50"]["value"], rows[f"{place}/in-process/runs_per_s"]["value"]
        first = f"{model}, {callers} | {time(alone[0])}; {rate(alone[1])}"
        for way, called in WAYS.items():
            cells = [cell(rows, f"{place}/{way}/{kind}") for kind in ("outboard", "grpc", "oip")]
            if any(cells):
                yield f"| {first} | {called} | {' | '.join(cells)} |"
                first = " | "


def behind(rows):
    """The comparisons with a peer that are not won with 95 % confidence."""
    for name, row in rows.items():
        if "outboard_vs_" in name and misses(row):
            yield f"| {name} | {row['value']:.3g} {row['unit']} | {row['baseline_value']:.3g} |"


def main():
    file = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS / "offload.json"
    measured = json.loads(file.read_text())
    rows = {row["name"]: row for row in measured["rows"]}
    machine = measured["machine"]
    print(f"{machine['cpu']}, {machine['cores']} cores, commit {machine['commit']}, {machine['time_utc']}\n")
    print("\n".join(table(rows)))
    compared = [n for n in rows if "outboard_vs_" in n and rows[n]["goal"] is not None]
    lost = list(behind(rows))
    print(f"\n{len(compared) - len(lost)} of {len(compared)} comparisons are won; the bound (95 %) and the median of the others:\n")
    print("| comparison | bound | median |\n| --- | --- | --- |")
    print("\n".join(lost))


if __name__ == "__main__":
    main()
