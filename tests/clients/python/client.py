# SPDX-License-Identifier: Apache-2.0
"""An ordinary Python program that uses onnxruntime and knows nothing of Outboard.

    client.py MODEL...      its inputs and outputs, and what a Run of it gives, to the last bit
"""
import concurrent.futures
import os
import sys

import numpy as np
import onnxruntime as ort

TYPES = {"tensor(float)": "float", "tensor(int64)": "int64", "tensor(string)": "string"}
THREADS, RUNS_PER_THREAD = 4, 4


def make_input(value):
    dims = [d if isinstance(d, int) else 2 for d in value.shape]
    flat = np.arange(int(np.prod(dims)))
    if TYPES[value.type] == "string":
        return np.array([f"s{k}é" for k in flat], dtype=object).reshape(dims)
    return (flat if TYPES[value.type] == "int64" else (flat / 4 - 1).astype(np.float32)).reshape(dims)


def text(name, kind, array):
    flat = array.ravel()
    values = [f"{b:08x}" for b in flat.view(np.uint32)] if kind == "float" else [str(v) for v in flat]
    return f"  {name} {kind} [{','.join(map(str, array.shape))}] {' '.join(values)}"


def main():
    sys.stdout.reconfigure(encoding="utf-8")
    for path in sys.argv[1:]:
        print(os.path.basename(path))
        session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        for kind, values in (("in", session.get_inputs()), ("out", session.get_outputs())):
            for v in values:
                dims = ",".join(str(d if isinstance(d, int) else -1) for d in v.shape)
                print(f"  {kind} {v.name} {TYPES[v.type]} [{dims}]")
        feeds = {v.name: make_input(v) for v in session.get_inputs()}

        def run():
            values = zip(session.get_outputs(), session.run(None, feeds))
            return [text(v.name, TYPES[v.type], array) for v, array in values]

        first = run()
        print(*first, sep="\n")
        with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
            again = [pool.submit(run) for _ in range(THREADS * RUNS_PER_THREAD)]
            print("  again", sum(f.result() == first for f in again))


main()
