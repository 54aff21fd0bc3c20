# SPDX-License-Identifier: Apache-2.0
"""Real faults under load: what they do to a program of 8 threads that makes Runs without pause, and to the server.

    faults.py BUILD_FOLDER [--rounds N] [--faults NAME,NAME] [--output FILE] [--page]

plays N rounds of each fault in network namespaces and prints a table (`make soak`; docs/testing.md), which --page also
puts into docs/faults.md. FILE gets a line of JSON a round; rounds that are there already are not played again, so an
interrupted soak goes on where it ended. faults_test.py asserts on five rounds of each with the same `complaints()`.

A Lane is one link, one server and one program (fault_client.cc) under `outboard run`; the faults of a lane are played one
after the other, lanes side by side, and then those of other transports and modes.
"""
import argparse
import contextlib
import json
import os
import pathlib
import random
import resource
import select
import shutil
import subprocess
import sys
import threading
import time

TESTS = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(TESTS), str(TESTS.parent.parent / "bench")]
import bed as beds  # noqa: E402
import common  # noqa: E402
import fault_models  # noqa: E402

PAGE = TESTS.parent.parent / "docs/faults.md"
THREADS = 8
BACK_LIMIT_S = 5
FORGOTTEN_S = 15  # until a server has noticed what is over: a lost end of a connection is sent again, ever more rarely
VANISHED_S = 45  # the same for clients that vanished without a word, which is a matter of keepalive
GAP_LIMIT_S = 1
# Connections of one program: one for each Run under way, and those that look after the link.
CONNECTIONS = THREADS + 4
SHORT_OF_MEMORY_BYTES = 24 << 20  # beyond what the server has: threads fit, the model does not
DISK_BYTES, DISK_LEFT_BYTES = 48 << 20, 6 << 20
# Of a round's files, threads and memory beyond those after the second round. Sockets come and go with the Runs that were
# under way together, so they have a bound of their own, which no number of rounds moves: the connections, and what listens.
MORE_FILES, MORE_THREADS, MORE_MEMORY_KIB = 4, 2 * THREADS, {"small": 24 << 10, "large": 64 << 10}
SOCKETS = CONNECTIONS + 4


class Program:
    """fault_client under `outboard run`; its answers are dictionaries (fault_client.cc)."""

    def __init__(self, bed, server, model, *options, mode="remote", threads=THREADS, plain=True, more_run_options=(),
                 ready_s=60, address=None):
        self.report = bed.folder / f"report{time.monotonic_ns()}.json"
        models = bed.folder / "models"
        self.process = bed.popen(
            [bed.build / "outboard", "run", "--mode", mode, "--json", self.report, "--no-summary", "--log-level", "error",
             *more_run_options, "--server", address or server.address, "--", bed.build / "tests/fault_client", common.ort_library(),
             models / f"{model}.onnx", *(["--plain", models / f"{model}-plain.onnx"] if plain else []), "--threads", threads,
             *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=server.environment)
        self.ready = self.answer(ready_s)

    def answer(self, limit_s=60):
        if not select.select([self.process.stdout], [], [], limit_s)[0]:
            raise TimeoutError(f"the program (process {self.process.pid}) did not answer within {limit_s} s")
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"the program ended with status {self.process.wait()}")
        return json.loads(line)

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.answer()

    def end(self, processes=1):
        """Checks the reports of its processes (a forked child that ends by _exit() writes none)."""
        self.process.stdin.close()
        assert self.process.wait(60) == 0, self.process.returncode
        reports = json.loads(self.report.read_text())["processes"]
        assert len(reports) >= processes, f"{len(reports)} reports"
        failed = sum(session["runs"]["failed"] for report in reports for session in report["sessions"])
        assert failed == 0, f"the reports count {failed} failed Runs"
        return reports


def resources(pid):
    """Of a process: sockets, other open descriptors, threads, resident memory."""
    proc = pathlib.Path(f"/proc/{pid}")
    fields = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines() if ":" in line)
    targets = []
    for descriptor in os.listdir(proc / "fd"):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            targets.append(os.readlink(proc / "fd" / descriptor))
    sockets = sum(t.startswith("socket:") for t in targets)
    return {"sockets": sockets, "files": len(targets) - sockets, "threads": int(fields["Threads"]),
            "memory_kib": int(fields["VmRSS"].split()[0])}


