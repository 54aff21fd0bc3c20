# SPDX-License-Identifier: Apache-2.0
"""Real splits: every scheme executed by the same engine over TCP between network namespaces, beside one node.

Two nodes have a core each. Three and four are paced: every compute step is stretched to its processor time / S, and so is
the single node beside it (docs/split.md). Needs root. What is expected to take how long is said before. All of it is about
twenty minutes, for a machine that is quiet; in parts, whose rows are kept for as long as the program is the same, so that
the last part's table and build/bench/split.json have those of all:

    OUTBOARD_SPLIT_PARTS=two,three,four,slow-link,batch,unequal,changes,ablation bench/run split     (default: all)
    OUTBOARD_SPLIT_MODELS=vgg-16,openpose-body25,resnet-50                                  (default: those of each part)
    OUTBOARD_SPLIT_SCHEMES=auto,halp,dpfp,tiles,modnn                                       (default: those of each part)
    OUTBOARD_SPLIT_FRESH=1                                                                  (measures these again)
"""
import hashlib
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

from common import ROOT, Bench, Missing, RESULTS, Samples, figure, model, ort_library, program, wait_ready

sys.path.insert(0, str(ROOT / "tests/net"))
import bed  # noqa: E402

SCHEMES = ["auto", "halp", "modnn", "dpfp", "tiles"]  # and one node alone beside each
# N x S is at most 1.6 on two cores: what is paced must always get the processor time that it is promised.
PACE = {3: 0.5, 4: 0.4}
FRAMES = {"vgg-16": 30, "openpose-body25": 6, "resnet-50": 60}  # of the baselines a third
SINGLE_S = {"vgg-16": 0.3, "openpose-body25": 2.7, "resnet-50": 0.09}  # one node, for what a row is expected to take
# What our plan is worth without one of its pieces.
ABLATION = ["overlap", "fusing", "head", "layout"]
# part: (nodes, Mbit/s, images at once, models, shares of speed or None, goals by model)
PARTS = {
    "two": (2, 1000, 1, ["vgg-16", "openpose-body25", "resnet-50"], None,
            {"vgg-16": 1.75, "openpose-body25": 1.9, "resnet-50": 1.3}),
    "three": (3, 1000, 1, ["vgg-16", "openpose-body25", "resnet-50"], None,
              {"vgg-16": 2.4, "openpose-body25": 2.7, "resnet-50": 1.8}),
    "four": (4, 1000, 1, ["vgg-16"], None, {"vgg-16": 2.8}),
    "slow-link": (3, 100, 1, ["vgg-16"], None, {"vgg-16": 2.1}),
    "batch": (3, 1000, 4, ["vgg-16"], None, {"vgg-16": 2.7}),
    "unequal": (3, 1000, 1, ["vgg-16"], [1, 0.5, 0.25], {"vgg-16": 0.9 * 1.75}),
    "ablation": (2, 1000, 1, ["vgg-16", "resnet-50"], None, {}),
}


EVERYTHING = [*(key for key in PARTS if key != "ablation"), "changes", "ablation"]


def schemes_of(key, name):
    wanted = os.environ.get("OUTBOARD_SPLIT_SCHEMES", "")
    return [s for s in all_schemes_of(key, name) if not wanted or s in wanted.split(",")]


def all_schemes_of(key, name):
    if key == "unequal":
        return ["auto"]
    if key == "ablation":
        return [f"auto without {what}" for what in ABLATION] + ["auto in sandboxes"]
    # BODY_25 takes seconds a frame, and so does a batch: the baselines that are the best with other models.
    if name == "openpose-body25":
        return ["auto", "dpfp"] if key == "two" else ["auto"]
    return ["auto", "dpfp", "halp"] if key == "batch" else SCHEMES


