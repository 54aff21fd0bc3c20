# SPDX-License-Identifier: Apache-2.0
"""A server beyond this machine, from its first start to programs that run through it: tokens, login, what is refused in
which words, where a token must not be; and programs that carry an OpenSSL of their own.

    identity_test.py OUTBOARD MODELS PYTHON ORT NODE_MODULES
"""
import json
import os
import pathlib
import pty
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

ORDER = [sys.argv.pop(1) for _ in range(5)]
OUTBOARD, MODELS, PYTHON, ORT, NODE_MODULES = ORDER
SOURCE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(SOURCE.parent.parent / "bench"))
import common  # noqa: E402

PROGRAMS = SOURCE / "programs"
LIMIT_S = 300  # of anything that is waited for; nothing comes near it


class Identity(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = pathlib.Path(folder.name)
        self.state = self.path / "state"
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("OUTBOARD_")}
        self.environment.update(HOME=str(self.path), XDG_CONFIG_HOME=str(self.path / "config"))
        self.environment.pop("XDG_STATE_HOME", None)
        self.seen = []  # what any command said

    def outboard(self, *arguments, line=None, **environment):
        done = subprocess.run([OUTBOARD, *map(str, arguments)], input=line, capture_output=True, text=True,
                              timeout=LIMIT_S, env={**self.environment, **environment})
        self.seen.append(done.stdout + done.stderr)
        return done

    def serve(self, *arguments):
        """A server that others can reach; its port."""
        self.log = self.path / "server.log"
        ready = self.path / "ready"
        with open(self.log, "ab") as log:
            self.server = subprocess.Popen(
                [OUTBOARD, "serve", "--listen", "0.0.0.0:0", "--listen", f"unix:{self.path}/socket", "--state", self.state,
                 "--store", self.path / "store", "--ort-library", ORT, "--ready-file", ready, "--log-level", "debug",
                 *map(str, arguments)], stderr=log, env=self.environment)
        self.addCleanup(self.stop)
        addresses = common.wait_ready(self.server, ready, self.log)
        self.port = next(a for a in addresses if a.startswith("0.0.0.0:")).split(":")[1]
        self.operator = f"unix:{self.path}/socket"

    def stop(self):
        if self.server.poll() is None:
            self.server.terminate()
            self.server.wait(LIMIT_S)

    def here(self, line):
        """The line with this machine's loopback address for its name, which need not resolve."""
        return re.sub(r"//[^?#]*", f"//127.0.0.1:{self.port}", line)

    def new_token(self, tenant, *arguments):
        file = self.path / f"token-{tenant}"
        done = self.outboard("token", "add", tenant, "--state", self.state, "--output", file, *arguments)
        self.assertEqual(0, done.returncode, done.stderr)
        self.assertEqual("", done.stdout)
        self.assertEqual(0o600, file.stat().st_mode & 0o777)
        return self.here(file.read_text())

    def login(self, line, *arguments):
        return self.outboard("login", *arguments, line=line)

    def refused(self, done, *words):
        self.assertEqual(1, done.returncode, done.stdout)
        self.assertEqual(1, len(done.stderr.splitlines()), done.stderr)
        for word in words:
            self.assertIn(word, done.stderr)

    # ---- from the first start on

    def test_first_start_login_and_use(self):
        self.serve()
        first = self.state / "first-token"
        for file in (first, self.state / "key.pem", self.state / "tokens.json"):
            self.assertEqual(0o600, file.stat().st_mode & 0o777, file)
        done = self.login(self.here(first.read_text()), "--name", "edge")
        self.assertEqual(0, done.returncode, done.stderr)
        self.assertEqual(0o600, (self.path / "config/outboard/access/edge").stat().st_mode & 0o777)
        self.assertIn("edge", self.outboard("servers").stdout)
        # By its name and by its address.
        for server in ("edge", f"127.0.0.1:{self.port}"):
            status = json.loads(self.outboard("status", server, "--json").stdout)
            self.assertEqual("first", status["tenant"])
        pushed = self.outboard("push", f"{MODELS}/add.onnx", "edge")
        self.assertEqual(0, pushed.returncode, pushed.stderr)
        # The operator sees it, and another tenant does not.
        self.assertEqual(["local", "first"], [t["name"] for t in json.loads(
            self.outboard("status", self.operator, "--json").stdout)["tenants"]])
        self.assertEqual(0, self.login(self.new_token("second", "--weight", 2), "--name", "other").returncode)
        self.assertEqual([], json.loads(self.outboard("status", "other", "--json").stdout)["models"])
        # The identity and the tokens outlive a restart.
        fingerprint = re.search(r"id=(\w{64})", first.read_text())[1]
        self.stop()
        (self.path / "ready").unlink(missing_ok=True)
        self.serve()
        self.assertIn(fingerprint, self.log.read_text())
        self.assertEqual(0, self.login(self.here(first.read_text()), "--name", "edge").returncode)
        self.assertEqual(0, self.outboard("servers", "forget", "edge").returncode)
        self.assertFalse((self.path / "config/outboard/access/edge").exists())
        self.refused(self.outboard("servers", "forget", "edge"), "edge")

    def test_what_is_refused_and_in_which_words(self):
        self.serve()
        line = self.here((self.state / "first-token").read_text())
        token = line.split("#")[1].strip()
        self.refused(self.login(line.replace(token, "wrong")), "not one of the server's")
        self.refused(self.expired_login(), "expired at")
        wrong = re.sub(r"id=\w{64}", "id=" + "0" * 64, line)
        self.refused(self.login(wrong), "identity", "must be the one that is known", "nothing was sent")
        self.refused(self.login("not a line"), "outboard token add")
        revoked = self.new_token("gone")
        identifier = revoked.split("#")[1].split(".")[0]
        self.assertEqual(0, self.login(revoked, "--name", "gone").returncode)
        self.assertEqual(0, self.outboard("token", "revoke", identifier, "--state", self.state).returncode)
        self.refused(self.outboard("status", "gone"), "was revoked")
        listed = self.outboard("token", "list", "--state", self.state).stdout
        self.assertIn("revoked", listed)
        self.assertNotIn(token.split(".")[1], listed)
        self.refused(self.outboard("token", "revoke", "ffffffff", "--state", self.state), "no token has the id (ffffffff)")
        # Plain bytes to a server that wants TLS, from a client that knows nothing of it.
        nobody = self.outboard("status", f"127.0.0.1:{self.port}", XDG_CONFIG_HOME=str(self.path / "nothing"))
        self.assertEqual(1, nobody.returncode)
        # A token on a command line is not taken, and not repeated.
        for verb in (("status", line.strip()), ("run", "--server", line.strip(), "--", "true")):
            done = self.outboard(*verb)
            self.refused(done, "standard input of `outboard login`")
            self.assertNotIn(token, done.stderr)

    def expired_login(self):
        """A token whose second has passed: its time is set back in the file, as nobody waits here."""
        line = self.new_token("late", "--expires", "1s")
        file = self.state / "tokens.json"
        document = json.loads(file.read_text())
        next(t for t in document["tokens"] if t["tenant"] == "late")["expires_s"] = 1
        file.write_text(json.dumps(document))
        return self.login(line)

    def test_a_token_is_shown_to_a_terminal_only(self):
        self.serve()
        self.refused(self.outboard("token", "add", "alice", "--state", self.state), "not a terminal", "--output")
        self.assertNotIn("alice", (self.state / "tokens.json").read_text())
        leader, follower = pty.openpty()
        done = subprocess.run([OUTBOARD, "token", "add", "alice", "--state", str(self.state)], stdout=follower,
                              stderr=subprocess.PIPE, timeout=LIMIT_S, env=self.environment)
        os.close(follower)
        shown = os.read(leader, 4096).decode()
        os.close(leader)
        self.assertEqual(0, done.returncode, done.stderr)
        self.assertRegex(shown.strip(), r"^outboard://[^?#]+:\d+\?id=[0-9a-f]{64}#[0-9a-f]{8}\.[\w-]{43}$")
        self.assertEqual(0, self.login(self.here(shown)).returncode)

    def test_a_certificate_of_ones_own(self):
        key, certificate = self.path / "own.key", self.path / "own.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
                        "3650", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out",
                        certificate], check=True, capture_output=True, timeout=LIMIT_S)
        self.serve("--certificate", certificate, "--key", key)
        token = self.here((self.state / "first-token").read_text()).split("#")[1]
        line = f"outboard://localhost:{self.port}#{token}"
        self.refused(self.login(line), "--ca FILE")
        done = self.login(line, "--ca", certificate, "--name", "own")
        self.assertEqual(0, done.returncode, done.stderr)
        self.assertEqual(0, self.outboard("status", "own").returncode)
        self.refused(self.login(line.replace("localhost", "127.0.0.1"), "--ca", certificate), "authorities", "nothing was sent")

    # ---- programs with an OpenSSL of their own, and where a token must not be

    def test_programs_with_their_own_openssl_and_no_token_anywhere(self):
        self.serve()
        line = self.here((self.state / "first-token").read_text())
        secret = line.split("#")[1].strip().split(".")[1]
        self.assertEqual(0, self.login(line, "--name", "edge").returncode)
        model = f"{MODELS}/add.onnx"
        commands = [[PYTHON, str(PROGRAMS / "own_tls.py")], ["node", str(PROGRAMS / "own_tls.js"), NODE_MODULES]]
        for command in commands:
            if shutil.which(command[0]) is None or not pathlib.Path(NODE_MODULES).exists() and command[0] == "node":
                print(f"SKIPPED: {command[0]} is not there")
                continue
            with self.subTest(command[0]):
                command = [*command, str(self.state / "certificate.pem"), str(self.state / "key.pem"), model]
                report, trace = self.path / "report.json", self.path / "trace.json"
                plain = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, env=self.environment)
                self.assertEqual(0, plain.returncode, plain.stderr)
                through = self.outboard("run", "--server", "edge", "--mode", "remote", "--json", report, "--trace", trace,
                                        "--summary", "--log-level", "debug", "--", *command)
                self.assertEqual(0, through.returncode, through.stderr)
                # The program prints its own environment and command line, which differ.
                cut = lambda text: [row for row in text.splitlines() if not row.startswith("#")]
                self.assertEqual(cut(plain.stdout), cut(through.stdout))
                self.assertIn("OUTBOARD_SERVERS=access:", through.stdout)
                sessions = [s for p in json.loads(report.read_text())["processes"] for s in p["sessions"]]
                self.assertGreater(sum(s["runs"]["server"] for s in sessions), 0, sessions)
                self.assertEqual(0, sum(s["runs"]["local"] for s in sessions), sessions)
                for text in (report.read_text(), trace.read_text(), through.stdout, through.stderr):
                    self.assertNotIn(secret, text)
        for entry in ("cmdline", "environ"):
            self.assertNotIn(secret.encode(), pathlib.Path(f"/proc/{self.server.pid}/{entry}").read_bytes())
        self.stop()
        for text in self.seen:
            self.assertNotIn(secret, text)
        holders = [f for f in self.path.rglob("*") if f.is_file() and secret.encode() in f.read_bytes()]
        self.assertEqual({self.state / "first-token", self.path / "config/outboard/access/edge"}, set(holders))

    def test_a_lost_server_and_one_that_no_longer_admits_leave_programs_alone(self):
        self.serve()
        line = self.new_token("alice", "--runs-per-s", "0.001")
        self.assertEqual(0, self.login(line, "--name", "edge").returncode)
        report = self.path / "report.json"
        program = [PYTHON, str(PROGRAMS / "many_runs.py"), f"{MODELS}/add.onnx", "5"]
        done = self.outboard("run", "--server", "edge", "--mode", "remote", "--json", report, "--", *program)
        self.assertEqual(0, done.returncode, done.stderr)
        runs = [s["runs"] for p in json.loads(report.read_text())["processes"] for s in p["sessions"]]
        # One is within the limit; those that are refused are answered here.
        self.assertEqual(1, sum(r["server"] for r in runs), runs)
        self.assertEqual(4, sum(r["local"] for r in runs), runs)
        self.assertEqual(0, sum(r["failed"] for r in runs), runs)
        token = line.split("#")[1].split(".")[0]
        self.assertEqual(0, self.outboard("token", "revoke", token, "--state", self.state).returncode)
        done = self.outboard("run", "--server", "edge", "--json", report, "--", *program)
        self.assertEqual(0, done.returncode, done.stderr)
        runs = [s["runs"] for p in json.loads(report.read_text())["processes"] for s in p["sessions"]]
        self.assertEqual(5, sum(r["local"] for r in runs), runs)


if __name__ == "__main__":
    unittest.main()