class Lane:
    def __init__(self, bed, name, model="small", direct=False, disk_bytes=None, secured=False, near=False, coding=None, mode="remote"):
        self.bed, self.name, self.model = bed, name, model
        self.transport, self.coding = "tls" if secured else "shared memory" if near else "tcp", coding
        self.random = random.Random(name)
        self.link = bed.link()
        folder = bed.small_disk(name, disk_bytes) if disk_bytes else bed.folder / name
        self.socket = bed.folder / f"{name}.status"
        self.server = self.link.serve(folder, "--listen", f"unix:{self.socket}", "--log-level", "error", "--threads", 1,
                                      ort_library=common.ort_library(), direct=direct, secured=secured)
        self.program = Program(bed, self.server, model, mode=mode, address=f"unix:{self.socket}" if near else None,
                               more_run_options=["--coding", coding] if coding else [])

    def status(self):
        got = subprocess.run([self.bed.build / "outboard", "status", f"unix:{self.socket}", "--json"], timeout=120,
                             capture_output=True, text=True, check=True)
        return json.loads(got.stdout)

    def server_runs(self):
        """Also of a server that is so short of memory that it refuses to say."""
        def asked():
            assert self.server.process.poll() is None, f"the server ended with {self.server.process.returncode}"
            with contextlib.suppress(subprocess.CalledProcessError):
                return self.status()
        return beds.wait_for(asked, "the status")["runs"]

    def wait_for_server_runs(self, limit_s=120):
        """Seconds until the server has answered a Run from now on."""
        begin, before = time.monotonic(), self.server_runs()
        beds.wait_for(lambda: self.server_runs() > before, f"the return to the server of ({self.name})", limit_s)
        return time.monotonic() - begin

    def play(self, fault):
        """One round; a record."""
        self.program.ask("go")
        self.wait_for_server_runs()
        time.sleep(self.random.uniform(0.05, 0.25))
        extra = FAULTS[fault].strike(self) or {}
        back_s = self.wait_for_server_runs()
        figures = self.program.ask("pause")
        for name in ("runs", "failed", "wrong"):
            figures[name] += extra.pop(name, 0)
        for name in ("longest_us", "plain_us"):
            figures[name] = max(figures[name], extra.pop(name, 0))
        opened_us = max(self.program.ready["opened_us"], extra.pop("opened_us", 0))
        return {"fault": fault, **figures, "back_s": round(back_s, 3), "opened_us": opened_us, **extra,
                **self.left_over(FORGOTTEN_S, sides_of(fault))}

    def left_over(self, limit_s, sides=("client", "server")):
        """What both sides hold when no Run is under way; what is over gets a moment to be noticed on these sides."""
        pids = {"client_pid": self.program.process.pid, "server_pid": self.server.process.pid}

        def look():
            status = self.status()
            return {"held": {"connections": status["connections"] - 1, "in_flight": status["runs_in_flight"],
                             "in_flight_bytes": status["bytes"]["in_flight"],
                             "session_users": sum(s["users"] for s in status["sessions"])},
                    "client": resources(pids["client_pid"]), "server": resources(pids["server_pid"]), **pids}
        with contextlib.suppress(TimeoutError):
            beds.wait_for(lambda: not too_much(look(), sides), "the end of what is over", limit_s)
        return look()

    def kill_server(self, empty_store=False):
        self.server.kill()
        if empty_store:
            shutil.rmtree(self.server.folder / "store")

    @contextlib.contextmanager
    def out_of_reach(self):
        """The server cannot be reached inside, so that it can be prepared."""
        self.link.cut()
        yield
        self.link.restore()

    def open_here(self):
        """What opening the model takes just now, for the record."""
        return self.program.ask("open")

    def stays_away(self, seconds):
        time.sleep(seconds)
        assert self.server_runs() == 0, "the fault was none: the server answers Runs"


# ---- the faults: strike(lane) returns when the server is back; a dictionary it returns goes into the record


def server_killed(lane):
    lane.kill_server()
    time.sleep(lane.random.uniform(0.2, 1.2))
    lane.server.start()


def server_stopped(lane):
    lane.server.stop()
    time.sleep(lane.random.uniform(1, 3))
    lane.server.go_on()


def link_cut(lane):
    lane.link.unplug()
    time.sleep(lane.random.uniform(1, 3))
    lane.link.plug()


def cut_in(direction):
    """Every other time the link is cut there for a second, else that connection is reset."""
    def strike(lane):
        size = lane.random.randrange(1, 40_000)
        if lane.random.random() < 0.5:
            accepted = lane.link.stats()[1]
            lane.link.after(direction, size, "reset")
            beds.wait_for(lambda: lane.link.stats()[1] > accepted, "the connection after the reset one")
            return
        lane.link.after(direction, size, "cut")
        time.sleep(1.2)
        lane.link.restore()
    return strike