def frames_of(name, scheme, tasks, quick):
    if quick:
        return 3
    return max(3, FRAMES[name] // tasks // (1 if scheme.startswith("auto") else 3))


def expected_s(key, name, scheme, quick):
    """Frames, each beside one of a single node, and setting the plan up, which tries it and one node several times."""
    count, _, tasks, _, shares, _ = PARTS[key]
    pace = PACE.get(count, 1)
    single_s = SINGLE_S[name]
    return (frames_of(name, scheme, tasks, quick) + 1) * 1.7 * tasks * single_s / pace + single_s * (8 + 8 / pace) + 4


def part_expected_s(key, name, kept, quick):
    left = [s for s in schemes_of(key, name) if label_of(key, name, s) not in kept.rows]
    return sum(expected_s(key, name, s, quick) for s in left) + (10 if left else 0)


def label_of(key, name, scheme):
    count, mbps, tasks, _, shares, _ = PARTS[key]
    return f"{name}/{count} nodes/{mbps} Mbps/{tasks} images{'/unequal' if shares else ''}/{scheme}"


class Nodes:
    """N namespaces on one bridge, each behind tbf at this rate; in all but the first an `outboard serve`."""

    def __init__(self, count, mbps, folder, cores, isolation="off", log_level="warn"):
        self.count, self.mbps, self.folder, self.cores, self.isolation = count, mbps, folder, cores, isolation
        self.log_level = log_level
        self.hub = f"{bed.MARK}{os.getpid()}-hub"
        self.servers, self.made = [], []

    def name(self, i):
        return f"{bed.MARK}{os.getpid()}-node{i}"

    def address(self, i):
        return f"10.213.0.{i + 1}:7070"

    def local(self, i):
        """A way to the node that does not lead through its link."""
        return f"unix:{self.folder}/socket{i}"

    def __enter__(self):
        try:
            self._build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _build(self):
        bed.remove_stale()
        self._make(self.hub)
        bed.ip("-n", self.hub, "link", "add", "name", "bridge0", "type", "bridge")
        bed.ip("-n", self.hub, "link", "set", "bridge0", "up")
        for i in range(self.count):
            self._make(self.name(i))
            bed.ip("link", "add", "eth0", "netns", self.name(i), "type", "veth", "peer", "name", f"p{i}", "netns", self.hub)
            bed.ip("-n", self.hub, "link", "set", f"p{i}", "master", "bridge0")
            bed.ip("-n", self.name(i), "addr", "add", f"10.213.0.{i + 1}/24", "dev", "eth0")
            for where, device in ((self.name(i), "lo"), (self.name(i), "eth0"), (self.hub, f"p{i}")):
                bed.ip("-n", where, "link", "set", device, "up")
        self.shape(self.mbps)
        peers = [self.address(i) for i in range(1, self.count)]
        for i in range(1, self.count):
            ready = os.path.join(self.folder, f"ready{i}")
            others = [p for k, p in enumerate(peers) if k != i - 1]
            command = [program(), "serve", "--insecure", "--listen", self.address(i), "--listen", self.local(i), "--threads", "1",
                       "--isolation", self.isolation, "--store", os.path.join(self.folder, f"store{i}"), "--ready-file", ready, "--log-level", self.log_level]
            # Naming the others lets nodes talk to each other; what they serve to clients is not split here.
            if others:
                command += ["--peers", ",".join(others)]
            with open(os.path.join(self.folder, f"server{i}.log"), "wb") as log:
                self.servers.append(subprocess.Popen(self.inside(i, command), stdout=log, stderr=log))
        for i in range(1, self.count):
            wait_ready(self.servers[i - 1], os.path.join(self.folder, f"ready{i}"), os.path.join(self.folder, f"server{i}.log"))

    def _make(self, name):
        bed.ip("netns", "add", name)
        self.made.append(name)

    def shape(self, mbps):
        """All links at this rate, from now on: both directions of each node's interface."""
        for i in range(self.count):
            for where, device in ((self.name(i), "eth0"), (self.hub, f"p{i}")):
                # A burst below a segment of TCP (64 KiB and headers) would have the sender's processor cut each into
                # packets, which a real interface does: 1.2 to 1.8 ms of it for 300 kB instead of 0.2.
                bed.shape(where, device, mbps * 1e6, burst_bytes=68 << 10, queue_s=0.05)

    def inside(self, i, command):
        core = ["taskset", "-c", str(i % os.cpu_count())] if self.cores else []
        return ["ip", "netns", "exec", self.name(i), *core, *map(str, command)]

    def __exit__(self, *_):
        for server in self.servers:
            bed.end(server)
        for name in reversed(self.made):
            bed.remove_namespace(name)


def cluster_file(nodes, pace, shares, folder, profile, links=None):
    """What `outboard split` is given: all namespaces share one processor, so one profile, stretched as each node is."""
    described = []
    for i in range(nodes.count):
        stretch = pace * (shares[i] if shares else 1) if pace else 0
        by = stretch or 1
        described.append({**profile, "name": f"n{i}", "address": nodes.address(i), "pace": stretch,
                          "flops_per_s": profile["flops_per_s"] * by, "call_us": profile["call_us"] / by,
                          "units": {unit: {"rows": curve["rows"], "time_us": [t / by for t in curve["time_us"]]}
                                    for unit, curve in profile.get("units", {}).items()}})
    path = os.path.join(folder, "cluster.json")
    with open(path, "w") as file:
        json.dump({"host": "n0", "nodes": described, **({"links": links} if links else {})}, file)
    return path


def outboard(command, limit_s=300):
    try:
        got = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit_s,
                             env=dict(os.environ, OUTBOARD_ORT_LIBRARY=str(ort_library()), XDG_CACHE_HOME=str(RESULTS / "cache")))
    except subprocess.TimeoutExpired as late:
        raise RuntimeError(f"{' '.join(map(str, command[:6]))}: not done within {limit_s:.0f} s") from late
    if got.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command[:6]))}: {got.stderr.strip()[-500:]}")
    return got


