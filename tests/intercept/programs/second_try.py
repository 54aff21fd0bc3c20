# SPDX-License-Identifier: Apache-2.0
"""An ordinary program that knows nothing of Outboard; what it prints tells whether results are right.

    second_try.py load MODEL THREADS     Runs on threads until standard input ends; a line in: what happened since the last
    second_try.py repeat MODEL N         N Runs on one thread; prints all results
    second_try.py one MODEL              one long Run; prints its results
    second_try.py resident MODEL         a line in: 40 Runs, and how much memory the program has then
    second_try.py leave MODEL            one long Run on a thread; a line in: the program ends, whatever the Run does
"""
import json
import resource
import sys
import threading
import time

import numpy as np
import onnxruntime as ort

ort.set_default_logger_severity(4)


def right(x, results, w):
    h = x @ w
    return np.allclose(results[0], np.maximum(h, 0), 1e-4, 1e-5) and np.allclose(results[1], -h, 1e-4, 1e-5)


def load(model, threads):
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    w = session.run(["z"], {"x": np.eye(4, dtype=np.float32)})[0] * -1
    lock, stopping = threading.Lock(), threading.Event()
    counts = {"runs": 0, "wrong": 0, "failed": 0, "longest_s": 0.0}

    def work(number):
        random = np.random.default_rng(number)
        binding = session.io_binding()
        bound = [np.zeros((3, 3), np.float32), np.zeros((3, 3), np.float32)]
        for name, memory in zip(("y", "z"), bound):
            binding.bind_output(name, "cpu", 0, np.float32, memory.shape, memory.ctypes.data)
        while not stopping.is_set():
            x = random.normal(size=(3, 4)).astype(np.float32)
            start = time.monotonic()
            try:
                if number % 2 == 0:
                    results = session.run(None, {"x": x})
                else:  # into memory that lives on, and is looked at again after the next Run's beginning
                    for memory in bound:
                        memory.fill(7)
                    binding.bind_cpu_input("x", x)
                    session.run_with_iobinding(binding)
                    results = [memory.copy() for memory in bound]
                    time.sleep(0.002)  # the time in which somebody might write
                    if any((memory != result).any() for memory, result in zip(bound, results)):
                        results = [np.full((3, 3), np.inf)] * 2  # somebody wrote after the Run
                wrong, failed = not right(x, results, w), False
            except Exception:
                wrong, failed = False, True
            took = time.monotonic() - start
            with lock:
                counts["runs"] += 1
                counts["wrong"] += wrong
                counts["failed"] += failed
                counts["longest_s"] = max(counts["longest_s"], took)
            time.sleep(0.002)  # as a program does that has something else to do, so that the server has the processor

    all_threads = [threading.Thread(target=work, args=(i,)) for i in range(threads)]
    for thread in all_threads:
        thread.start()
    for _ in sys.stdin:
        with lock:
            print(json.dumps(counts), flush=True)
            counts.update(runs=0, wrong=0, failed=0, longest_s=0.0)
    stopping.set()
    for thread in all_threads:
        thread.join()


def repeat(model, count):
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    for i in range(count):
        print([v.tolist() for v in session.run(None, {"x": np.full((2, 4), i, np.float32)})])


def resident(model):
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    feed = {i.name: np.full([d if isinstance(d, int) else 1 for d in i.shape], 0.5, np.float32) for i in session.get_inputs()}
    for _ in sys.stdin:
        for _ in range(40):
            session.run(None, feed)
        pages = int(open("/proc/self/statm").read().split()[1])
        print(json.dumps({"resident_bytes": pages * resource.getpagesize()}), flush=True)


def long_run(model):
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.full(session.get_inputs()[0].shape, 0.01, np.float32)})


def one(model):
    print([v.tolist() for v in long_run(model)], flush=True)


def leave(model):
    threading.Thread(target=long_run, args=(model,), daemon=True).start()
    sys.stdin.readline()


if __name__ == "__main__":
    what, path, *rest = sys.argv[1:]
    {"load": load, "repeat": repeat, "one": one, "resident": resident, "leave": leave}[what](path, *(int(r) for r in rest))
