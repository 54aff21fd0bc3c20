# SPDX-License-Identifier: Apache-2.0
"""Four Runs, then the process PID is killed, and eight more of every kind; they must give the same.

    lose_server.py MODEL PID
"""
import os
import signal
import sys
import threading

import numpy as np
import onnxruntime as ort

session = ort.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
feeds = {"x": (np.arange(8, dtype=np.float32) / 4 - 1).reshape(2, 4)}


def run():
    return session.run(["y"], feeds)[0]


def run_bound():
    binding = session.io_binding()
    binding.bind_cpu_input("x", feeds["x"])
    binding.bind_output("y")
    session.run_with_iobinding(binding)
    return binding.copy_outputs_to_cpu()[0]


def run_ort_values():
    values = {name: ort.OrtValue.ortvalue_from_numpy(value) for name, value in feeds.items()}
    return session.run_with_ort_values(["y"], values)[0].numpy()


def run_async():
    done, got = threading.Event(), []

    def callback(results, data, error):
        got.extend(results or [error])
        done.set()

    session.run_async(["y"], feeds, callback, None)
    done.wait(60)
    return got[0]


expected = [run() for _ in range(4)][0]
os.kill(int(sys.argv[2]), signal.SIGKILL)
ways = (run, run_bound, run_ort_values, run_async)
print("same", sum(np.array_equal(way(), expected) for way in ways * 2))
