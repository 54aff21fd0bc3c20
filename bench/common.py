# SPDX-License-Identifier: Apache-2.0
"""What benchmarks share: the machine, statistics, the result file and its table.

    def run(quick):
        bench = Bench("offload", quick=quick)
        bench.row("tiny/1/tcp/outboard/added_p50", 24.0, "us", "lower", goal=30, spread=2.0)
        bench.finish()

Row names are stable, so that figures can be followed over time. `spread` is half the distance between the quartiles of
the repetitions (see `Samples`), in the row's unit.
"""
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(os.environ.get("OUTBOARD_BINARY_DIR", ROOT / "build/release"))
MODELS = ROOT / "build/models"
RESULTS = ROOT / "build/bench"


class Missing(Exception):
    """Something that the benchmark needs is not there; the message says what to do."""


def machine():
    """What a figure depends on and can be read here; null where it cannot."""
    return {
        "cpu": _cpu_model(), "cores": len(os.sched_getaffinity(0)), "memory_bytes": _memory_bytes(),
        "kernel": platform.release(), "load_1min": round(os.getloadavg()[0], 2), "commit": _commit(),
        "time_utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "tcp_congestion_control": _read("/proc/sys/net/ipv4/tcp_congestion_control"),
    }


def _cpu_model():
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.machine() or None


def _read(path):
    try:
        return pathlib.Path(path).read_text().strip()
    except OSError:
        return None


def _memory_bytes():
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return None


def _commit():
    got = subprocess.run(["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
                         capture_output=True, text=True, check=False)
    return got.stdout.strip() or None


class Samples:
    """Repetitions of one figure: their median, and half the distance of their quartiles as spread."""

    def __init__(self, values):
        self.values = sorted(values)
        if not self.values:
            raise ValueError("a figure needs at least one repetition")
        self.median = statistics.median(self.values)
        self.spread = 0.0
        if len(self.values) > 1:
            low, _, high = statistics.quantiles(self.values, n=4, method="inclusive")
            self.spread = (high - low) / 2


class Bench:
    """Collects rows; finish() writes build/bench/NAME.json and prints the table."""

    def __init__(self, name, quick=False, results=RESULTS):
        self.name, self.quick, self.results = name, quick, pathlib.Path(results)
        self.rows = []
        self._machine = machine()  # the load before the benchmark makes its own

    def row(self, name, value, unit, better, goal=None, baseline=None, baseline_value=None, spread=None):
        if better not in ("lower", "higher"):
            raise ValueError(f"better ({better}) must be lower or higher")
        if any(r["name"] == name for r in self.rows):
            raise ValueError(f"row ({name}) is there already")
        self.rows.append({"name": name, "value": value, "unit": unit, "better": better, "goal": goal,
                          "baseline": baseline, "baseline_value": baseline_value, "spread": spread})

    def samples(self, name, values, unit, better, **more):
        """A row from repetitions."""
        samples = Samples(values)
        self.row(name, samples.median, unit, better, spread=samples.spread, **more)

    def finish(self):
        """Returns the rows that miss their goal."""
        self.results.mkdir(parents=True, exist_ok=True)
        document = {"machine": self._machine, "rows": self.rows}
        if self.quick:
            document["quick"] = True
        path = self.results / f"{self.name}.json"
        scratch = path.with_suffix(f".{os.getpid()}")
        scratch.write_text(json.dumps(document, indent=1) + "\n")
        scratch.replace(path)
        print(table(self.rows))
        print(f"{path}{' (quick: not to be quoted)' if self.quick else ''}", flush=True)
        return [r for r in self.rows if misses(r)]


def misses(row):
    if row["goal"] is None:
        return False
    if row["value"] is None:
        return True
    return row["value"] > row["goal"] if row["better"] == "lower" else row["value"] < row["goal"]


def table(rows):
    """Fixed columns; a row that falls short of its goal ends in MISSED."""
    cells = [("", "value", "spread", "unit", "goal", "baseline", "")]
    for r in rows:
        against = f"{r['baseline']} {_number(r['baseline_value'])}".strip() if r["baseline"] else ""
        goal = "" if r["goal"] is None else f"{'<=' if r['better'] == 'lower' else '>='} {_number(r['goal'])}"
        cells.append((r["name"], _number(r["value"]), _number(r["spread"]), r["unit"], goal, against,
                      "MISSED" if misses(r) else ""))
    width = [max(len(row[i]) for row in cells) for i in range(7)]
    lines = []
    for c in cells:
        lines.append(f"{c[0]:<{width[0]}}  {c[1]:>{width[1]}}  {c[2]:>{width[2]}}  {c[3]:<{width[3]}}  {c[4]:<{width[4]}}"
                     f"  {c[5]:<{width[5]}}  {c[6]}".rstrip())
    return "\n".join(lines)


def _number(value):
    if value is None:
        return ""
    if isinstance(value, int) or value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def program(name="outboard"):
    """A program of the release build."""
    path = BUILD / name
    if not path.exists():
        raise Missing(f"the program ({path}) is not built; run make build")
    return path


def model(name):
    """The path of a model of the zoo, made when it is not there."""
    path = MODELS / f"{name}.onnx"
    if not path.exists():
        subprocess.run([sys.executable, str(ROOT / "scripts/make_models.py"), name], check=True)
    return path


def ort_library():
    """The wheel's ONNX Runtime."""
    found = sorted((ROOT / "build/deps/venv").glob("lib/python*/site-packages/onnxruntime/capi/libonnxruntime.so.*"))
    if not found:
        raise Missing("ONNX Runtime is not in build/deps/venv; run scripts/install-deps.sh")
    return found[-1]


def figure():
    """matplotlib.pyplot without a screen, or None where it is not installed: pictures are left out then."""
    try:
        import matplotlib
        matplotlib.use("Agg")
        from matplotlib import pyplot
        return pyplot
    except ImportError:
        return None


def status(address):
    """What `outboard status --json` says of a server."""
    return json.loads(subprocess.run([program(), "status", address, "--json"], check=True, capture_output=True, text=True,
                                     timeout=300).stdout)


def wait_ready(process, ready, log, limit_s=120):
    """The addresses that a server has written to its --ready-file; Missing, with the end of its log, if it ended or was not
    ready by then."""
    ready, limit = pathlib.Path(ready), time.monotonic() + limit_s
    while not (ready.exists() and ready.read_text().endswith("\n")):
        why = "ended" if process.poll() is not None else "is not ready" if time.monotonic() > limit else None
        if why is not None:
            raise Missing(f"the server {why}: {pathlib.Path(log).read_text(errors='replace')[-500:]}")
        time.sleep(0.02)
    return ready.read_text().split()


class Server:
    """`outboard serve` for the length of a `with`; `address` is what it really listens on."""

    def __init__(self, folder, *arguments, listen="127.0.0.1:0"):
        self._folder = pathlib.Path(folder)
        self._arguments, self._listen = arguments, listen

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def start(self):
        ready = self._folder / "ready"
        ready.unlink(missing_ok=True)
        self._log = open(self._folder / "server.log", "wb")
        self.process = subprocess.Popen(
            [str(program()), "serve", "--listen", self._listen, "--store", str(self._folder / "store"),
             "--ready-file", str(ready), *map(str, self._arguments)], stdout=self._log, stderr=self._log)
        try:
            self.address = wait_ready(self.process, ready, self._folder / "server.log")[0]
        except Missing:
            self.stop()
            raise
        return self

    def status(self):
        return status(self.address)

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._log.close()
