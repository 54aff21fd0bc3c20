# SPDX-License-Identifier: Apache-2.0
"""Servers nearby: two hosts (network namespaces) on one link, each with a real D-Bus and a real avahi-daemon. A server is
announced, found, used by those who hold a token for its identity and by no others. Needs root; says loudly what was not
tested where it cannot run.

    nearby_test.py [unittest arguments]
"""
import contextlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import unittest

SOURCE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(SOURCE.parent), str(SOURCE.parent / "net")]
import bed  # noqa: E402
import harness  # noqa: E402
from harness import BUILD, ENVIRONMENT, ORT, OUTBOARD, PYTHON, TIMEOUT_S, wait_for, work  # noqa: E402

MODEL = BUILD / "tests/models/add.onnx"
BUS = """<busconfig><type>system</type><listen>unix:path={socket}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/>
</policy></busconfig>"""
AVAHI = """[server]
host-name={name}
use-ipv4={ipv4}
use-ipv6={ipv6}
[wide-area]
enable-wide-area=no
[publish]
publish-hinfo=no
publish-workstation=no
"""
# What somebody announces who is not that server.
FORGED = """<service-group><name>{name}</name><service><type>_outboard._tcp</type><port>{port}</port>
<txt-record>txtvers=1</txt-record><txt-record value-format="binary-hex">device=1b5b33316d</txt-record>
<txt-record>id={identity}</txt-record></service></service-group>"""


def why_not():
    if os.geteuid() != 0:
        return "it needs root"
    for tool in ("ip", "nsenter", "unshare", "dbus-daemon", "avahi-daemon"):
        if shutil.which(tool) is None:
            return f"there is no {tool}: run scripts/install-deps.sh"
    probe = f"{bed.MARK}{os.getpid()}-probe"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        return f"no network namespace can be made here ({made.stderr.strip()})"
    subprocess.run(["ip", "netns", "del", probe], check=False)
    return None


class Host:
    """A network namespace with an address, a bus and Avahi's daemon, and a user who knows no server yet."""

    def __init__(self, stack, name):
        self.stack, self.name = stack, name
        self.folder = work / name
        self.services = self.folder / "services"
        self.services.mkdir(parents=True)
        self.namespace = f"{bed.MARK}{os.getpid()}-{name}"
        bed.ip("netns", "add", self.namespace)
        stack.callback(bed.remove_namespace, self.namespace)
        bed.ip("-n", self.namespace, "link", "set", "lo", "up")
        self.environment = {**ENVIRONMENT, "DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={self.folder}/bus",
                            "XDG_CONFIG_HOME": str(self.folder / "config")}
        (self.folder / "bus.conf").write_text(BUS.format(socket=self.folder / "bus"))
        with open(self.folder / "bus.log", "wb") as log:
            bus = self.popen(["dbus-daemon", f"--config-file={self.folder}/bus.conf", "--nofork", "--nopidfile",
                              "--print-address=1"], stdout=subprocess.PIPE, stderr=log)
        assert bus.stdout.readline(), "the bus did not start"

    def inside(self, command, before=""):
        """With a shell's `before`, in a file system of its own."""
        enter = ["nsenter", f"--net=/run/netns/{self.namespace}", "--"]
        return [*enter, *(["unshare", "-m", "sh", "-ec", before + '\nexec "$@"', "sh"] if before else []), *map(str, command)]

    def popen(self, command, before="", **more):
        process = subprocess.Popen(self.inside(command, before), env=self.environment, **more)
        self.stack.callback(bed.end, process)
        return process

    def run(self, *command, before="", **more):
        done = subprocess.run(self.inside(command, before), env=self.environment, capture_output=True, text=True,
                              timeout=TIMEOUT_S, check=False, **more)
        # Whatever is said is fit for a terminal.
        assert "\x1b" not in done.stdout + done.stderr, done
        return done

    def outboard(self, *arguments, **more):
        return self.run(OUTBOARD, *arguments, **more)

    def start_avahi(self, ipv4="yes", ipv6="no"):
        (self.folder / "avahi.conf").write_text(AVAHI.format(name=self.name, ipv4=ipv4, ipv6=ipv6))
        # Its folders are the same on every host.
        before = f"""mkdir -p /run/avahi-daemon
            mount -t tmpfs tmpfs /run/avahi-daemon
            mount --bind {self.services} /etc/avahi/services"""
        with open(self.folder / "avahi.log", "wb") as log:
            self.avahi = self.popen(["avahi-daemon", "-f", self.folder / "avahi.conf", "--no-drop-root", "--no-chroot",
                                     "--no-rlimits", "--no-proc-title"], before, stdout=log, stderr=log)
        wait_for(lambda: "startup complete" in (self.folder / "avahi.log").read_text(), "avahi-daemon", self.avahi)

    def serve(self, state, *arguments, listen="0.0.0.0:0"):
        return Served(self, state, listen, arguments)

    def servers(self):
        """What `outboard servers` lists: {(name, address): {column: value}}."""
        done = self.outboard("servers")
        assert done.returncode == 0, done
        lines = [re.split(r"  +", line.strip()) for line in done.stdout.splitlines()]
        rows = [dict(zip(lines[0], line)) for line in lines[1:]] if lines else []
        return {(row["name"], row["address"]): row for row in rows}, done.stderr

    def login(self, server, name):
        line = re.sub(r"//[^?#]*", f"//{server.address}", (server.state / "first-token").read_text())
        done = self.outboard("login", "--name", name, input=line)
        assert done.returncode == 0, done


