# SPDX-License-Identifier: Apache-2.0
"""InferenceSession.run_async() of a stub: a Run that waits for a server needs a thread that may wait, not one of the
library's, which compute."""
import os
import threading

_LIMIT = 32  # Runs at the same time
_pools = {}  # by process: threads do not survive fork()


class _Pool:
    def __init__(self):
        self.wake = threading.Condition()
        self.tasks, self.idle, self.threads = [], 0, 0

    def start(self, task):
        with self.wake:
            self.tasks.append(task)
            if self.idle < len(self.tasks) and self.threads < _LIMIT:
                self.threads += 1
                threading.Thread(target=self.work, daemon=True, name="outboard").start()
            self.wake.notify()

    def work(self):
        while True:
            with self.wake:
                self.idle += 1
                has_task = self.wake.wait_for(lambda: self.tasks, timeout=10)
                self.idle -= 1
                if not has_task:
                    self.threads -= 1
                    return
                task = self.tasks.pop(0)
            task()


def run(call, callback, user_data):
    """`call` returns the Run's results."""
    def task():
        try:
            results, message = call(), ""
        except Exception as error:
            # As the library words it for callbacks: without the exception's code and name.
            results, message = [], str(error).split(" : ", 3)[-1]
        callback(results, user_data, message)

    pool = _pools.get(os.getpid())
    if pool is None:
        pool = _pools.setdefault(os.getpid(), _Pool())
    pool.start(task)
