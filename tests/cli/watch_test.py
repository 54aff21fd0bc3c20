# SPDX-License-Identifier: Apache-2.0
"""Seeing what a server does: /metrics before promtool and a real Prometheus, readiness, `outboard top`, JSON logs, and
the files under packaging."""
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import unittest
import urllib.error
import urllib.parse
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import harness  # noqa: E402

MODEL = harness.BUILD / "tests/models/add.onnx"
LIMIT_S = harness.TIMEOUT_S


def get(url):
    try:
        with urllib.request.urlopen(url, timeout=LIMIT_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


def samples(text):
    """{'name{labels}': value} of a metrics page."""
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if not line.startswith("#")}


class Server(harness.LoggedServer):
    """A server with an HTTP door and a JSON log."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory()
        super().__init__("--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--log", "json", "--store",
                         self.folder.name + "/store", "--ort-library", harness.ORT)
        self.address = self.wait_for("serving")["addresses"]
        self.url = self.wait_for("metrics")["url"].removesuffix("/metrics")

    def wait_for(self, event):
        return json.loads(self.line(lambda line: json.loads(line)["event"] == event))

    def use(self):
        while json.loads(harness.check_output([harness.OUTBOARD, "status", self.address, "--json"]))["runs"] <= 10:
            harness.check_output([harness.OUTBOARD, "profile", MODEL, "--server", self.address, "--seconds", "0.2"])

    def end(self):
        self.kill()
        self.folder.cleanup()


class Watch(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server()
        cls.addClassCleanup(cls.server.end)
        cls.server.use()

    def test_metrics_are_what_the_status_says_and_pass_promtool(self):
        page = get(self.server.url + "/metrics")[1]
        checked = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, text=True, check=False)
        self.assertEqual((0, ""), (checked.returncode, checked.stdout + checked.stderr))
        status = json.loads(harness.check_output([harness.OUTBOARD, "status", self.server.address, "--json"]))
        found = samples(page)
        self.assertGreater(status["runs"], 10)
        for runs in ('outboard_runs_total{tenant="local",result="done"}', 'outboard_compute_seconds_count{tenant="local"}',
                     'outboard_queue_seconds_bucket{tenant="local",le="+Inf"}'):
            self.assertEqual(status["runs"], found[runs])
        self.assertEqual(status["slots"], found["outboard_slots"])
        self.assertEqual(MODEL.stat().st_size, found['outboard_store_bytes{tenant="local"}'])
        buckets = [v for k, v in found.items() if k.startswith("outboard_compute_seconds_bucket")]
        self.assertEqual(sorted(buckets), buckets)
        mean_us = found['outboard_compute_seconds_sum{tenant="local"}'] / status["runs"] * 1e6
        self.assertLess(status["compute"]["p50_us"] / 10, mean_us)
        self.assertLess(mean_us, status["compute"]["max_us"] * 10)

    def test_a_real_prometheus_scrapes_it(self):
        folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        target = self.server.url.removeprefix("http://")
        (folder / "prometheus.yml").write_text(json.dumps(  # JSON is YAML
            {"global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
             "scrape_configs": [{"job_name": "outboard", "static_configs": [{"targets": [target]}]}]}))
        log = open(folder / "log", "w+", encoding="utf-8")
        self.addCleanup(log.close)
        prometheus = subprocess.Popen(
            ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
             "--web.listen-address=127.0.0.1:0", "--log.format=json"], stderr=subprocess.PIPE, text=True)
        self.addCleanup(lambda: (prometheus.kill(), prometheus.communicate()))
        timer = threading.Timer(LIMIT_S, prometheus.kill)
        timer.start()
        self.addCleanup(timer.cancel)
        address = next((json.loads(line)["address"] for line in prometheus.stderr if '"Listening on"' in line), None)
        self.assertIsNotNone(address, "Prometheus did not say where it listens")
        threading.Thread(target=prometheus.stderr.read, daemon=True).start()

        def value(query):
            status, answer = get(f"http://{address}/api/v1/query?" + urllib.parse.urlencode({"query": query}))
            found = json.loads(answer)["data"]["result"] if status == 200 else None  # 503: not ready yet
            return float(found[0]["value"][1]) if found else None

        # A busy machine may miss a scrape, and then there are no values until the next one.
        for query, least in (("up", 1), ('sum(outboard_runs_total{result="done"})', 11),
                             ("histogram_quantile(0.95, sum by (le) (outboard_compute_seconds_bucket))", 1e-9)):
            harness.wait_for(lambda query=query, least=least: (value(query) or 0) >= least, f"the answer to ({query})",
                             prometheus, LIMIT_S / 5)

    def test_pages(self):
        self.assertEqual((200, "ok\n"), get(self.server.url + "/healthz"))
        self.assertEqual((200, "ok\n"), get(self.server.url + "/readyz"))
        self.assertEqual(404, get(self.server.url + "/secret")[0])
        self.assertEqual(405, get(urllib.request.Request(self.server.url + "/metrics", data=b"x", method="POST"))[0])

    def test_every_metric_of_the_dashboard_is_there(self):
        dashboard = json.loads((harness.ROOT / "packaging/grafana/outboard.json").read_text())
        page = get(self.server.url + "/metrics")[1]
        queries = [t["expr"] for p in dashboard["panels"] for t in p["targets"]]
        names = set(re.findall(r"\b(?:outboard|process)_\w+", " ".join(queries)))
        self.assertGreater(len(names), 10)
        for name in names:
            self.assertIn(f"\n{name}", page)

    def test_top(self):
        shown = harness.check_output([harness.OUTBOARD, "top", self.server.address, "--count", "2", "--interval", "0.1"])
        first, second = shown.split(self.server.address)[1:]
        self.assertIn("Runs                 -", first)  # no rates before there are two looks
        self.assertRegex(second, r"Runs +\d+\.\d/s")
        self.assertRegex(second, r"compute +p50 +\d.*p95 +\d.*\d+ %")
        self.assertIn("MODEL", second)

    def test_top_without_a_server(self):
        got = subprocess.run([harness.OUTBOARD, "top", "127.0.0.1:1"], capture_output=True, text=True, check=False)
        self.assertEqual(1, got.returncode)
        self.assertIn("127.0.0.1:1", got.stderr)

    def test_bad_http_addresses_get_a_sentence(self):
        taken = self.server.url.removeprefix("http://")
        for address, words in ((taken, "in use"), ("unix:/tmp/x", "ADDR:PORT"), ("127.0.0.1:x", "127.0.0.1:x")):
            got = subprocess.run([harness.OUTBOARD, "serve", "--listen", "127.0.0.1:0", "--http", address, "--store",
                                  tempfile.mkdtemp(dir=harness.work), "--ort-library", harness.ORT], capture_output=True,
                                 text=True, timeout=LIMIT_S, check=False)
            self.assertEqual(1, got.returncode, got.stderr)
            self.assertIn(words, got.stderr)


class Packaging(unittest.TestCase):
    def test_unit(self):
        unit = (harness.ROOT / "packaging/systemd/outboard-serve.service").read_text()
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "outboard-serve.service"
            path.write_text(unit.replace("/usr/bin/outboard", harness.OUTBOARD))
            checked = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, check=False)
            self.assertEqual((0, ""), (checked.returncode, checked.stderr))
            rated = subprocess.run(["systemd-analyze", "security", "--offline=true", "--threshold=20", path],
                                   capture_output=True, text=True, check=False)
            self.assertEqual(0, rated.returncode, rated.stdout + rated.stderr)
        # What the unit tells the server must be options that it has.
        line = re.search(r"^ExecStart=\S+ (.*)$", unit, re.MULTILINE)[1]
        texts = harness.check_output([harness.OUTBOARD, "serve", "--help"])
        for option in re.findall(r"--[a-z-]+", line + unit):
            self.assertTrue(option in texts or option == "--drain-timeout", option)


if __name__ == "__main__":
    unittest.main()
