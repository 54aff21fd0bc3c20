# SPDX-License-Identifier: Apache-2.0
"""Runs go where they are sooner, over a real link: a program that knows nothing of Outboard, a server behind a relay.

    adaptive_test.py BUILD_FOLDER [unittest arguments]
"""
import json
import pathlib
import subprocess
import sys
import time
import unittest

TESTS = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(TESTS), str(TESTS.parent.parent / "bench")]
import bed as beds
import common

BUILD = pathlib.Path(sys.argv[1]).absolute()


class Device:
    """bench_device under `outboard run`, told what to do line by line."""

    def __init__(self, bed, *options):
        self.report = bed.folder / f"report{time.monotonic_ns()}.json"
        # The input is the same each time: coded, it would travel as its hash, however slow the link.
        self.process = bed.popen([BUILD / "outboard", "run", "--coding", "off", "--json", self.report, *options, "--",
                                  BUILD / "bench/bench_device", ORT, MODEL], stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"

    def runs(self, count, seconds=20):
        """Milliseconds of each Run."""
        self.process.stdin.write(f"{count} {seconds}\n")
        self.process.stdin.flush()
        return [wall / 1e3 for wall, _ in json.loads(self.process.stdout.readline())]

    def memory_kib(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])

    def session(self):
        self.process.stdin.close()
        assert self.process.wait(30) == 0
        return json.loads(self.report.read_text())["processes"][0]["sessions"][0]


class AdaptiveTest(unittest.TestCase):
    def setUp(self):
        self.bed = self.enterContext(beds.Bed(BUILD))

    def serve(self, link, name="server"):
        return link.serve(self.bed.folder / name, "--threads", 1, ort_library=ORT)

    def filled(self, server):
        """The server has the model, and a first Run has been made."""
        device = Device(self.bed, "--mode", "remote", "--server", server.address)
        device.runs(1)
        self.assertEqual(device.session()["runs"]["server"], 1)

    def test_a_link_that_becomes_slow_is_left_and_taken_again(self):
        link = self.bed.link()
        server = self.serve(link)
        self.filled(server)
        # Here a Run is slow: the quota makes the local side ten times as slow as the server.
        device = Device(self.bed, "--server", server.address)
        (self.bed.cgroup("slow", 0.1) / "tasks").write_text(str(device.process.pid))
        device.runs(10)
        at_server = server.status()["runs"]
        device.runs(5)
        self.assertGreaterEqual(server.status()["runs"], at_server + 4)
        link.trickle("up", 200_000)
        device.runs(4, 30)
        at_server = server.status()["runs"]
        device.runs(3)
        self.assertEqual(server.status()["runs"], at_server)
        link.trickle("up", 0)

        def is_back():
            before = server.status()["runs"]
            device.runs(1)
            return server.status()["runs"] > before
        beds.wait_for(is_back, "the return to the server", 60)
        session = device.session()
        self.assertEqual(session["runs"]["failed"], 0)
        self.assertGreater(session["runs"]["local_because"]["sooner here"], 0)

    def test_the_local_model_is_opened_only_when_needed_and_given_back(self):
        link = self.bed.link()
        server = self.serve(link)
        self.filled(server)
        device = Device(self.bed, "--mode", "remote", "--server", server.address)
        device.runs(5)
        without = device.memory_kib()
        self.assertEqual(device.session()["local_sessions"], {"opened": 0, "given_back": 0})

        # No server yet: it is opened here. Then one that has the model, and Runs that stay there.
        link.cut()
        device = Device(self.bed, "--mode", "remote", "--server", server.address)
        device.runs(2)
        with_model = device.memory_kib()
        self.assertGreater(with_model - without, MODEL.stat().st_size / 1024 / 2)
        link.restore()
        before = server.status()["runs"]
        beds.wait_for(lambda: device.runs(1) and server.status()["runs"] > before, "the server's return", 60)
        beds.wait_for(lambda: device.memory_kib() < (without + with_model) / 2, "the memory's return", 60)
        self.assertEqual(device.session()["local_sessions"], {"opened": 1, "given_back": 1})

    def test_the_sooner_of_two_servers_is_taken_and_a_dead_one_is_left(self):
        delay_ms = 150
        near, far = self.bed.link(), self.bed.link(delay_ms=delay_ms)
        servers = [self.serve(far, "far"), self.serve(near, "near")]
        # No local side: the servers are between themselves.
        device = Device(self.bed, "--mode", "remote", *(o for s in servers for o in ("--server", s.address)))
        beds.wait_for(lambda: device.runs(1) and servers[1].status()["runs"] > 0, "the upload to the second server", 90)
        device.runs(10)
        before = servers[0].status()["runs"]
        usual = device.runs(20, 60)
        # Others on this machine may slow one of them for a moment, and then the other one is sooner.
        self.assertLessEqual(servers[0].status()["runs"], before + 5)
        servers[1].kill()
        # A second, the way to the other one, and what computing or opening the model takes on this machine at this moment.
        self.assertLess(max(device.runs(3, 60)), 1000 + 4 * delay_ms + 10 * max(usual))
        session = device.session()
        self.assertEqual(session["runs"]["failed"], 0)


if __name__ == "__main__":
    if beds.skip_loudly("local or remote over a real link"):
        sys.exit(0)
    ORT, MODEL = common.ort_library(), common.model("resnet-50")
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
