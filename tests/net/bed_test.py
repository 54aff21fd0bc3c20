# SPDX-License-Identifier: Apache-2.0
"""Is the test bed what it says? Rates, delays and faults as a plain socket sees them, quotas, and that nothing is left.

    bed_test.py BUILD_FOLDER [unittest arguments]
"""
import os
import pathlib
import signal
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import bed as beds

BUILD = pathlib.Path(sys.argv[1]).absolute()

# Both ends of a link. A request is "<reply bytes> <request bytes>\n" and the bytes; the reply that many.
ECHO = """
import socket, sys, threading
server = socket.create_server(("127.0.0.1", 0), backlog=64)
print(server.getsockname()[1], flush=True)
def serve(c):
    f = c.makefile("rb")
    try:
        for line in f:
            reply, request = map(int, line.split())
            if len(f.read(request)) < request: break
            c.sendall(bytes(reply))
    except OSError:
        pass
while True:
    c, _ = server.accept()
    c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    threading.Thread(target=serve, args=(c,), daemon=True).start()
"""
# Prints "RESULT seconds" or "ERROR name" for every line "<request> <reply>" on stdin; "new" connects anew.
CLIENT = """
import socket, sys, time
host, port = sys.argv[1].rsplit(":", 1)
def connect():
    c = socket.create_connection((host, int(port)), timeout=0.5)
    c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return c
c = connect()
for line in sys.stdin:
    try:
        if line.strip() == "new":
            c = connect()
            print("RESULT 0", flush=True)
            continue
        request, reply, c_timeout = line.split()
        c.settimeout(float(c_timeout))
        begin = time.monotonic()
        c.sendall(f"{reply} {request}\\n".encode() + bytes(int(request)))
        left = int(reply)
        while left:
            got = c.recv(min(left, 1 << 20))
            if not got: raise EOFError()
            left -= len(got)
        print("RESULT", time.monotonic() - begin, flush=True)
    except Exception as e:
        print("ERROR", type(e).__name__, flush=True)
"""


