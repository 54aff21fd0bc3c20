# SPDX-License-Identifier: Apache-2.0
"""200 programs lose their server at the same moment, and it returns: all are back within 5 s, they do not storm it with
connections, no Run fails. Real processes under `outboard run`, each with a session and a connection of its own; the relay
counts connections, and the programs' traces say when each was back.

    storm_test.py BUILD_FOLDER [unittest arguments]
"""
import collections
import json
import pathlib
import sys
import threading
import time
import unittest

TESTS = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(TESTS))
import bed as beds
import faults

BUILD = pathlib.Path(sys.argv[1]).absolute()
CLIENTS = 200
OUTAGE_S = 5
BUSY_S = 3  # at most so much later on a busy machine
PAUSE_US = 200_000  # between the Runs of one program: what is looked at is not throughput
# A program asks again after 50 ms, then twice as long up to 3 s, less up to half (src/intercept/common/backoff.h): in
# the first second at most 6 times, after 3 s at most once in 0.8 s.
MOST_AT_FIRST_PER_S, MOST_LATER_PER_S, LATER_S = 6, 1.25, 3
MOST_AT_RETURN = 3  # connections of one program: what found it, a Run, and what looks after the link


class Counter:
    """Samples of how many connections the relay has accepted."""

    def __init__(self, link):
        self._link, self._going = link, True
        self.samples = []  # (time, accepted in all)
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self):
        while self._going:
            self.samples.append((time.monotonic(), self._link.stats()[1]))
            time.sleep(0.02)

    def end(self):
        self._going = False
        self._thread.join()

    def most_in_a_second(self, begin, end):
        """Within [begin, end)."""
        inside = [s for s in self.samples if begin <= s[0] < end]
        most, window = 0, collections.deque()
        for sample in inside:
            window.append(sample)
            while sample[0] - window[0][0] > 1:
                window.popleft()
            most = max(most, sample[1] - window[0][1])
        return most

    def between(self, begin, end):
        inside = [count for at, count in self.samples if begin <= at < end]
        return inside[-1] - inside[0] if inside else 0


def server_runs_of(trace):
    """{process: when its Runs at the server began, in s of the monotonic clock}"""
    starts = collections.defaultdict(list)
    for process in json.loads(trace.read_text())["traceEvents"]:
        if process.get("ph") == "X" and process["name"] == "send":
            starts[process["pid"]].append(process["ts"] / 1e6)
    return starts


class StormTest(unittest.TestCase):
    def test_200_programs_come_back_without_a_storm(self):
        bed = self.enterContext(beds.Bed(BUILD))
        (bed.folder / "models").mkdir()
        faults.fault_models.write(bed.folder / "models")
        link = bed.link()
        server = link.serve(bed.folder / "server", "--log-level", "error", ort_library=faults.common.ort_library())
        trace = bed.folder / "trace.json"
        programs = faults.Program(bed, server, "small", "--processes", CLIENTS, "--pause-us", PAUSE_US, threads=1,
                                  plain=False, more_run_options=("--trace", trace), ready_s=120)
        programs.ask("go")
        beds.wait_for(lambda: server.status()["runs"] >= 2 * CLIENTS, "the Runs of all", 60)
        counter = Counter(link)
        lost = time.monotonic()
        server.kill()
        time.sleep(OUTAGE_S)
        returning = time.monotonic()
        server.start()
        returned = time.monotonic()
        # A program may have two connections, so only time tells who is not back.
        time.sleep(faults.BACK_LIMIT_S + BUSY_S)
        counter.end()
        figures = programs.ask("pause")
        programs.end(processes=CLIENTS)

        starts = server_runs_of(trace)
        back = sorted(min((s for s in each if s >= returning), default=float("inf")) - returned
                      for each in starts.values())
        at_first = counter.most_in_a_second(lost, returning)
        later = counter.most_in_a_second(lost + LATER_S, returning)
        at_return = counter.between(returning, returned + faults.BACK_LIMIT_S)
        # As of other faults: this machine at this moment, whose longest Run is one of those that were computed here.
        back_limit_s = faults.BACK_LIMIT_S + min(BUSY_S, 2 * figures["longest_us"] / 1e6)
        print(f"{len(starts)} programs, {figures['runs']} Runs, {figures['failed']} failed, {figures['wrong']} wrong; "
              f"longest Run {figures['longest_us'] / 1e3:.0f} ms; back on the server: the first after {back[0]:.2f} s, half"
              f" after {back[len(back) // 2]:.2f} s, all after {back[-1]:.2f} s; connections a second: at most {at_first} when"
              f" it was lost, {later} after {LATER_S} s, {at_return} in all for its return", flush=True)
        self.assertEqual(len(starts), CLIENTS)
        self.assertEqual((figures["failed"], figures["wrong"]), (0, 0))
        self.assertLess(back[-1], back_limit_s)
        self.assertLessEqual(at_first, MOST_AT_FIRST_PER_S * CLIENTS)
        self.assertLessEqual(later, MOST_LATER_PER_S * CLIENTS)
        self.assertLessEqual(at_return, MOST_AT_RETURN * CLIENTS)


if __name__ == "__main__":
    if beds.skip_loudly("a storm of reconnecting programs"):
        sys.exit(0)
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
