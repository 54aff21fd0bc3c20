# SPDX-License-Identifier: Apache-2.0
"""What a Run through Outboard takes beyond the same Run in the process, and what it takes through gRPC.

Every kind of Run has a process of its own that sleeps until it is told to make Runs for a moment (bench/worker.h): the
program in-process; the same program under `outboard run` over shared memory, a unix socket, TCP loopback and a link of
1 Gbit/s; and gRPC clients of a service written by hand and of the Open Inference Protocol (bench/grpc) over the same.
In each round every kind makes one block of Runs, in an order drawn anew, so whatever else the machine does hits all.
Rows are medians over the rounds; a comparison is made within each round, and its interval is a bootstrap's over rounds.
Both sides compute with one thread each, so that the engines do the same work and what differs is the way there.
"""
import contextlib
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time

import common

sys.path.insert(0, str(common.ROOT / "tests/net"))
import bed  # noqa: E402

# Model, callers, seconds, milliseconds of a block (a block is at least one Run of each caller).
PLAN = (
    ("tiny", 1, 30, 25), ("tiny", 4, 20, 40), ("tiny", 16, 20, 60),
    ("mobilenet-v2", 1, 30, 60), ("mobilenet-v2", 4, 30, 80), ("mobilenet-v2", 16, 30, 100),
    ("resnet-50", 1, 70, 100), ("resnet-50", 4, 80, 200),
    ("vgg-16", 1, 60, 100), ("bert-base", 1, 60, 100),
    ("bytes-16mb", 1, 45, 100), ("bytes-16mb", 4, 45, 150),
)
LEAST_ROUNDS = 3
MOST_RUNS = 4000  # of one caller in one block
BYTES = 4 * 4194304
ADDED_GOALS_US = {("tiny", "tcp", 1): 30, ("tiny", "shm", 1): 15}
# A way there: the kinds that take it.
WAYS = {"shm": ("outboard-shm",), "unix": ("outboard-unix", "grpc-unix", "oip-unix"),
        "tcp": ("outboard-tcp", "grpc-tcp", "oip-tcp"), "1gbps": ("outboard-1gbps", "grpc-1gbps", "oip-1gbps")}


def run(quick):
    bench = common.Bench("offload", quick=quick)
    only = os.environ.get("OFFLOAD_ONLY", "")
    plan = [row for row in PLAN if only in f"{row[0]}/{row[1]}"]
    models = {name: common.model(name) for name in dict.fromkeys(["tiny", *(m for m, *_ in plan)])}
    has_grpc = build_peers()
    with contextlib.ExitStack() as stack:
        place = Place(stack, models, has_grpc)
        own_kind = None
        if has_grpc:
            interface, own_kind = place.choose_own_kind(quick)
            place.start_grpc(interface, models)
        for number, (model, callers, seconds, block_ms) in enumerate(plan):
            print(f"   [{number + 1}/{len(plan)}] {model}, {callers} callers", flush=True)
            with place.workers(model, own_kind) as workers:
                measured = Measured(workers, callers, 1 if quick else seconds, block_ms)
                add_rows(bench, model, callers, measured)
                if callers == 1:
                    add_costs(bench, model, workers, measured)
    return bench.finish()


def build_peers():
    """Whether the gRPC peers are there; they are built now if gRPC is."""
    got = subprocess.run(["cmake", "--build", str(common.BUILD), "--target", "bench_grpc"], capture_output=True,
                         text=True, check=False)
    if got.returncode != 0:
        print("   !! no gRPC peers: run scripts/install-deps.sh, then cmake --preset release "
              f"({(got.stderr or got.stdout).strip().splitlines()[-1:]})", flush=True)
    return got.returncode == 0


class Link:
    """A network namespace at the end of a link of 1 Gbit/s; `why_not` where there is none."""

    def __init__(self, stack):
        self.name = f"{bed.MARK}{os.getpid()}-client"
        net = 64 + os.getpid() % 64
        self.host = f"100.{net}.{os.getpid() // 64 % 256}.1"
        self.why_not = bed.lacks()
        try:
            if self.why_not is None:
                self._make(stack)
        except bed.Unavailable as e:
            self.why_not = str(e)
        if self.why_not:
            print(f"   !! SKIPPED: rows over 1 Gbit/s: {self.why_not}", flush=True)

    def _make(self, stack):
        bed.remove_stale()
        here, there = f"ob{os.getpid()}", "eth0"
        bed.ip("netns", "add", self.name)
        stack.callback(bed.remove_namespace, self.name)
        bed.ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", self.name)
        bed.ip("addr", "add", f"{self.host}/30", "dev", here)
        bed.ip("link", "set", here, "up")
        bed.ip("-n", self.name, "addr", "add", f"{self.host[:-1]}2/30", "dev", there)
        for device in (there, "lo"):
            bed.ip("-n", self.name, "link", "set", device, "up")
        for namespace, device in ((None, here), (self.name, there)):
            bed.shape(namespace, device, 1e9, burst_bytes=256 << 10, queue_s=0.02)

    def command(self):
        return ["ip", "netns", "exec", self.name]


