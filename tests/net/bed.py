# SPDX-License-Identifier: Apache-2.0
"""A test bed of links: network namespaces joined by veth, `tc tbf` for the rate, a relay for delay and faults, and CPU
quotas for a weak device. Needs root on Linux with network namespaces, tbf and the cpu cgroup of version 1.

    with Bed(build_folder) as bed:                       # raises Unavailable where it cannot run
        link = bed.link(rate_bps=100e6, delay_ms=5)      # one server at the far end of one link
        server = link.serve(folder, "--threads", 1)      # an `outboard serve` there; server.address for the device
        device = bed.popen([outboard, "run", "--server", server.address, ...], cpu_share=0.1, core=0)
        link.set_rate(1e6); link.cut(); link.restore(); link.stall("up"); link.after("down", 1000, "reset")

The device lives in one namespace, every server in one of its own with a relay beside it; a packet between them passes
tbf at either end. The rate is that of the wire (frames included); the relay ends TCP, so a delay does not slow a
connection's start as it would on a real link. All of it is gone when the `with` ends; what a killed test left (namespaces,
cgroups and processes under the id of a process that is gone) is removed when the next bed is made. Not thread-safe, but
for the methods of Link.
"""
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent / "bench"))
import common  # noqa: E402

CPU_CGROUP = pathlib.Path("/sys/fs/cgroup/cpu")
PERIOD_US = 10_000  # of a CPU quota: short, so that a share is a slow processor and not one that stops and goes
LEAST_QUOTA_US = 1000  # the kernel takes no less
MARK = "outboard"


class Unavailable(common.Missing):
    """Why the bed cannot be made here."""


def why_not():
    """What this machine lacks for a bed, or None."""
    if not (CPU_CGROUP / "cpu.cfs_quota_us").exists():
        return f"there is no cpu cgroup of version 1 at {CPU_CGROUP}"
    return lacks()


def lacks(tools=()):
    """What this machine lacks for namespaces that are joined by links with a rate, and these tools besides; or None."""
    if os.geteuid() != 0:
        return "it needs root"
    for tool in ("ip", "tc", "nsenter", *tools):
        if shutil.which(tool) is None:
            return f"there is no {tool}: run scripts/install-deps.sh"
    probe = f"{MARK}{os.getpid()}-probe"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        return f"no network namespace can be made here ({made.stderr.strip()})"
    try:
        tbf = subprocess.run(["ip", "netns", "exec", probe, "tc", "qdisc", "add", "dev", "lo", "root", "tbf", "rate",
                              "1mbit", "burst", "3200", "limit", "100000"], capture_output=True, text=True, check=False)
        return None if tbf.returncode == 0 else f"tc tbf does not work here ({tbf.stderr.strip()})"
    finally:
        subprocess.run(["ip", "netns", "del", probe], check=False)


def skip_loudly(what):
    """True, after a loud line on stderr, where no bed can be made."""
    reason = why_not()
    if reason is not None:
        print(f"*** SKIPPED: {what} was NOT tested: no test bed of links here: {reason} ***", file=sys.stderr, flush=True)
    return reason is not None


def ip(*arguments):
    command(["ip", *arguments])


def command(arguments):
    got = subprocess.run([str(a) for a in arguments], capture_output=True, text=True, check=False)
    if got.returncode != 0:
        raise Unavailable(f"`{' '.join(map(str, arguments))}` failed: {got.stderr.strip()}")
    return got.stdout


def shape(namespace, device, rate_bps, burst_bytes=None, queue_s=None):
    """Makes a device (of this machine's own namespace: None) as slow as that; None: as fast as the machine."""
    tc = ["tc", *([] if namespace is None else ["-n", namespace]), "qdisc"]
    if rate_bps is None:
        subprocess.run([*tc, "del", "dev", device, "root"], capture_output=True, check=False)
        return
    burst = burst_bytes or max(3200, round(rate_bps / 8 * 0.001))
    limit = max(4 * burst, 300_000) if queue_s is None else burst + round(rate_bps / 8 * queue_s)
    command([*tc, "replace", "dev", device, "root", "tbf", "rate", f"{round(rate_bps)}bit", "burst", burst, "limit", limit])


