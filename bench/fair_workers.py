# SPDX-License-Identifier: Apache-2.0
"""The same as fair.py where each tenant's models are computed in a worker process of its own, on one core that the kernel shares.

Nobody waits for another's Runs then. The promise (docs/security.md): p95 beside the flood is at most twice p95 alone.
"""
import common
import fair


def run(quick):
    bench = common.Bench("fair-workers", quick=quick)
    requests, repetitions = (60, 1) if quick else (200, 3)
    return fair.compare(bench, "on", requests, repetitions, lambda alone, _: 2 * alone)