def program_hash():
    return hashlib.sha256(program().read_bytes()).hexdigest()


def profile_of(name):
    """Time against rows on one core; kept for as long as the program and the model are the same."""
    path = RESULTS / f"split-profile-{name}-{program_hash()[:12]}.json"
    if not path.exists() or path.stat().st_mtime < os.path.getmtime(model(name)):
        print(f"{name}: measuring time against rows", file=sys.stderr, flush=True)
        RESULTS.mkdir(parents=True, exist_ok=True)
        core = ["taskset", "-c", "0"] if os.cpu_count() > 1 else []
        outboard([*core, program(), "profile", model(name), "--rows", "--threads", "1", "--output", path])
    return json.loads(path.read_text())


def split(nodes, verb, name, path, *arguments, limit_s=300):
    return outboard(nodes.inside(0, [program(), "split", verb, model(name), "--cluster", path, "--insecure", *arguments]), limit_s)


class Kept:
    """Rows by label, and what else was measured, of this program; a later run measures what is not there."""

    def __init__(self, quick):
        self.path = RESULTS / f"split-kept{'-quick' if quick else ''}.json"
        self.program = program_hash()
        try:
            kept = json.loads(self.path.read_text())
        except (OSError, ValueError):
            kept = {}
        rows = kept["rows"] if kept.get("program") == self.program else {}
        self.rows = {label: row for label, row in rows.items() if "error" not in row}
        if self.rows:
            print(f"beside {len(self.rows)} rows that {self.path} has", file=sys.stderr)

    def forget(self, labels):
        self.rows = {label: row for label, row in self.rows.items() if label not in labels}

    def keep(self, label, row):
        self.rows[label] = row
        RESULTS.mkdir(parents=True, exist_ok=True)
        scratch = self.path.with_suffix(f".{os.getpid()}")
        scratch.write_text(json.dumps({"program": self.program, "rows": self.rows}))
        scratch.replace(self.path)


