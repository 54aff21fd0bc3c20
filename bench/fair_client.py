# SPDX-License-Identifier: Apache-2.0
"""A program that knows nothing of Outboard: asks for Runs of a model as a Poisson process does. Of bench/fair.py.

    fair_client.py MODEL REQUESTS MEAN_GAP_MS        prints the response times in ms, from when each was due, as JSON
"""
import json
import queue
import random
import sys
import threading
import time

import numpy as np
import onnxruntime

THREADS = 8


def main():
    model, requests, gap_ms = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    feed = {given.name: np.random.default_rng(1).random([d if isinstance(d, int) else 1 for d in given.shape], np.float32)}
    warm = [threading.Thread(target=session.run, args=(None, feed)) for _ in range(THREADS)]
    for thread in warm:
        thread.start()
    for thread in warm:
        thread.join()

    drawn = random.Random(7)
    due = queue.Queue()
    at = time.monotonic() + 0.2
    for _ in range(requests):
        due.put(at)
        at += drawn.expovariate(1) * gap_ms / 1e3
    times_ms = []

    def call():
        while True:
            try:
                moment = due.get_nowait()
            except queue.Empty:
                return
            time.sleep(max(0, moment - time.monotonic()))
            session.run(None, feed)
            times_ms.append((time.monotonic() - moment) * 1e3)

    threads = [threading.Thread(target=call) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps(times_ms))


if __name__ == "__main__":
    main()