class Place:
    """Servers, links, and how a worker of each kind is started."""

    def __init__(self, stack, models, has_grpc):
        self.work = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self.models, self.has_grpc = models, has_grpc
        self.library, self.link = common.ort_library(), Link(stack)
        listen = ["--listen", f"unix:{self.work}/outboard"]
        if not self.link.why_not:
            # What isolation costs is bench/isolation.py's.
            listen += ["--listen", f"{self.link.host}:0", "--insecure", "--isolation", "off"]
        server = stack.enter_context(common.Server(self.work, "--threads", 1, *listen, listen="127.0.0.1:0"))
        lines = (self.work / "ready").read_text().split()
        self.outboard = {"tcp": server.address, "unix": f"unix:{self.work}/outboard"}
        if not self.link.why_not:
            self.outboard["1gbps"] = next(a for a in lines if a.startswith(self.link.host))
        self._stack = stack
        self._grpc = None

    def start_grpc(self, interface, models):
        if self._grpc is not None:
            self._grpc.terminate()
            self._grpc.wait()
        addresses = ["127.0.0.1:0", f"unix:{self.work}/grpc"]
        if not self.link.why_not:
            addresses.append(f"{self.link.host}:0")
        self._grpc = subprocess.Popen(
            [common.program("bench/bench_grpc_server"), self.library, "1", interface, ",".join(addresses),
             *[f"{n}={p}" for n, p in models.items()]], stdout=subprocess.PIPE, text=True)
        ready = self._grpc.stdout.readline().split()
        if len(ready) != 1 + len(addresses):
            raise common.Missing("bench_grpc_server did not start")
        self._stack.callback(self._grpc.kill)
        self.grpc = {"tcp": f"127.0.0.1:{ready[1]}", "unix": f"unix:{self.work}/grpc",
                     "1gbps": f"{self.link.host}:{ready[-1]}"}

    def choose_own_kind(self, quick):
        """The quickest of gRPC's interfaces on the tiny model: what its documentation leaves to a measurement."""
        best = None
        for interface, kind in (("callback", "own"), ("sync", "own-stream"), ("sync", "own")):
            self.start_grpc(interface, {"tiny": self.models["tiny"]})
            with self.worker([common.program("bench/bench_grpc_client"), self.grpc["tcp"], "tiny", kind]) as worker:
                worker.block(1, 50, MOST_RUNS)
                p50 = statistics.median(worker.block(1, 100 if quick else 500, 20000)["times_us"])
            print(f"   gRPC {kind} with the {interface} server: p50 {p50:.1f} us", flush=True)
            if best is None or p50 < best[0]:
                best = (p50, interface, kind)
        return best[1:]

    @contextlib.contextmanager
    def worker(self, command, environment=None):
        worker = Worker(command, environment)
        try:
            yield worker
        finally:
            worker.stop()

    @contextlib.contextmanager
    def workers(self, model, own_kind):
        """Kind -> worker, all of which have computed the same."""
        plain = [common.program("bench/bench_offload"), self.library, self.models[model], "1"]
        commands = {"in-process": (plain, None)}

        def outboard(way, address, prefix=(), **environment):
            # An input that is the same each time would travel as its hash, which nobody else's does.
            # A second try of a late Run would not be the server's.
            commands[f"outboard-{way}"] = ([*prefix, common.program(), "run", "--server", address, "--mode", "remote",
                                            "--coding", "off", "--json", self.work / f"{model}-{way}.json", "--", *plain],
                                           {"OUTBOARD_HEDGING": "off", **environment})
        outboard("shm", self.outboard["unix"])
        outboard("unix", self.outboard["unix"], OUTBOARD_SHARED_MEMORY="off")
        outboard("tcp", self.outboard["tcp"])
        if not self.link.why_not:
            outboard("1gbps", self.outboard["1gbps"], self.link.command(), OUTBOARD_INSECURE="1")
        for way in ("unix", "tcp", "1gbps"):
            if not self.has_grpc or (way == "1gbps" and self.link.why_not):
                continue
            prefix = self.link.command() if way == "1gbps" else []
            client = [*prefix, common.program("bench/bench_grpc_client"), self.grpc[way], model]
            commands[f"grpc-{way}"] = ([*client, own_kind], None)
            commands[f"oip-{way}"] = ([*client, "oip"], None)
        if model == "bytes-16mb":
            for way in ("unix", "tcp"):
                commands[f"bare-{way}"] = ([common.program("bench/bench_bare"), way, BYTES], None)
        with contextlib.ExitStack() as stack:
            started = {kind: stack.enter_context(self.worker(*c)) for kind, c in commands.items()}
            hashes = {kind: w.ask("hash")["hash"] for kind, w in started.items() if not kind.startswith("bare")}
            if len(set(hashes.values())) != 1:
                raise common.Missing(f"the outputs of {model} are not the same everywhere: {hashes}")
            yield started
        for way in ("shm", "unix", "tcp", "1gbps"):
            report = self.work / f"{model}-{way}.json"
            if report.exists():
                all_on_the_server(report, way)
                report.unlink()


