# SPDX-License-Identifier: Apache-2.0
"""From a server and two models to a prediction, and what a real load then shows. The test and the benchmark share it."""
import collections
import csv
import json
import math
import pathlib
import statistics
import subprocess
import sys

import numpy
import onnx
from onnx import helper, numpy_helper

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent / "bench"))
import common  # noqa: E402


def make_model(path, products):
    """A chain of matrix products: `products` times 0.27 GFLOP, one thread's few milliseconds each."""
    random = numpy.random.default_rng(1)
    nodes, weights, last = [], [], "input"
    for i in range(products):
        weight = random.standard_normal((512, 512)).astype(numpy.float32) / 512
        weights.append(numpy_helper.from_array(weight, f"w{i}"))
        nodes.append(helper.make_node("MatMul", [last, f"w{i}"], [f"x{i}"]))
        last = f"x{i}"
    shape = [512, 512]
    nodes.append(helper.make_node("ReduceMax", [last], ["output"], keepdims=0))
    graph = helper.make_graph(nodes, path.stem,
                              [helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, shape)],
                              [helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, [])], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def command(*arguments):
    got = subprocess.run([str(a) for a in arguments], capture_output=True, text=True, timeout=900, check=False)
    if got.returncode != 0:
        raise RuntimeError(f"{arguments[1]}: {got.stderr.strip()[-500:]}")
    return got.stdout


def read(path):
    with open(path, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{"application": r["application"], **{k: float(r[k]) for k in r if k != "application"}} for r in rows]


def percentile(values, percent):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(percent / 100 * len(ordered)) - 1)]


def summary(values):
    return {"mean": statistics.fmean(values), "p95": percentile(values, 95)}


def by_application(rows, column):
    found = collections.defaultdict(list)
    for r in rows:
        found[r["application"]].append(r[column])
    return found


def lindley(rows, outside_ms):
    """First come first served over the recorded arrivals with the recorded services: W' = max(0, W + S - A), and what
    the profile found to be in series with the device."""
    free, responses = 0.0, collections.defaultdict(list)
    for r in sorted(rows, key=lambda r: r["arrival_s"]):
        free = max(free, r["arrival_s"]) + r["compute_ms"] / 1e3
        responses[r["application"]].append((free - r["arrival_s"]) * 1e3 + outside_ms[r["application"]])
    return responses


def predictions(outboard, cluster, path, *flags):
    path.write_text(json.dumps(cluster))
    got = json.loads(command(outboard, "manage", "predict", path, "--json", *flags))
    return {a["application"]: {"mean": a["mean_ms"], "p95": a["percentiles_ms"]["95"]}
            for a in got["devices"][0]["applications"]}


def with_applications(profile, applications):
    return {"devices": profile["devices"], "models": profile["models"],
            "applications": [{"model": a["name"], "device": profile["devices"][0]["name"], **a} for a in applications]}


def measured_service(profile, rows):
    """The profile with the services that the load itself showed: what is left is the queue's model alone."""
    services = by_application(rows, "compute_ms")
    models = [dict(m, service_ms={"sample_ms": services[m["model"]]}, swap_ms=0) for m in profile["models"]]
    return dict(profile, models=models)


def sampling_interval(values, what, parts=20):
    """Half width of the 99 % interval of a statistic, from batches of consecutive requests."""
    size = len(values) // parts
    if size < 5:
        return float("inf")
    batches = [summary(values[i * size:(i + 1) * size])[what] for i in range(parts)]
    return 2.861 * statistics.stdev(batches) / math.sqrt(parts)


def experiment(outboard, load, folder, rho, seconds, profile_seconds, seed=1):
    """Profiles two models on a server, predicts, loads it; everything that can be compared, and the two commands."""
    folder = pathlib.Path(folder)
    models = [make_model(folder / "small.onnx", 5), make_model(folder / "large.onnx", 15)]
    # One slot and one thread: one Run at a time.
    with common.Server(folder, "--slots", 1, "--threads", 1, listen=f"unix:{folder}/socket") as server:
        profile_path = folder / "profile.json"
        command(outboard, "profile", "--server", server.address, "--together", "--seconds", profile_seconds,
                "--output", profile_path, *models)
        profile = json.loads(profile_path.read_text())
        total = {m["model"]: mean_ms(m["service_ms"]) for m in profile["models"]}
        rates = {name: rho / 2 / (ms / 1e3) for name, ms in total.items()}
        first = json.loads(command(outboard, "manage", "predict", profile_path, "--json",
                                   *[x for n, r in rates.items() for x in ("--add", f"{n}={r:.6f},1000")]))
        out = folder / "load.csv"
        command(load, server.address, seconds, seed, out, *[f"{m}={rates[m.stem]:.6f}" for m in models])
    rows = sorted(read(out), key=lambda r: r["arrival_s"])
    traces = by_application(rows, "arrival_s")
    recorded = [{"name": n, "arrivals_s": traces[n]} for n in rates]
    poisson = [{"name": n, "rate_per_s": len(traces[n]) / seconds} for n in rates]
    network = mean_ms(profile["devices"][0]["network_ms"])
    outside = {m["model"]: network + mean_ms(m["after_ms"]) for m in profile["models"]}
    scratch = folder / "cluster.json"
    return {
        "rows": rows, "lateness_p95_ms": percentile([r["lateness_ms"] for r in rows], 95), "rates": rates, "profile_ms": total, "first": first,
        "measured": {n: summary(v) for n, v in by_application(rows, "response_ms").items()},
        "responses": by_application(rows, "response_ms"),
        "load_ms": {n: statistics.fmean(v) for n, v in by_application(rows, "compute_ms").items()},
        "lindley": {n: summary(v) for n, v in lindley(rows, outside).items()},
        "replay_profile": predictions(outboard, with_applications(profile, recorded), scratch, "--replay"),
        "replay": predictions(outboard, with_applications(measured_service(profile, rows), recorded), scratch, "--replay"),
        "distribution": predictions(outboard, with_applications(measured_service(profile, rows), poisson), scratch),
    }


def mean_ms(times):
    if isinstance(times, (int, float)):
        return float(times)
    atoms = times["atoms_ms"]
    return sum(t * w for t, w in atoms) / sum(w for _, w in atoms)


if __name__ == "__main__":
    sys.exit("a module of server_prediction_test.py and bench/queueing_server.py")
