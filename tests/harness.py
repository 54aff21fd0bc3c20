# SPDX-License-Identifier: Apache-2.0
"""What tests share that run ordinary programs plainly and under `outboard run`: the folders, a server of their own, and
the comparison of both runs. OUTBOARD_BINARY_DIR and OUTBOARD_DEPS name the folders; by default those of the release
build."""
import atexit
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bench"))
import common  # noqa: E402

BUILD = common.BUILD
DEPS = pathlib.Path(os.environ.get("OUTBOARD_DEPS", ROOT / "build/deps"))
OUTBOARD = str(BUILD / "outboard")
PYTHON = str(DEPS / "venv/bin/python")
ORT = str(common.ort_library())
# Of every program, in both runs.
ENVIRONMENT = {**{k: v for k, v in os.environ.items() if not k.startswith("OUTBOARD_")}, "PYTHONWARNINGS": "ignore"}
TIMEOUT_S = 300  # of anything that is waited for; nothing comes near it, however busy the machine is
work = pathlib.Path(tempfile.mkdtemp(prefix="outboard-test-"))
atexit.register(shutil.rmtree, work, ignore_errors=True)


class Server(common.Server):
    """An `outboard serve` of its own, with an empty store; it runs from here on."""
    count = 0

    def __init__(self, listen="127.0.0.1:0", *arguments):
        Server.count += 1
        folder = work / f"server{Server.count}"
        folder.mkdir()
        isolation = os.environ.get("OUTBOARD_TEST_ISOLATION")
        if isolation:
            arguments = ("--isolation", isolation, *arguments)
        super().__init__(folder, "--ort-library", ORT, *arguments, listen=listen)
        self.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def runs(self):
        return self.status()["runs"]

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.stop()


class LoggedServer:
    """An `outboard serve` whose log is read as it is written."""

    def __init__(self, *arguments):
        self.process = subprocess.Popen([OUTBOARD, "serve", *map(str, arguments)], stderr=subprocess.PIPE, text=True)
        self.log = []

    def line(self, wanted):
        """The first line from here on of which `wanted` is true."""
        timer = threading.Timer(TIMEOUT_S, self.process.kill)
        timer.start()
        try:
            for line in self.process.stderr:
                self.log.append(line)
                if wanted(line):
                    return line
        finally:
            timer.cancel()
        raise AssertionError("the server ended before it said what was waited for:\n" + "".join(self.log))

    def kill(self):
        self.process.kill()
        self.process.communicate()


def wait_for(condition, what, process=None, timeout_s=TIMEOUT_S):
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end or (process is not None and process.poll() is not None):
            raise AssertionError(f"{what} did not get ready")
        time.sleep(0.01)


def check_output(command, **kwargs):
    return subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=TIMEOUT_S, text=True, **kwargs).stdout


def run(command, environment=None, **kwargs):
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S,
                          env={**ENVIRONMENT, **(environment or {})}, **kwargs)


def count_late(session):
    """Where a server is late, as on a busy machine, a Run is begun here as well, and this machine may be sooner: such a Run
    went to the server, too, and is counted there, as long as they are few. second_try_test.py looks at them themselves."""
    runs = session["runs"]
    late = runs["local_because"].get("server late", 0)
    if 0 < late <= 2 + runs["server"] // 10:
        print(f"*** {late} of {runs['server'] + late} Runs of {session['model']['name']} were answered here, the server was"
              " late ***", file=sys.stderr, flush=True)
        del runs["local_because"]["server late"]
        runs["local"] -= late
        runs["server"] += late


class Outboard:
    """One command under `outboard run`, and its report, in which late Runs are counted as above."""

    def __init__(self, server, command, *options, environment=None, outboard=(OUTBOARD,), **kwargs):
        report = pathlib.Path(tempfile.mkdtemp(dir=work)) / "report.json"
        address = server if isinstance(server, str) else server.address
        self.result = run([*outboard, "run", "--server", address, "--json", str(report), *options, "--", *command],
                          environment, **kwargs)
        self.processes = json.loads(report.read_text())["processes"]
        self.sessions = [s for p in self.processes for s in p["sessions"]]
        for session in self.sessions:
            count_late(session)

    def runs(self, where):
        return sum(s["runs"][where] for s in self.sessions)

    def frames(self):
        return sum(s["frames_sent"] for p in self.processes for s in p["servers"])


class Compared(unittest.TestCase):
    """Tests that compare a program's two runs; `server` is the class's own."""
    maxDiff = 20000

    def same(self, command, *options, server=None, environment=None, status=0, **kwargs):
        """Runs it plainly and through a server; what it prints must be equal."""
        plain = run(command, environment, **kwargs)
        self.assertEqual(plain.returncode, status, plain.stderr)
        through = Outboard(server or self.server, command, *options, environment=environment, **kwargs)
        self.assertEqual(plain.stdout, through.result.stdout, through.result.stderr)
        self.assertEqual(plain.returncode, through.result.returncode, through.result.stderr)
        return through

    def all_remote(self, through):
        """Each session that may go out did, and nothing of it ran here."""
        for session in through.sessions:
            stays = "local" in session["model"]["name"]
            self.assertEqual(session["runs"]["server"] == 0, stays, session)
            if not stays:
                self.assertEqual(session["why_local"], "")
                self.assertEqual(session["runs"]["local"], 0, session)