class Worker:
    def __init__(self, command, environment):
        self.process = subprocess.Popen([str(c) for c in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, env={**os.environ, **(environment or {})})
        self.start = self._answer()

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise common.Missing(f"a measuring program ended: {self.process.args}")
        return json.loads(line)

    def ask(self, request):
        self.process.stdin.write(request + "\n")
        self.process.stdin.flush()
        return self._answer()

    def block(self, callers, ms, most):
        return self.ask(f"block {callers} {ms} {most}")

    def stop(self):
        try:
            self.process.stdin.write("quit\n")
            self.process.stdin.close()
            self.process.wait(20)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()


def all_on_the_server(report, way):
    """A Run that was not remote, or not by this way, would falsify the figures."""
    transport = {"shm": "shared memory", "unix": "unix"}.get(way, "tcp")
    for process in json.loads(report.read_text())["processes"]:
        for session in process["sessions"]:
            runs = session["runs"]
            if runs["server"] == 0 or runs["local"] > 0 or runs["failed"] > 0:
                raise common.Missing(f"not every Run over {way} was on the server: {runs}")
        if process["servers"][0]["transport"] != transport:
            raise common.Missing(f"Runs over {way} went by {process['servers'][0]['transport']}")


class Measured:
    """Rounds of one block of each kind."""

    def __init__(self, workers, callers, seconds, block_ms):
        self.callers, self.rounds = callers, []
        order, draw = list(workers), random.Random(1)
        for worker in workers.values():
            worker.block(callers, 1, 3)  # connections, buffers
        begin = time.monotonic()
        while len(self.rounds) < LEAST_ROUNDS or time.monotonic() - begin < seconds:
            draw.shuffle(order)
            got = {kind: workers[kind].block(callers, block_ms, MOST_RUNS) for kind in order}
            self.rounds.append({kind: self._figures(block) for kind, block in got.items()})
        self.kinds = list(workers)

    @staticmethod
    def _figures(block):
        times = block["times_us"]
        return {"p50": statistics.median(times), "times": times, "runs_per_s": len(times) / block["wall_us"] * 1e6,
                "cpu_us": block["cpu_us"] / len(times), "memory_kb": block["memory_kb"]}

    def series(self, kind, figure):
        return [r[kind][figure] for r in self.rounds]

    def p99(self, kind):
        """Of all Runs; None where they are too few to have one."""
        times = sorted(t for r in self.rounds for t in r[kind]["times"])
        return times[int(0.99 * len(times))] if len(times) >= 100 else None

    def added(self, kind):
        return [r[kind]["p50"] - r["in-process"]["p50"] for r in self.rounds]

    def ratio(self, kind, other, figure):
        return [r[kind][figure] / r[other][figure] for r in self.rounds]


def interval(values):
    """The 95 % interval of the median: a bootstrap over rounds."""
    draw = random.Random(1)
    medians = sorted(statistics.median(draw.choices(values, k=len(values))) for _ in range(1000))
    return medians[25], medians[974]


def add_rows(bench, model, callers, measured):
    row = f"{model}/{callers}"
    bench.samples(f"{row}/in-process/p50", measured.series("in-process", "p50"), "us", "lower")
    bench.samples(f"{row}/in-process/runs_per_s", measured.series("in-process", "runs_per_s"), "1/s", "higher")
    own_p99 = measured.p99("in-process")
    for way, kinds in WAYS.items():
        for kind in (k for k in kinds if k in measured.kinds):
            name = f"{row}/{way}/{kind.rsplit('-', 1)[0]}"
            ours = kind.startswith("outboard")
            bench.samples(f"{name}/added_p50", measured.added(kind), "us", "lower",
                          goal=ADDED_GOALS_US.get((model, way, callers)) if ours else None)
            p99 = measured.p99(kind)
            if p99 is not None and own_p99 is not None:
                bench.row(f"{name}/added_p99", p99 - own_p99, "us", "lower")
            more = {"goal": 0.97} if (model, way) == ("resnet-50", "shm") else {}
            bench.samples(f"{name}/runs_per_s", measured.series(kind, "runs_per_s"), "1/s", "higher")
            bench.samples(f"{name}/runs_per_s_of_in_process", measured.ratio(kind, "in-process", "runs_per_s"), "", "higher",
                          **more)
            bench.samples(f"{name}/client_cpu_per_run", measured.series(kind, "cpu_us"), "us", "lower")
        compare(bench, row, way, measured)
    if model == "bytes-16mb" and callers == 1:
        for way in ("unix", "tcp"):
            bench.samples(f"{row}/{way}/bare/p50", measured.series(f"bare-{way}", "p50"), "us", "lower")
            shares = [r[f"bare-{way}"]["p50"] / max(r[f"outboard-{way}"]["p50"] - r["in-process"]["p50"], 1)
                      for r in measured.rounds]
            bench.samples(f"{row}/{way}/outboard/of_bare_sockets", shares, "", "higher", goal=0.95)
    say(measured)


def compare(bench, row, way, measured):
    """Outboard against each peer by the same way (shared memory: against gRPC's unix socket), round by round."""
    ours, peers_way = f"outboard-{way}", "unix" if way == "shm" else way
    for peer in ("grpc", "oip"):
        theirs = f"{peer}-{peers_way}"
        if ours not in measured.kinds or theirs not in measured.kinds:
            continue
        name = f"{row}/{way}/outboard_vs_{peer}"
        added = [t - o for o, t in zip(measured.added(ours), measured.added(theirs))]
        # Behind is what has its whole interval on the wrong side of 0, or of 1.
        low, high = interval(added)
        bench.row(f"{name}/added_time_saved_bound", high, "us", "higher", goal=0,
                  baseline="median", baseline_value=statistics.median(added), spread=(high - low) / 2)
        for figure, better, label in (("p50", "lower", "total_time"), ("runs_per_s", "higher", "runs_per_s"),
                                      ("cpu_us", "lower", "client_cpu")):
            ratios = measured.ratio(ours, theirs, figure)
            low, high = interval(ratios)
            bench.row(f"{name}/{label}_ratio_bound", low if better == "lower" else high, "", better, goal=1,
                      baseline="median", baseline_value=statistics.median(ratios), spread=(high - low) / 2)


def say(measured):
    """Progress: the median added time of each kind."""
    parts = [f"{kind} {statistics.median(measured.added(kind)):.0f}" for kind in measured.kinds if kind != "in-process"]
    print(f"      in-process {statistics.median(measured.series('in-process', 'p50')):.0f} us, {len(measured.rounds)} rounds;"
          f" added us: {', '.join(parts)}", flush=True)


def add_costs(bench, model, workers, measured):
    """Start-up and memory, of the tiny model and one of a real size: beyond the program's own where it is Outboard."""
    if model not in ("tiny", "resnet-50"):
        return
    for kind, worker in workers.items():
        bench.row(f"{model}/{kind}/session_creation", worker.start["create_ms"], "ms", "lower")
        busy = statistics.median(measured.series(kind, "memory_kb")) / 1e3
        bench.row(f"{model}/{kind}/memory_idle", worker.start["memory_kb"] / 1e3, "MB", "lower")
        bench.row(f"{model}/{kind}/memory_busy", busy, "MB", "lower")
    own = workers["in-process"].start["memory_kb"]
    if model == "tiny":
        for way in ("shm", "tcp"):
            bench.row(f"{model}/{way}/outboard/idle_beyond_program", (workers[f"outboard-{way}"].start["memory_kb"] - own) / 1e3,
                      "MB", "lower", goal=8)