def measure_part(key, name, kept, quick):
    """Every scheme of a part for one model."""
    count, mbps, _, _, shares, _ = PARTS[key]
    labels = {scheme: label_of(key, name, scheme) for scheme in schemes_of(key, name)}
    if all(label in kept.rows for label in labels.values()):
        return
    folder = tempfile.mkdtemp(prefix="outboard-split-")
    profile = profile_of(name)
    try:
        for isolation in ("off", "on"):
            wanted = {s: label for s, label in labels.items() if (s == "auto in sandboxes") == (isolation == "on")}
            if all(label in kept.rows for label in wanted.values()):
                continue
            of_nodes = os.path.join(folder, f"isolation-{isolation}")
            os.mkdir(of_nodes)
            with Nodes(count, mbps, of_nodes, cores=count == 2, isolation=isolation) as nodes:
                for i in range(1, count):  # not through the shaped link
                    outboard([program(), "push", model(name), nodes.local(i)])
                path = cluster_file(nodes, PACE.get(count, 0), shares, folder, profile,
                                    links_of(nodes, name, folder, profile))
                for scheme, label in wanted.items():
                    if label not in kept.rows:
                        kept.keep(label, measure_row(key, name, scheme, nodes, path, folder, quick))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


LINKS = {}  # by number of nodes and rate, once measured


def links_of(nodes, name, folder, profile):
    if (nodes.count, nodes.mbps) not in LINKS:
        found = os.path.join(folder, "measured.json")
        split(nodes, "plan", name, cluster_file(nodes, 0, None, folder, profile), "--output", found, "--effort", 0.1)
        with open(found) as file:
            LINKS[nodes.count, nodes.mbps] = json.load(file)["links"]
    return LINKS[nodes.count, nodes.mbps]


def stolen_s(cores="cpu"):
    """Processor time that this machine's host gave to others, of all cores or of one, so far."""
    lines = (line.split() for line in pathlib.Path("/proc/stat").read_text().splitlines())
    return next(int(line[8]) for line in lines if line[0] == cores) / os.sysconf("SC_CLK_TCK")


def measure_row(key, name, scheme, nodes, path, folder, quick):
    """One scheme beside one node; a row with an error where it fails or takes too long, so that the others are measured."""
    tasks, seconds = PARTS[key][2], expected_s(key, name, scheme, quick)
    print(f"{key}: {label_of(key, name, scheme)}: about {seconds:.0f} s", file=sys.stderr, flush=True)
    trace = os.path.join(folder, "trace.json")
    arguments = ["--scheme", scheme.split()[0], "--runs", frames_of(name, scheme, tasks, quick), "--tasks", tasks,
                 "--trace", trace, "--json"]
    if scheme.startswith("auto without "):
        arguments += ["--without", scheme.removeprefix("auto without ")]
    before = stolen_s()
    try:
        got = split(nodes, "run", name, path, *arguments, limit_s=60 + 4 * seconds)
    except RuntimeError as failed:
        print(f"{key}: {failed}", file=sys.stderr, flush=True)
        return {"error": str(failed)}
    row = json.loads(got.stdout)
    if not row["difference"] <= 1e-4:
        return {"error": f"the result differs by {row['difference']}"}
    row["stolen_s"] = stolen_s() - before
    row["said"] = " ".join(line for line in got.stderr.splitlines() if "--insecure" not in line)
    if scheme == "auto":
        shutil.copy(trace, RESULTS / f"split-{key}-{name}.trace.json")
        shutil.copy(path, RESULTS / f"split-{key}-{name}.cluster.json")
    return row