def wait_for(condition, what, limit_s=120):
    """Polls, for what cannot tell by itself that it has happened."""
    end = time.monotonic() + limit_s
    while not (value := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"{what} did not happen within {limit_s} s")
        time.sleep(0.01)
    return value


class Bed:
    def __init__(self, build):
        self.build = pathlib.Path(build)
        self._name = f"{MARK}{os.getpid()}"
        self._stack = contextlib.ExitStack()
        self._links = 0

    def __enter__(self):
        reason = why_not()
        if reason is not None:
            raise Unavailable(reason)
        remove_stale()
        with contextlib.ExitStack() as stack:
            self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"{self._name}-"))
            stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
            self.namespace = self._make_namespace("device", stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        self._stack.close()

    def _make_namespace(self, name, stack):
        full = f"{self._name}-{name}"
        ip("netns", "add", full)
        stack.callback(remove_namespace, full)
        ip("-n", full, "link", "set", "lo", "up")
        return full

    def link(self, rate_bps=None, delay_ms=0):
        """A new link from the device to the place of a server."""
        self._links += 1
        return self._stack.enter_context(Link(self, self._links, rate_bps, delay_ms))

    def small_disk(self, name, size_bytes):
        """A file system of that size in a folder of the bed."""
        folder = self.folder / name
        folder.mkdir()
        command(["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", f"{self._name}-{name}", folder])
        self._stack.callback(unmount, folder)
        return folder

    def cgroup(self, name, cpu_share):
        """A CPU quota of `cpu_share` cores, for processes that are started with it."""
        group = CPU_CGROUP / f"{self._name}-{name}"
        if not group.exists():
            group.mkdir()
            self._stack.callback(remove_cgroup, group)
        period_us = max(PERIOD_US, round(LEAST_QUOTA_US / (cpu_share or 1)))
        (group / "cpu.cfs_period_us").write_text(str(period_us))
        (group / "cpu.cfs_quota_us").write_text(str(-1 if cpu_share is None else round(period_us * cpu_share)))
        return group

    def popen(self, arguments, namespace=None, cpu_share=None, core=None, **more):
        """A process, by default on the device; `core` pins it, `cpu_share` limits it to so much of a core."""
        group = None if cpu_share is None else self.cgroup(f"share{cpu_share}", cpu_share)

        def prepare():
            if group is not None:
                (group / "tasks").write_text("0")
            if core is not None:
                os.sched_setaffinity(0, {core} if isinstance(core, int) else core)

        # Links between namespaces are beyond "this machine" to a client, and plain here.
        more["env"] = {**(more.get("env") or os.environ), "OUTBOARD_INSECURE": "1"}
        process = subprocess.Popen(["nsenter", f"--net=/run/netns/{namespace or self.namespace}", "--",
                                    *map(str, arguments)], preexec_fn=prepare, **more)
        self._stack.callback(end, process)
        return process


class Link:
    """One link and the namespace at its far end. Made by Bed.link()."""

    def __init__(self, bed, number, rate_bps, delay_ms):
        self._bed, self._number = bed, number
        self._rate_bps, self._delay_ms = rate_bps, delay_ms
        self._stack = contextlib.ExitStack()
        self._near, self._far = f"near{number}", f"far{number}"
        self._host = 2  # of the device's address
        self._relay = None
        self.ip = f"10.77.{number}.1"

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            bed = self._bed
            self.namespace = bed._make_namespace(f"server{self._number}", stack)
            ip("link", "add", self._near, "netns", bed.namespace, "type", "veth", "peer", "name", self._far, "netns",
               self.namespace)
            for namespace, device, address in ((bed.namespace, self._near, f"10.77.{self._number}.{self._host}/24"),
                                               (self.namespace, self._far, f"{self.ip}/24")):
                ip("-n", namespace, "address", "add", address, "dev", device)
                ip("-n", namespace, "link", "set", device, "up")
            if self._rate_bps is not None:
                self.set_rate(self._rate_bps)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        self._stack.close()

    # ---- what the link is like; any thread, at any time

    def set_rate(self, rate_bps):
        """Bits per second of the wire, both ways; None: as fast as the machine."""
        for namespace, device in ((self._bed.namespace, self._near), (self.namespace, self._far)):
            shape(namespace, device, rate_bps)
        self._rate_bps = rate_bps

    def set_delay(self, delay_ms):
        """One way, each direction, of what passes from now on."""
        self._delay_ms = delay_ms
        if self._relay is not None:
            self._command(f"delay {delay_ms * 1000:.0f}")

    def trickle(self, direction, bytes_per_s):
        """Slower than the rate; 0 ends it. `direction`: up, down or both."""
        self._command(f"rate {direction} {bytes_per_s}")

    def stall(self, direction="both", on=True):
        """Holds what passes; `on=False` lets it go on in order."""
        self._command(f"stall {direction} {'on' if on else 'off'}")

    def cut(self):
        """Nothing passes any more, new connections included, and neither end is told."""
        self._command("cut")

    def restore(self):
        """Ends a cut; connections from before are reset."""
        self._command("restore")

    def reset(self):
        """Resets all connections; new ones are possible."""
        self._command("reset")

    def after(self, direction, size_bytes, then):
        """Once, when so many more bytes have passed: then "cut" the link, "drop" or "reset" that connection."""
        self._command(f"after {direction} {size_bytes} {then}")

    def stats(self):
        """Connections open, connections accepted in all, bytes up, bytes down."""
        return tuple(int(n) for n in self._command("stats").split())

    def move_device(self):
        """The device gets another address on this link; its connections are not told."""
        before, self._host = self._host, self._host + 1
        # In this order: with the first address of a subnet its others would go, too.
        ip("-n", self._bed.namespace, "address", "del", f"10.77.{self._number}.{before}/24", "dev", self._near)
        ip("-n", self._bed.namespace, "address", "add", f"10.77.{self._number}.{self._host}/24", "dev", self._near)

    def unplug(self):
        """Packets are lost between the two ends from now on, and neither is told; for a server without a relay."""
        ip("-n", self.namespace, "link", "set", self._far, "down")

    def plug(self):
        ip("-n", self.namespace, "link", "set", self._far, "up")

    def relay_pid(self):
        return self._relay.pid

    def _command(self, text):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
            control.settimeout(5)
            control.connect(str(self._control()))
            control.sendall(text.encode() + b"\n")
            answer = control.makefile().readline().strip()
        if not answer.startswith("ok"):
            raise ValueError(answer)
        return answer[2:].strip()

    # ---- what is at the far end

    def _control(self):
        return self._bed.folder / f"relay{self._number}"

    def relay_to(self, target):
        """Lets the device reach `target` ("IP:PORT" in the far namespace); the address that the device uses. A second
        call sends new connections to another target."""
        if self._relay is not None:
            self._command(f"target {target}")
            return self.address
        program = self._bed.build / "tests/net_relay"
        if not program.exists():
            raise Unavailable(f"the relay ({program}) is not built")
        self._relay = self._bed.popen([program, self.ip, target, self._control()], namespace=self.namespace,
                                      stdout=subprocess.PIPE, text=True)
        self._stack.callback(end, self._relay)
        self.address = f"{self.ip}:{int(self._relay.stdout.readline())}"
        self.set_delay(self._delay_ms)
        return self.address

    def popen(self, arguments, **more):
        """A process at the far end."""
        return self._bed.popen(arguments, namespace=self.namespace, **more)

    def serve(self, folder, *arguments, core=None, cpu_share=None, ort_library=None, direct=False, secured=False):
        """An `outboard serve` at the far end with its store in `folder`; killed when the bed ends. `direct`: without the
        relay, so the connections are the kernel's from end to end, and rate and unplug() are all that can be played.
        `secured`: likewise, over TLS and with a token; its address is a name then, for programs with its `environment`."""
        return Server(self, pathlib.Path(folder), arguments, core, cpu_share, ort_library, direct, secured)


class Server:
    """An `outboard serve` behind a link. `address` is how the device reaches it; kill() and start() are faults."""

    def __init__(self, link, folder, arguments, core, cpu_share, ort_library, direct, secured):
        self.link, self.folder, self._direct, self._secured = link, folder, direct or secured, secured
        self._listen = f"{link.ip}:0" if self._direct else "127.0.0.1:0"
        self.environment = {**os.environ, "XDG_CONFIG_HOME": str(folder / "config")} if secured else None
        self._arguments, self._core, self._cpu_share = list(arguments), core, cpu_share
        self._library = [] if ort_library is None else ["--ort-library", ort_library]
        self._count = 0
        self.start()

    def start(self):
        """Starts it (again); the device's address of it stays the same."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._count += 1
        ready = self.folder / f"ready{self._count}"
        ready.unlink(missing_ok=True)  # of a server that was killed, in the same folder
        with open(self.folder / "server.log", "ab") as log:
            self.process = self.link.popen(
                [self.link._bed.build / "outboard", "serve", "--listen", self._listen, "--store", self.folder / "store",
                 "--ready-file", ready, *self._access(), *self._library, *self._arguments],
                core=self._core, cpu_share=self._cpu_share, stdout=log, stderr=log)
        addresses = common.wait_ready(self.process, ready, self.folder / "server.log")
        self.local_address = next(a for a in addresses if not a.startswith("unix:"))
        if self._direct:
            self.address = self._listen = self.local_address
            if self._secured:
                self.address = self._login()
        else:
            self.address = self.link.relay_to(self.local_address)

    def _access(self):
        """Models are computed in the server's process, as behind a relay: worker processes have tests and figures of their own."""
        if self._secured:
            return ["--state", self.folder / "state", "--isolation", "off"]
        return ["--insecure", "--isolation", "off"] if self._direct else []

    def _login(self):
        """Its name, once the device knows its identity and has a token."""
        name = "secured"
        if self._count == 1:
            line = (self.folder / "state/first-token").read_text()
            command_line = [self.link._bed.build / "outboard", "login", "--name", name]
            login = self.link._bed.popen(command_line, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
                                         env=self.environment)
            login.communicate(re.sub(r"//[^?#]*", f"//{self.local_address}", line), timeout=30)
            if login.returncode != 0:
                raise Unavailable(f"outboard login ended with status {login.returncode}")
        return name

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        """SIGSTOP: it is there and does nothing; go_on() ends that."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def status(self):
        """Its status, past the link."""
        got = self.link.popen([self.link._bed.build / "outboard", "status", self.local_address, "--json"],
                              stdout=subprocess.PIPE, text=True).communicate(timeout=120)[0]
        return json.loads(got)


def end(process):
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()


# ---- removal: also of what a bed that was killed left behind


def kill_all(pids):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


def remove_namespace(name):
    """With every process that is still in it; its veth goes with it."""
    got = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False)
    kill_all(got.stdout.split())
    subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def remove_cgroup(group):
    end_s = time.monotonic() + 5
    while group.exists():
        with contextlib.suppress(OSError):
            kill_all((group / "tasks").read_text().split())
            group.rmdir()
            return
        if time.monotonic() > end_s:
            print(f"cgroup ({group}) could not be removed", file=sys.stderr)
            return
        time.sleep(0.01)


def unmount(folder):
    subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, check=False)


def is_stale(name):
    """Does the name belong to a process that is gone?"""
    match = re.match(rf"{MARK}(\d+)-", name)
    return match is not None and not pathlib.Path("/proc", match[1]).exists()


def remove_stale():
    for line in command(["ip", "netns", "list"]).splitlines():
        if line and is_stale(name := line.split()[0]):
            remove_namespace(name)
    for group in CPU_CGROUP.iterdir():
        if group.is_dir() and is_stale(group.name):
            remove_cgroup(group)
    for line in pathlib.Path("/proc/mounts").read_text().splitlines():
        if is_stale(line.split()[0]):
            unmount(line.split()[1])
    for folder in pathlib.Path(tempfile.gettempdir()).iterdir():
        if is_stale(folder.name):
            shutil.rmtree(folder, ignore_errors=True)