class Ends:
    """A plain client on the device and an echo at the far end of `link`."""

    def __init__(self, bed, link):
        echo = link.popen([sys.executable, "-c", ECHO], stdout=subprocess.PIPE, text=True)
        address = link.relay_to(f"127.0.0.1:{int(echo.stdout.readline())}")
        self._client = bed.popen([sys.executable, "-c", CLIENT, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                 text=True)

    def ask(self, text):
        self._client.stdin.write(text + "\n")
        self._client.stdin.flush()

    def answer(self):
        kind, value = self._client.stdout.readline().split()
        return float(value) if kind == "RESULT" else value

    def trip(self, request=1, reply=1, timeout_s=5):
        """Seconds of one exchange, or the name of the error."""
        self.ask(f"{request} {reply} {timeout_s}")
        return self.answer()


class BedTest(unittest.TestCase):
    def setUp(self):
        self.bed = self.enterContext(beds.Bed(BUILD))

    def ends(self, **link):
        self.link = self.bed.link(**link)
        return Ends(self.bed, self.link)

    def test_the_delay_is_there_twice_in_a_round_trip_and_can_be_changed(self):
        ends = self.ends(delay_ms=20)
        # The shortest of some: a busy machine only adds to what the bed does.
        self.assertAlmostEqual(min(ends.trip() for _ in range(20)), 0.040, delta=0.004)
        self.link.set_delay(2)
        self.assertAlmostEqual(min(ends.trip() for _ in range(20)), 0.004, delta=0.002)

    def test_the_rate_holds_in_both_directions_and_can_be_changed(self):
        ends = self.ends(rate_bps=100e6)
        for rate, size in ((100e6, 2_500_000), (10e6, 250_000)):
            self.link.set_rate(rate)
            for request, reply in ((size, 1), (1, size)):
                goodput = size * 8 / min(ends.trip(request, reply) for _ in range(5))
                self.assertGreater(goodput, 0.85 * rate, (rate, request))
                self.assertLess(goodput, 1.05 * rate, (rate, request))

    def test_a_gigabit_passes_the_relay(self):
        ends = self.ends(rate_bps=1e9)
        size = 20_000_000
        goodput = size * 8 / min(ends.trip(size, 1) for _ in range(5))
        self.assertGreater(goodput, 4e8)  # the machine may be busy with other tests; alone it is 0.9e9
        self.assertLess(goodput, 1.05e9)

    def test_a_stall_holds_the_bytes_and_lets_them_go_on(self):
        ends = self.ends()
        ends.trip()
        self.link.stall("down")
        ends.ask("1 1 20")
        beds.wait_for(lambda: self.link.stats()[2] == 2 * len("1 1\n."), "the request's way up")
        held = self.link.stats()[3]
        self.link.stall("down", False)
        self.assertIsInstance(ends.answer(), float)
        self.assertEqual(self.link.stats()[3], held + 1)

    def test_a_cut_is_not_told_and_new_connections_pass_after_it(self):
        ends = self.ends()
        ends.trip()
        self.link.cut()
        self.assertEqual(ends.trip(timeout_s=0.2), "TimeoutError")
        self.link.restore()
        self.assertEqual(ends.trip(), "ConnectionResetError")
        ends.ask("new")
        self.assertEqual(ends.answer(), 0)
        self.assertIsInstance(ends.trip(), float)

    def test_a_cut_comes_after_exactly_so_many_bytes(self):
        ends = self.ends()
        for direction, column, then, error, timeout_s in (("down", 3, "drop", "TimeoutError", 0.3),
                                                          ("up", 2, "reset", "ConnectionResetError", 20)):
            ends.trip()
            before = self.link.stats()[column]
            self.link.after(direction, 12_345, then)
            self.assertEqual(ends.trip(100_000, 100_000, timeout_s), error)
            beds.wait_for(lambda: self.link.stats()[column] >= before + 12_345, "the bytes before it")
            self.assertEqual(self.link.stats()[column], before + 12_345)
            ends.ask("new")
            ends.answer()

    def test_a_trickle(self):
        ends = self.ends()
        self.link.trickle("up", 20_000)
        took = ends.trip(6_000, 1)
        self.assertGreater(took, 0.22)
        self.assertLess(took, 3)  # 0.3 s, on a machine that may be busy
        self.link.trickle("up", 0)
        self.assertLess(min(ends.trip(6_000, 1) for _ in range(5)), 0.05)

    def test_a_changed_address_leaves_new_connections_possible(self):
        ends = self.ends()
        ends.trip()
        self.link.move_device()
        self.assertEqual(ends.trip(timeout_s=0.2), "TimeoutError")
        ends.ask("new")
        self.assertEqual(ends.answer(), 0)

    def test_a_quota_is_a_slow_processor(self):
        work = "import time\nt = time.monotonic()\nwhile time.process_time() < 0.2: pass\nprint(time.monotonic() - t)"
        process = self.bed.popen([sys.executable, "-S", "-c", work], cpu_share=0.2, stdout=subprocess.PIPE, text=True)
        took = float(process.communicate(timeout=30)[0])
        self.assertGreater(took, 0.7)  # at a fifth of a core nearly 1 s, less what Python's own start had consumed of it

    def test_a_wrong_command_is_an_error(self):
        self.ends()
        for wrong in ("after sideways 1 cut", "after up 1 explode", "dance", "delay -1"):
            with self.assertRaises(ValueError, msg=wrong):
                self.link._command(wrong)


class RemovalTest(unittest.TestCase):
    def test_nothing_is_left_not_even_by_a_bed_that_was_killed(self):
        script = f"import sys, time; sys.path.insert(0, {str(pathlib.Path(__file__).parent)!r})\n" \
                 f"import bed\nb = bed.Bed({str(BUILD)!r}).__enter__()\nl = b.link(rate_bps=1e6)\n" \
                 "l.relay_to('127.0.0.1:1'); p = b.popen(['sleep', '1000'], cpu_share=0.5)\n" \
                 "print(b.namespace, p.pid, b.folder, flush=True); time.sleep(1000)"
        killed = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        namespace, pid, folder = killed.stdout.readline().split()
        killed.send_signal(signal.SIGKILL)
        killed.stdout.close()
        killed.wait()  # not communicate(): what it started holds the pipe
        self.assertIn(namespace, subprocess.check_output(["ip", "netns", "list"], text=True))
        with beds.Bed(BUILD) as bed:
            mine = bed.namespace
            self.assertNotIn(namespace, subprocess.check_output(["ip", "netns", "list"], text=True))
            beds.wait_for(lambda: not is_running(pid), "the end of the killed bed's process")
            self.assertFalse(os.path.exists(folder))
        self.assertNotIn(mine, subprocess.check_output(["ip", "netns", "list"], text=True))
        left = [g.name for g in beds.CPU_CGROUP.iterdir() if g.name.startswith((namespace[:-7], mine[:-7]))]
        self.assertEqual(left, [])


def is_running(pid):
    """Not gone, and not a zombie that nobody waits for."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


if __name__ == "__main__":
    if beds.skip_loudly("the test bed itself"):
        sys.exit(0)
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