def report(bench, key, name, kept):
    """What is known of a part; returns the plans' errors, of one image at a time: foretold by profiles, and in use."""
    _, _, tasks, _, _, goals = PARTS[key]
    labels = {scheme: label_of(key, name, scheme) for scheme in all_schemes_of(key, name)}
    errors, speed_ups = [], {}
    for scheme, label in labels.items():
        if (row := kept.rows.get(label)) is None:
            continue
        if "error" in row:
            bench.row(label, None, "x", "higher", goal=goals.get(name, 1.0))
            continue
        speed_ups[scheme] = row["speed_up"]
        pairs = [one / both for one, both in zip(row["single_us"], row["split_us"])]
        bench.row(label, row["speed_up"], "x", "higher", goal=goals.get(name) if scheme == "auto" else None,
                  baseline="one node (ms)", baseline_value=row["single_ms"], spread=Samples(pairs).spread)
        if row["said"]:
            print(f"{label}: {row['said']}", file=sys.stderr)
        if tasks == 1 and row["nodes"] > 1:
            errors.append([abs(row[which] - row["split_ms"]) / row["split_ms"] for which in ("first_planned_ms", "planned_ms")])
        if scheme == "auto":
            bench.row(f"{label}/at best", min(row["single_us"]) / min(row["split_us"]), "x", "higher")
            bench.row(f"{label}/lent to others meanwhile", row["stolen_s"], "s", "lower")
            bench.row(f"{label}/planned", row["planned_ms"], "ms", "lower", baseline="measured (ms)",
                      baseline_value=row["split_ms"])
            for node in row["break_down"]:
                for what in ("compute", "packing", "sending", "waiting"):
                    bench.row(f"{label}/{node['name']}/{what}", node[f"{what}_ms"], "ms", "lower")
                bench.row(f"{label}/{node['name']}/memory", node["memory_bytes"] / 1e6, "MB", "lower")
    baselines = [x for scheme, x in speed_ups.items() if not scheme.startswith("auto")]
    if baselines and "auto" in speed_ups:
        bench.row(f"{labels['auto']} over the best baseline", speed_ups["auto"] / max(baselines), "x", "higher", goal=1.0)
    return errors


