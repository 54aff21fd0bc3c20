# SPDX-License-Identifier: Apache-2.0
"""Predicted and measured response times of two models on a real server, at three loads of Poisson arrivals.

`recorded` is the queue over the recorded arrivals and services; `arrivals` the same with services drawn from their
distribution; `distribution` what the model says of the rates alone, whose mark is widened by the 99 % sampling interval
of the measurement; `profile` takes the services from `outboard profile` before the load instead of from the load itself.
"""
import sys
import tempfile

import common

sys.path.insert(0, str(common.ROOT / "tests/manage"))

MARKS = {"mean": 10, "p95": 15}


def run(quick):
    try:
        import server_prediction
    except ImportError as missing:
        raise common.Missing(f"{missing}; run scripts/install-deps.sh") from missing
    bench = common.Bench("queueing-server", quick=quick)
    load = common.program("tests/server_load")
    for rho in (0.5,) if quick else (0.3, 0.5, 0.7):
        with tempfile.TemporaryDirectory() as folder:
            got = server_prediction.experiment(str(common.program()), str(load), folder, rho,
                                               seconds=15 if quick else 120, profile_seconds=3 if quick else 10)
        rows(bench, rho, got, server_prediction.sampling_interval)
    return bench.finish()


def rows(bench, rho, got, sampling_interval):
    for name, real in got["measured"].items():
        bench.row(f"{rho}/{name}/service_drift", 100 * (got["load_ms"][name] / got["profile_ms"][name] - 1), "%", "lower")
        for what, mark in MARKS.items():
            place = f"{rho}/{name}/{what}"
            bench.row(f"{place}/measured", real[what], "ms", "lower")
            interval = 100 * sampling_interval(got["responses"][name], what) / real[what]
            for label, key, goal in (("recorded", "lindley", mark), ("arrivals", "replay", mark),
                                     ("distribution", "distribution", mark + interval),
                                     ("profile", "replay_profile", None)):
                error = abs(100 * (got[key][name][what] / real[what] - 1))
                bench.row(f"{place}/error_{label}", error, "%", "lower", goal=goal)