def stalled(lane):
    lane.link.stall("both")
    time.sleep(10)
    lane.link.stall("both", on=False)


def trickle(lane):
    lane.link.trickle("both", lane.random.choice((50, 500, 5000)))
    time.sleep(lane.random.uniform(2, 4))
    lane.link.trickle("both", 0)


def empty_store(lane):
    lane.kill_server(empty_store=True)
    lane.server.start()
    return lane.open_here()


def disk_full(lane):
    ballast = lane.server.folder / "ballast"
    with lane.out_of_reach():
        lane.kill_server(empty_store=True)
        ballast.write_bytes(bytes(shutil.disk_usage(ballast.parent).free - DISK_LEFT_BYTES))
        lane.server.start()
        opened = lane.open_here()
    lane.stays_away(1.5)
    ballast.unlink()
    return opened


def memory_short(lane):
    with lane.out_of_reach():
        lane.kill_server()
        lane.server.start()
        pid = lane.server.process.pid
        pages = int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[0])
        resource.prlimit(pid, resource.RLIMIT_AS, (pages * resource.getpagesize() + SHORT_OF_MEMORY_BYTES,
                                                   resource.RLIM_INFINITY))
        opened = lane.open_here()
    lane.stays_away(1.5)
    resource.prlimit(pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return opened


def address_changed(lane):
    lane.link.move_device()


def client_forks(lane):
    assert "error" not in lane.program.ask("spawn")
    return lane.program.ask(f"fork {THREADS}")


def client_killed(lane):
    """Another program on the same server; this lane's own is the witness."""
    before = lane.status()
    victim = Program(lane.bed, lane.server, lane.model, plain=False)
    victim.ask("go")
    beds.wait_for(lambda: lane.status()["connections"] > before["connections"] + 1, "the Runs of the one to be killed")
    victim.process.kill()
    victim.process.wait()
    begin = time.monotonic()
    beds.wait_for(lambda: lane.status()["connections"] <= CONNECTIONS + 1, "the end of its connections")
    return {"forgotten_s": round(time.monotonic() - begin, 3)}


class Fault:
    def __init__(self, title, lane, strike, sees):
        self.title, self.lane, self.strike, self.sees = title, lane, strike, sees


LANES = {
    "relay": {},
    "direct": {"direct": True},
    "stall": {},
    "store": {"model": "large", "disk_bytes": DISK_BYTES},
    "move": {"direct": True},
}
# Played when those are over.
LATER_LANES = {"tls": {"secured": True}, "coded": {"direct": True, "coding": "zstd"}, "near": {"near": True},
               "auto": {"direct": True, "mode": "auto"}}
LANES.update(LATER_LANES)
_LATE = "The Runs under way take half a second longer, once; then all are computed here."
_HERE = "Runs are computed here."
FAULTS = {
    "server-killed": Fault("server killed", "direct", server_killed, _HERE),
    "server-stopped": Fault("server stopped (SIGSTOP)", "direct", server_stopped, _LATE),
    "link-cut": Fault("link cut, nobody is told", "direct", link_cut, _LATE),
    "cut-in-request": Fault("cut in the middle of a request", "relay", cut_in("up"), "That Run is computed here."),
    "cut-in-reply": Fault("cut in the middle of a reply", "relay", cut_in("down"), "That Run is computed here."),
    "stalled": Fault("stalled for 10 s", "stall", stalled, _LATE),
    "trickle": Fault("slow to a trickle (50 to 5,000 B/s)", "relay", trickle, _LATE),
    "empty-store": Fault("restarted with an empty store", "store", empty_store, f"{_HERE} The model is uploaded anew."),
    "disk-full": Fault("its disk full", "store", disk_full, _HERE),
    "memory-short": Fault("its memory short for the model", "store", memory_short, _HERE),
    "address-changed": Fault("client's address changed", "move", address_changed, _LATE),
    "client-forks": Fault("client forks", "relay", client_forks, "Nothing; the child has connections of its own."),
    "client-killed": Fault("client killed in mid-Run", "relay", client_killed, "Other clients: nothing."),
}

for variant, words in (("tls", "over TLS"), ("coded", "with coded tensors"), ("near", "over shared memory"),
                       ("auto", "with --mode auto")):
    for each in ("server-killed", "server-stopped", "link-cut"):
        if (variant, each) == ("near", "link-cut"):
            continue  # there is none
        of = FAULTS[each]
        FAULTS[f"{each}-{variant}"] = Fault(f"{of.title}, {words}", variant, of.strike, of.sees)

VANISHING = {"address-changed"}

# ---- what is asked of the records


def too_much(left, sides=("client", "server")):
    """Sentences on what is held although it is over; of a record, or of what left_over() sees."""
    held, said = left["held"], []
    # Of a client that vanished in the middle of a request the server still waits for the rest.
    if (held["in_flight"] or held["in_flight_bytes"]) and "server" in sides:
        said.append("the server holds Runs that are over")
    if held["connections"] > CONNECTIONS and "server" in sides:
        said.append("the server holds connections that are over")
    if held["session_users"] > held["connections"]:
        said.append("the server holds sessions that are over")
    for side in sides:
        if left[side]["sockets"] > SOCKETS:
            said.append(f"the {side} holds {left[side]['sockets']} sockets, where {SOCKETS} are right")
    return said


def sides_of(fault):
    """Those that must hold nothing after each round. What clients leave that vanish without a word is on the server for a
    while; the lane's end looks at it."""
    return ("client",) if fault in VANISHING else ("client", "server")


def local_us(record):
    """One local Run as it was at that moment under that load, with opening the model for it."""
    return record["plain_us"] + record["opened_us"]


def gap_limit_us(record):
    """A second and a local Run; twice that Run, because the longest that was seen is one of fewer."""
    return GAP_LIMIT_S * 1e6 + 2 * local_us(record)


def back_limit_s(record):
    """Five seconds; the server has to open the model, too, so what that took here at that moment is added, twice."""
    return BACK_LIMIT_S + 2 * local_us(record) / 1e6


def complaints(records):
    """Sentences on what is not as it should be, of the records of one fault in their order."""
    said = []
    for i, record in enumerate(records):
        def complain(what, record=record, i=i):
            said.append(f"{record['fault']}, round {i + 1}: {what}: {json.dumps(record)}")
        if record["failed"]:
            complain(f"{record['failed']} Runs failed")
        if record["wrong"]:
            complain(f"{record['wrong']} results are wrong")
        if record["runs"] < THREADS:
            complain("hardly any Runs")
        if record["longest_us"] > gap_limit_us(record):
            complain(f"a thread waited {record['longest_us'] / 1e3:.0f} ms, where {gap_limit_us(record) / 1e3:.0f} are right")
        # In mode auto Runs go where they are sooner done, which may be here. A handshake of TLS beside four programs without
        # pause takes its time.
        lane = FAULTS[record["fault"]].lane
        limit_s = back_limit_s(record) * (2 if lane in LATER_LANES else 1)
        if record["back_s"] > limit_s and LANES[lane].get("mode") != "auto":
            complain(f"Runs were back on the server after {record['back_s']} s")
        for what in too_much(record, sides_of(record["fault"])):
            complain(what)
    said += leaks(records)
    return said


def leaks(records):
    """What grew from the second round to the last; a server that was restarted begins anew."""
    said = []
    for side in sides_of(records[0]["fault"]) if records else ():
        known = [r[side] for r in records if r[f"{side}_pid"] == records[-1][f"{side}_pid"]][1:]
        if len(known) < 2:
            continue
        more_memory = MORE_MEMORY_KIB[LANES[FAULTS[records[0]["fault"]].lane].get("model", "small")] + 4 * len(known)
        for what, most in (("files", MORE_FILES), ("threads", MORE_THREADS), ("memory_kib", more_memory)):
            if known[-1][what] > known[0][what] + most:
                said.append(f"{records[0]['fault']}: {what} of the {side} grew from {known[0][what]} to {known[-1][what]}"
                            f" in {len(known)} rounds")
    return said


# ---- playing


class Faults:
    """Plays `rounds` of each of the named faults. `records` has what `known` had, and all that was played; `errors` is
    what ended a lane before its time."""

    def __init__(self, build, rounds, names=None, known=(), tell=lambda record: None):
        self.build, self.rounds = pathlib.Path(build), rounds
        self.names = list(names or FAULTS)
        self.records = {name: [r for r in known if r["fault"] == name] for name in self.names}
        self.errors = {}
        self._tell, self._lock = tell, threading.Lock()

    def play(self):
        with beds.Bed(self.build) as bed:
            (bed.folder / "models").mkdir()
            fault_models.write(bed.folder / "models")
            for later in (False, True):
                lanes = {}
                for name in self.names:
                    if len(self.records[name]) < self.rounds_of(name) and (FAULTS[name].lane in LATER_LANES) == later:
                        lanes.setdefault(FAULTS[name].lane, []).append(name)
                made = {name: Lane(bed, name, **LANES[name]) for name in lanes}
                threads = [threading.Thread(target=self._play_lane, args=(made[name], faults))
                           for name, faults in lanes.items()]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()

    def rounds_of(self, name):
        """What is the same over another transport or in another mode gets two fifths of the rounds."""
        return -(-2 * self.rounds // 5) if FAULTS[name].lane in LATER_LANES else self.rounds

    def _play_lane(self, lane, faults):
        try:
            for fault in faults:
                while len(self.records[fault]) < self.rounds_of(fault):
                    record = lane.play(fault)
                    with self._lock:
                        self.records[fault].append(record)
                        self._tell(record)
            lane.program.ask("pause")
            left = lane.left_over(VANISHED_S)
            assert not too_much(left), f"{'; '.join(too_much(left))}: {left}"
            assert max(left["server"]["files"], left["server"]["threads"]) <= CONNECTIONS + 24, left
            reports = lane.program.end()
            transports = {s["transport"] for r in reports for s in r["servers"]}
            assert transports == {lane.transport}, transports
            codings = [s["coding"]["used"] for r in reports for s in r["sessions"]]
            assert lane.coding is None or any(lane.coding in used for used in codings), codings
        except Exception as e:  # of a thread: reported by whoever looks at `errors`
            self.errors[lane.name] = f"{type(e).__name__}: {e} (while playing {fault})"
            print(f"lane {lane.name}: {self.errors[lane.name]}", file=sys.stderr, flush=True)


# ---- the table


def table(records):
    """Markdown, of {fault: records}."""
    lines = ["| fault | what the user sees | rounds | Runs | failed or wrong | longest gap, ms | one local Run then, ms |"
             " back on the server, s: median, longest |", "| --- | --- | --- | --- | --- | --- | --- | --- |"]
    for name, fault in FAULTS.items():
        rows = records.get(name)
        if not rows:
            continue
        worst = max(rows, key=lambda r: r["longest_us"] - local_us(r))
        back = sorted(r["back_s"] for r in rows)
        lines.append(f"| {fault.title} | {fault.sees} | {len(rows):,} | {sum(r['runs'] for r in rows):,} |"
                     f" {sum(r['failed'] + r['wrong'] for r in rows)} | {worst['longest_us'] / 1e3:.0f} |"
                     f" {local_us(worst) / 1e3:.0f} | {back[len(back) // 2]:.2f}, {back[-1]:.2f} |")
    return "\n".join(lines)


def write_page(page, records, command):
    """Between the page's marks."""
    begin, end = "<!-- the table begins -->\n", "<!-- the table ends -->"
    before, _, rest = page.read_text().partition(begin)
    machine = common.machine()
    page.write_text(f"{before}{begin}`{command}`, {machine['cores']} cores ({machine['cpu']}), load before it"
                    f" {machine['load_1min']}, commit {machine['commit']}, {machine['time_utc']}:\n\n{table(records)}\n"
                    f"{end}{rest.partition(end)[2]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--faults", help=f"default: all of {', '.join(FAULTS)}")
    parser.add_argument("--output", type=pathlib.Path)
    parser.add_argument("--page", action="store_true")
    arguments = parser.parse_args()
    names = arguments.faults.split(",") if arguments.faults else list(FAULTS)
    unknown = [n for n in names if n not in FAULTS]
    if unknown:
        parser.error(f"no fault is called ({unknown[0]}); there are {', '.join(FAULTS)}")
    if beds.skip_loudly("real faults"):
        return 0
    known = []
    if arguments.output and arguments.output.exists():
        known = [record for record in map(json.loads, arguments.output.read_text().splitlines())
                 if "sockets" in record["client"]]  # those of an older version cannot be judged
        print(f"{len(known)} rounds are in {arguments.output} already", flush=True)
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
    played = len(known)

    def tell(record):
        nonlocal played
        played += 1
        if arguments.output:
            with open(arguments.output, "a", encoding="utf-8") as out:
                out.write(json.dumps(record) + "\n")
        print(f"{time.strftime('%H:%M:%S')} {played}/{len(names) * arguments.rounds} {record['fault']}:"
              f" {record['runs']} Runs, longest {record['longest_us'] / 1e3:.0f} ms (one here"
              f" {record['plain_us'] / 1e3:.0f}), back after {record['back_s']} s", flush=True)

    faults = Faults(arguments.build.absolute(), arguments.rounds, names, known, tell)
    faults.play()
    print("\n" + table(faults.records))
    if arguments.page:
        write_page(PAGE, faults.records, " ".join(["tests/net/faults.py", *sys.argv[1:]]))
    wrong = [f"lane {lane}: {error}" for lane, error in faults.errors.items()]
    for name in names:
        wrong += complaints(faults.records[name])
    for sentence in wrong:
        print(sentence, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