def picture(key, name):
    """The quickest frame's timeline as it was measured, over the one that the plan expected."""
    pyplot, path = figure(), RESULTS / f"split-{key}-{name}.trace.json"
    if pyplot is None or not path.exists():
        return
    events = json.loads(path.read_text())["traceEvents"]
    names = {e["pid"]: e["args"]["name"] for e in events if e["ph"] == "M" and e["name"] == "process_name"}
    spans = [e for e in events if e["ph"] == "X"]
    lanes = [(pid, lane) for pid in sorted(names) for lane in (0, 1, 2)]
    colours = pyplot.get_cmap("tab20")
    plot, axes = pyplot.subplots(figsize=(11, 0.32 * len(lanes) + 1))
    for e in spans:
        index = int(e["name"].split()[1])
        axes.broken_barh([(e["ts"] / 1e3, e["dur"] / 1e3)], (lanes.index((e["pid"], e["tid"])) - 0.4, 0.8),
                         color=colours(index % 20) if e["tid"] == 0 else "0.5", linewidth=0)
    axes.set_yticks(range(len(lanes)), [f"{names[pid]} {('computes', 'sends', 'receives')[lane]}" for pid, lane in lanes], fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("ms")
    axes.set_title(f"{name}, {PARTS[key][0]} nodes, {PARTS[key][1]} Mbit/s: measured, and as planned (a colour a block)", fontsize=9)
    plot.tight_layout()
    plot.savefig(RESULTS / f"split-{key}-{name}.png", dpi=110)
    pyplot.close(plot)


# An ordinary program that makes one Run after the other and says how long each took.
FRAMES_PROGRAM = """
import sys, time
import numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
shape = session.get_inputs()[0].shape
image = numpy.random.default_rng(5).random(shape, dtype=numpy.float32)
first = None
while True:
    begin = time.monotonic()
    out = session.run(None, {session.get_inputs()[0].name: image})[0]
    took = time.monotonic() - begin
    first = out if first is None else first
    wrong = abs(out - first).max() > 1e-4 * abs(first).max()
    print("wrong" if wrong else took * 1e3, flush=True)
"""


class Session:
    """A server on the first node, and a program that makes Runs there."""

    def __init__(self, nodes, name, folder, *arguments):
        self.stolen = []
        self.log = os.path.join(folder, f"host{len(arguments)}.log")
        ready, socket = os.path.join(folder, f"ready-host{len(arguments)}"), f"unix:{folder}/host{len(arguments)}"
        with open(self.log, "wb") as log:
            self.server = subprocess.Popen(nodes.inside(0, [program(), "serve", "--listen", socket, "--threads", "1", "--store",
                                                            os.path.join(folder, "store-host"), "--ready-file", ready, *arguments]),
                                           stdout=log, stderr=log, env=dict(os.environ, OUTBOARD_ORT_LIBRARY=str(ort_library())))
        try:
            wait_ready(self.server, ready, self.log)
        except Missing:
            bed.end(self.server)
            raise
        # Not on the host's core: a device that takes a slow Run over opens the whole model, and has a processor of its own.
        self.client = subprocess.Popen(["taskset", "-c", str(1 % os.cpu_count()), program(), "run", "--server", socket, "--mode", "remote",
                                        "--no-summary", "--", sys.executable, "-c", FRAMES_PROGRAM, str(model(name))],
                                       stdout=subprocess.PIPE, text=True)

    def said(self):
        with open(self.log) as file:
            return file.read()

    def plans(self):
        """How many have been put in use."""
        return self.said().count("split plan in use")

    def frames(self, count):
        """Times in ms of so many Runs; what of them the first core was lent to others goes into `stolen`."""
        times = []
        while len(times) < count:
            before = stolen_s("cpu0")
            line = self.client.stdout.readline().strip()
            self.stolen.append(1e3 * (stolen_s("cpu0") - before))
            if not line:
                raise RuntimeError(f"a Run failed after {len(times)}: {self.said()[-500:]}")
            if line == "wrong":
                raise RuntimeError("a Run was wrong")
            times.append(float(line))
        return times

    def frames_until_new_plan(self, at_most):
        times, before = [], self.plans()
        while len(times) < at_most and self.plans() == before:
            times += self.frames(1)
        return times

    def end(self):
        self.client.kill()
        self.client.wait()
        bed.end(self.server)


def changes(quick):
    """A session of an ordinary program from its first Run on, while its link falls to 50 Mbps and returns, and its peer loses half of
    its core and has it back. Each phase goes on until there is a new plan, or for so many Runs, and then for some more."""
    name, count, longest = ("resnet-50", 20, 60) if quick else ("vgg-16", 60, 300)
    folder = tempfile.mkdtemp(prefix="outboard-split-")
    sessions, burner, phases = [], None, {}
    try:
        with Nodes(2, 1000, folder, cores=True) as nodes:
            outboard([program(), "push", model(name), nodes.local(1)])

            def alone():
                sessions.append(Session(nodes, name, folder))
                times = sessions[0].frames(count + 5)[5:]
                sessions.pop().end()
                return times

            stolen, single = stolen_s(), alone()
            session = Session(nodes, name, folder, "--peers", nodes.address(1), "--insecure")
            sessions.append(session)

            def phase(what, at_most):
                print(f"changes: {name}: {what}", file=sys.stderr, flush=True)
                phases[what] = {"before": session.frames_until_new_plan(at_most), "after": session.frames(count)}
                print(session.said()[-2000:], file=sys.stderr) if os.environ.get("OUTBOARD_SPLIT_LOG") else None

            phase("first plan", 5 * longest)
            nodes.shape(50)
            phase("link at 50 Mbps", longest)
            nodes.shape(1000)
            phase("link back at 1 Gbps", longest)
            burner = subprocess.Popen(["taskset", "-c", str(1 % os.cpu_count()), sys.executable, "-c", "while True: pass"])
            phase("peer at half speed", longest)
            burner.kill()
            burner.wait()
            phase("peer back", longest)
            lent = session.stolen
            sessions.pop().end()
            single += alone()  # again, because the machine may have become another one meanwhile
    finally:
        if burner:
            burner.kill()
            burner.wait()
        for session in sessions:
            session.end()
        shutil.rmtree(folder, ignore_errors=True)
    return {"model": name, "single_ms": Samples(single).median, "alone": single, "phases": phases, "lent_ms": lent, "stolen_s": stolen_s() - stolen}


def report_changes(bench, row):
    name, single, phases = row["model"], row["single_ms"], row["phases"]
    frames = [took for phase in phases.values() for took in phase["before"] + phase["after"]]
    for what, phase in phases.items():
        bench.row(f"{name}/changes/{what}", single / Samples(phase["after"]).median, "x", "higher",
                  baseline="one node (ms)", baseline_value=single, goal=0.97)
        bench.row(f"{name}/changes/{what}/until then", single / Samples(phase["before"]).median, "x", "higher")
        bench.row(f"{name}/changes/{what}/after", sum(phase["before"]) / 1e3, "s", "lower")
    def slowest(times):
        return min(20 * single / sum(times[i:i + 20]) for i in range(len(times) - 19))
    bench.row(f"{name}/changes/slowest 20 frames", slowest(frames), "x", "higher", goal=0.97)
    # What the machine's own noise makes of it, and of as many Runs of one node.
    bench.row(f"{name}/changes/slowest 20 frames, less what its core was lent to others",
              slowest([took - lent for took, lent in zip(frames, row["lent_ms"])]), "x", "higher", goal=0.97)
    bench.row(f"{name}/changes/slowest 20 Runs of one node, without peers", slowest(row["alone"]), "x", "higher")
    bench.row(f"{name}/changes/lent to others meanwhile", row["stolen_s"], "s", "lower")


def run(quick):
    reason = bed.lacks(["taskset"])
    if reason is not None:
        raise Missing(f"no links between namespaces here: {reason}")
    bench, kept, errors = Bench("split", quick=quick), Kept(quick), []
    parts = os.environ.get("OUTBOARD_SPLIT_PARTS", "two" if quick else ",".join(EVERYTHING)).split(",")
    if unknown := [key for key in parts if key not in EVERYTHING]:
        raise Missing(f"the part ({unknown[0]}) must be one of {', '.join(EVERYTHING)}")
    models = os.environ.get("OUTBOARD_SPLIT_MODELS", "resnet-50" if quick else "").split(",")
    pairs = [(key, name) for key in parts if key in PARTS for name in PARTS[key][3] if models == [""] or name in models]
    if os.environ.get("OUTBOARD_SPLIT_FRESH"):
        kept.forget([*(label_of(key, name, s) for key, name in pairs for s in schemes_of(key, name)), *parts])
    seconds = sum(part_expected_s(key, name, kept, quick) for key, name in pairs)
    seconds += 400 if "changes" in parts and "changes" not in kept.rows else 0
    print(f"split: about {seconds / 60:.0f} minutes, and up to two for each model whose time against rows is not known yet",
          file=sys.stderr, flush=True)
    for key in parts:
        for name in [name for k, name in pairs if k == key] or [None]:
            try:  # what fails is a row without a value, and the others are measured
                if name is not None:
                    measure_part(key, name, kept, quick)
                    picture(key, name)
                elif key == "changes" and key not in kept.rows:
                    kept.keep(key, changes(quick))
            except (RuntimeError, Missing) as failed:
                print(f"{key}: {failed}", file=sys.stderr, flush=True)
                bench.row(f"{key}/{name or ''}", None, "x", "higher", goal=1.0)
    for key, (_, _, _, names, _, _) in PARTS.items():
        for name in names:
            errors += report(bench, key, name, kept)
    if "changes" in kept.rows:
        report_changes(bench, kept.rows["changes"])
    if errors:
        bench.row("plan error, median", statistics.median(used for _, used in errors), "", "lower", goal=0.10)
        bench.row("plan error from profiles alone, median", statistics.median(first for first, _ in errors), "", "lower")
    return bench.finish()