class Served:
    """An `outboard serve` on a host; its identity lies in the folder `state` and outlives it."""
    count = 0

    def __init__(self, host, state, listen, arguments):
        Served.count += 1
        self.state = work / state
        self.log_path, ready = work / f"serve{Served.count}.log", work / f"serve{Served.count}.ready"
        with open(self.log_path, "wb") as log:
            self.process = host.popen(
                [OUTBOARD, "serve", "--listen", listen, "--state", self.state, "--store", work / f"store{Served.count}",
                 "--ort-library", ORT, "--ready-file", ready, *arguments], stderr=log)
        last = harness.common.wait_ready(self.process, ready, self.log_path)[-1]
        self.address = f"{host.address}:{last.rsplit(':', 1)[1]}"

    def log(self):
        return self.log_path.read_text()

    def announced(self, times=1):
        """The name by which it is announced."""
        names = lambda: re.findall(r'announced name="(.*)" type=_outboard', self.log())  # noqa: E731
        wait_for(lambda: len(names()) >= times, f"the announcement ({self.log()})", self.process)
        return names()[-1]

    def identity(self):
        return re.search(r"fingerprint=(\w{64})", self.log())[1]

    def end(self):
        bed.end(self.process)


class Nearby(unittest.TestCase):
    def setUp(self):
        reason = why_not()
        if reason is not None:
            print(f"*** SKIPPED: servers nearby were NOT tested: {reason} ***", file=sys.stderr, flush=True)
            self.skipTest(reason)
        bed.remove_stale()
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        name = self.id().rsplit("_", 1)[-1]
        self.device, self.far = (Host(stack, f"{side}-{name}") for side in ("device", "far"))
        bed.ip("link", "add", "link0", "netns", self.device.namespace, "type", "veth", "peer", "name", "link0", "netns",
               self.far.namespace)
        for number, host in enumerate((self.far, self.device), 1):
            host.address = f"10.78.0.{number}"
            bed.ip("-n", host.namespace, "address", "add", f"{host.address}/24", "dev", "link0")
            bed.ip("-n", host.namespace, "link", "set", "link0", "up")

    def refused(self, done, *words):
        self.assertEqual(1, done.returncode, done)
        for word in words:
            self.assertIn(word, done.stderr)

    def program(self, *options):
        """A program that makes three Runs on whatever server `outboard run` finds: its report."""
        report = work / "report.json"
        done = self.device.outboard("run", *options, "--mode", "remote", "--json", report, "--", PYTHON,
                                    SOURCE / "programs/many_runs.py", MODEL, "3")
        self.assertEqual(0, done.returncode, done)
        process = json.loads(report.read_text())["processes"][0]
        for session in process["sessions"]:
            harness.count_late(session)
        return process

    def test_found_and_used_where_a_token_is_held_and_nowhere_else_used(self):
        self.far.start_avahi()
        self.device.start_avahi()
        server = self.far.serve("used", "--announce=edge")
        self.assertEqual("edge", server.announced())
        rows, _ = self.device.servers()
        row = rows["edge", server.address]
        self.assertEqual(("near", "cpu", "-", "none"), tuple(row[c] for c in ("where", "device", "load", "token")))
        self.refused(self.device.outboard("run", "--", "true"), "no server was given", "no server is known")
        self.device.login(server, "lab")
        rows, _ = self.device.servers()
        self.assertEqual({("lab", server.address)}, set(rows))
        row = rows["lab", server.address]
        self.assertEqual(("near", "cpu", "free", "held"), tuple(row[c] for c in ("where", "device", "load", "token")))

        # The same server at another port: heard of there, and used there.
        known = server.address
        server.end()
        wait_for(lambda: self.device.servers()[0]["lab", known]["where"] == "known", "the server's goodbye")
        server = self.far.serve("used", "--announce=edge")
        server.announced()
        self.assertNotEqual(known, server.address)
        process = self.program()
        self.assertEqual([server.address], [s["address"] for s in process["servers"]])
        self.assertEqual(3, sum(s["runs"]["server"] for s in process["sessions"]))

        # Another server takes the known name; and somebody claims the known server's identity.
        server.end()
        wait_for(lambda: {row["where"] for (name, _), row in self.device.servers()[0].items() if name == "lab"} == {"known"},
                 "the server's goodbye")
        other = self.far.serve("other", "--announce=LAB")
        other.announced()
        self.refused(self.device.outboard("run", "--", "true"), "no server was given", "a token is held for none",
                     "is not the one that is known by this name")
        rows, said = self.device.servers()
        self.assertEqual("refused", rows["LAB", other.address]["token"])
        self.assertIn(f"its identity ({other.identity()[:12]}) is not the one that is known by this name", said)
        (self.far.services / "forged.service").write_text(
            FORGED.format(name="edge", port=other.address.split(":")[1], identity=server.identity()))
        wait_for(lambda: ("lab", other.address) in self.device.servers()[0], "the forged announcement")
        rows, said = self.device.servers()
        self.assertEqual("no answer", rows["lab", other.address]["load"])
        self.assertIn("nothing was sent", said)
        # A program is told, and runs here.
        done = self.device.outboard("run", "--", PYTHON, SOURCE / "programs/many_runs.py", MODEL, "1")
        self.assertEqual(0, done.returncode, done)
        self.assertIn("nothing was sent", done.stderr)

    def test_without_daemon_and_without_library(self):
        server = self.far.serve("late", "--announce")
        self.assertIn("avahi-daemon) does not run", server.log())
        self.device.login(server, "lab")
        # Named servers work; what does not is one sentence.
        rows, said = self.device.servers()
        self.assertEqual(("known", "cpu", "free", "held"),
                         tuple(rows["lab", server.address][c] for c in ("where", "device", "load", "token")))
        self.assertEqual(1, len(said.splitlines()), said)
        self.assertIn("Avahi's daemon (avahi-daemon) does not answer", said)
        self.assertEqual(3, sum(s["runs"]["server"] for s in self.program("--server", "lab")["sessions"]))
        self.refused(self.device.outboard("run", "--", "true"), "no server was given", "does not answer")
        hidden = "for f in /usr/lib/*/libavahi-common.so.3; do mount --bind /dev/null $f; done"
        listed = self.device.outboard("servers", before=hidden)
        self.assertEqual(0, listed.returncode, listed)
        self.assertIn("Avahi's library is not here", listed.stderr)
        self.assertIn("lab", listed.stdout)
        # A daemon that starts later, and one that starts anew.
        self.far.start_avahi()
        self.device.start_avahi()
        self.assertEqual(self.far.name, server.announced())
        self.assertIn(("lab", server.address), {k for k, row in self.device.servers()[0].items() if row["where"] == "near"})
        bed.end(self.far.avahi)
        wait_for(lambda: server.log().count("announcement waits") == 2, "word of the daemon's end", server.process)
        self.far.start_avahi()
        server.announced(times=2)

    def test_over_ipv6(self):
        for number, host in enumerate((self.far, self.device), 1):
            bed.ip("-n", host.namespace, "address", "add", f"fd00:78::{number}/64", "dev", "link0", "nodad")
            host.start_avahi(ipv4="no", ipv6="yes")
        server = self.far.serve("six", "--announce=edge", listen="[::]:0")
        server.announced()
        self.device.login(server, "lab")
        rows, said = self.device.servers()
        ((name, address),) = rows
        self.assertEqual(("lab", "near", "free"), (name, rows[name, address]["where"], rows[name, address]["load"]), said)
        self.assertRegex(address, r"^\[(fd00:78::1|fe80::[0-9a-f:]+%link0)\]:\d+$")
        process = self.program()
        self.assertEqual([address], [s["address"] for s in process["servers"]])
        self.assertEqual(3, sum(s["runs"]["server"] for s in process["sessions"]))

    def test_names(self):
        self.far.start_avahi()
        self.device.start_avahi()
        first = self.far.serve("first", "--announce=twin", listen=f"{self.far.address}:0")
        self.assertEqual("twin", first.announced())
        beside = self.far.serve("beside", "--announce=twin")
        beyond = self.device.serve("beyond", "--announce=twin")
        self.assertEqual("twin #2", beside.announced())
        self.assertRegex(beyond.announced(), "^twin #[23]$")
        rows, _ = self.device.servers()
        self.assertEqual(3, len({name for name, _ in rows}), rows)
        for arguments, words in (([f"--announce={'x' * 64}"], "at most 63 bytes"), (["--announce=a\nb"], "printable"),
                                 (["--announce", "--listen", "127.0.0.1:0"], "nothing to announce")):
            listen = [] if "--listen" in arguments else ["--listen", "0.0.0.0:0"]
            self.refused(self.far.outboard("serve", *listen, "--state", work / "names", "--store", work / "names-store",
                                           "--ort-library", ORT, *arguments), words)


if __name__ == "__main__":
    unittest.main()
