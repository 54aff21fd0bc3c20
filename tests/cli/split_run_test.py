# SPDX-License-Identifier: Apache-2.0
"""`outboard split run` and `serve --peers` as programs: nodes that are servers compute one inference together, over TCP on
loopback and over network namespaces, and what goes wrong ends in a sentence and a Run on one node."""
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import unittest

import numpy
import onnx
from onnx import TensorProto, helper

OUTBOARD, BENCH = sys.argv.pop(1), sys.argv.pop(1)
sys.path.insert(0, BENCH)
import common  # noqa: E402
import split  # noqa: E402

LIMIT_S = 300


def write_model(path, size=64, channels=16):
    """Six 3x3 convolutions with a pool between them and a small head."""
    random = numpy.random.default_rng(1)
    nodes, weights, x, width, inner = [], [], "image", 3, channels
    for i in range(6):
        w = random.standard_normal((inner, width, 3, 3), dtype=numpy.float32) / numpy.float32((width * 9) ** 0.5)
        weights.append(helper.make_tensor(f"w{i}", TensorProto.FLOAT, w.shape, w.tobytes(), raw=True))
        nodes.append(helper.make_node("Conv", [x, f"w{i}"], [f"c{i}"], pads=[1, 1, 1, 1], name=f"conv{i}"))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"r{i}"], name=f"relu{i}"))
        x, width = f"r{i}", inner
        if i == 2:
            nodes.append(helper.make_node("MaxPool", [x], ["p"], kernel_shape=[2, 2], strides=[2, 2], name="pool"))
            x = "p"
    nodes.append(helper.make_node("GlobalAveragePool", [x], ["g"], name="mean"))
    graph = helper.make_graph(nodes, "small", [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, size, size])],
                              [helper.make_tensor_value_info("g", TensorProto.FLOAT, [1, inner, 1, 1])], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, path)


# Runs until the server's log says that the session is split, some more, and some after the peer was lost.
PROGRAM = """
import os, sys, time
import numpy, onnxruntime
model, log, lost = sys.argv[1:]
image = numpy.random.default_rng(5).random((1, 3, 160, 160), dtype=numpy.float32)
session = onnxruntime.InferenceSession(model)
first = session.run(None, {"image": image})[0]
def check(n):
    for _ in range(n):
        numpy.testing.assert_allclose(session.run(None, {"image": image})[0], first, rtol=1e-4, atol=1e-5)
limit = time.monotonic() + 250
while "split plan in use" not in open(log).read():
    check(1)
    if time.monotonic() > limit:
        sys.exit("no plan")
check(10)
print("split", flush=True)
while not os.path.exists(lost):
    check(1)
check(30)
print("all right", flush=True)
"""


class Node:
    def __init__(self, folder, name, *arguments, listen="127.0.0.1:0", inside=lambda command: command):
        self.ready = folder / f"ready-{name}"
        self.ready.unlink(missing_ok=True)  # of one before it
        self.log = open(folder / f"{name}.log", "wb")
        self.process = subprocess.Popen(inside([OUTBOARD, "serve", "--listen", listen, "--store", str(folder / name), "--threads",
                                                "1", "--ready-file", str(self.ready), *arguments]), stdout=self.log, stderr=self.log)
        self.address = common.wait_ready(self.process, self.ready, folder / f"{name}.log")[0]

    def end(self):
        self.process.kill()
        self.process.wait()
        self.log.close()

    def status(self):
        return json.loads(subprocess.check_output([OUTBOARD, "status", self.address, "--json"], timeout=LIMIT_S))


def sockets(pid):
    """Inodes of a process's sockets."""
    inodes = set()
    for file in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            link = os.readlink(file)
            if link.startswith("socket:["):
                inodes.add(link[8:-1])
    return inodes


def network_sockets():
    """Inodes of all sockets of this machine that are not of within it."""
    lines = (line for name in ("tcp", "tcp6", "udp", "udp6") for line in pathlib.Path(f"/proc/net/{name}").read_text().splitlines()[1:])
    return {line.split()[9] for line in lines}


class SplitRun(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        os.environ["XDG_CACHE_HOME"] = str(self.folder / "cache")  # the host's bands
        self.model = self.folder / "small.onnx"
        write_model(self.model)

    def node(self, name, *arguments, **more):
        node = Node(self.folder, name, *arguments, **more)
        self.addCleanup(node.end)
        return node

    def cluster(self, addresses):
        path = self.folder / "cluster.json"
        nodes = [{"name": "host", "flops_per_s": 1e8}]
        nodes += [{"name": f"n{i}", "flops_per_s": 1e8, **({"address": a} if a else {})} for i, a in enumerate(addresses)]
        path.write_text(json.dumps({"host": "host", "nodes": nodes, "link": {"delay_us": 20, "rate_bits_per_s": 1e9}}))
        return path

    def split(self, cluster, *arguments, inside=lambda command: command):
        return subprocess.run(inside([OUTBOARD, "split", "run", str(self.model), "--cluster", str(cluster), *arguments]),
                              capture_output=True, text=True, timeout=LIMIT_S, check=False)

    def test_two_nodes_give_the_whole_result(self):
        for scheme in ("auto", "modnn", "dpfp", "tiles"):
            got = self.split(self.cluster([self.node(f"peer-{scheme}").address]), "--runs", "3", "--json", "--scheme", scheme)
            self.assertEqual(got.returncode, 0, got.stderr)
            row = json.loads(got.stdout)
            self.assertEqual(row["state"], "split over 2 nodes", got.stderr)
            self.assertLess(row["difference"], 1e-4)
            self.assertEqual(len(row["split_us"]), 3)

    def test_bands_are_kept_and_made_anew_where_files_are_damaged(self):
        folders = [self.folder / "peer/bands", self.folder / "cache/outboard/store/bands"]
        arguments = ("--json", "--scheme", "dpfp", "--output", str(self.folder))
        outputs = []
        for damaged in (False, True, False):
            if damaged:
                for file in [f for folder in folders for f in folder.rglob("*") if f.is_file()]:
                    content = bytearray(file.read_bytes())
                    content[len(content) // 2] ^= 1
                    file.write_bytes(content)
            node = self.node("peer")
            got = self.split(self.cluster([node.address]), *arguments)
            self.assertEqual(got.returncode, 0, got.stderr)
            self.assertEqual(json.loads(got.stdout)["nodes"], 2, got.stderr)
            node.end()
            for said in (got.stderr, pathlib.Path(node.log.name).read_text()):
                self.assertEqual("damaged file removed" in said, damaged, said)
            outputs.append((self.folder / "g.raw").read_bytes())
            for folder in folders:
                self.assertTrue(list((folder / "bands").iterdir()))
                self.assertTrue(list((folder / "weights").iterdir()))
        self.assertEqual(outputs[0], outputs[1])
        self.assertEqual(outputs[0], outputs[2])

    def test_outputs_are_those_of_the_library(self):
        import onnxruntime
        image = numpy.random.default_rng(3).random((1, 3, 64, 64), dtype=numpy.float32)
        numpy.save(self.folder / "image.npy", image)
        got = self.split(self.cluster([self.node("peer").address]), "--input", f"image={self.folder / 'image.npy'}", "--scheme",
                         "dpfp", "--output", str(self.folder))
        self.assertEqual(got.returncode, 0, got.stderr)
        whole = onnxruntime.InferenceSession(str(self.model)).run(None, {"image": image})[0]
        split = numpy.fromfile(self.folder / "g.raw", dtype=numpy.float32).reshape(whole.shape)
        numpy.testing.assert_allclose(split, whole, rtol=1e-4, atol=1e-5)

    def test_a_node_that_is_not_there_is_a_sentence_and_one_node(self):
        node = self.node("gone")
        node.end()
        got = self.split(self.cluster([node.address]), "--json")
        self.assertEqual(got.returncode, 0, got.stderr)
        self.assertIn("the Run is done on one node: one node: none of the other nodes answers", got.stderr)
        self.assertEqual(json.loads(got.stdout)["nodes"], 1)

    def test_a_node_without_an_address_is_a_sentence(self):
        got = self.split(self.cluster([None]))
        self.assertEqual(got.returncode, 1)
        self.assertIn("the node (n0) has no address", got.stderr)

    def test_a_node_that_is_too_small_is_a_sentence(self):
        node = self.node("small", "--peers-memory", "1KB")
        got = self.split(self.cluster([node.address]), "--json")
        self.assertEqual(got.returncode, 0, got.stderr)
        self.assertIn("this node is too small for its part", got.stderr)

    def test_peers_that_do_not_know_each_other_are_a_sentence_and_fewer_nodes(self):
        # With three beside the host some are neighbours, whose rows touch.
        for known in (True, False):
            addresses = {name: f"unix:{self.folder}/{name}-{known}.socket" for name in "abc"}
            for name, address in addresses.items():
                others = ",".join(a for a in addresses.values() if a != address)
                self.node(f"{name}-{known}", *(["--peers", others] if known else []), listen=address)
            got = self.split(self.cluster(addresses.values()), "--runs", "2", "--json")
            self.assertEqual(got.returncode, 0, got.stderr)
            row = json.loads(got.stdout)
            self.assertLess(row["difference"], 1e-4)
            if known:
                self.assertEqual(row["nodes"], 4, got.stderr)
            else:
                self.assertLess(row["nodes"], 4, got.stderr)
                self.assertRegex(got.stderr, r"this server does not know the peer \(unix:.*\); start it with --peers")

    def test_a_session_of_an_ordinary_program_is_split_and_survives_the_loss_of_the_peer(self):
        peer = self.node("peer")
        host = self.node("host", "--peers", peer.address, "--peers-gain", "0")
        self.split_until(peer.end, host)

    def test_bands_are_computed_in_workers_which_have_no_network(self):
        # Those of a plan that was given up, as on a busy machine, stay to be looked at.
        apart = ("--isolation", "on", "--worker-idle", "3600")
        peer = self.node("peer", *apart)
        host = self.node("host", "--peers", peer.address, "--peers-gain", "0", *apart)

        def look_and_end_a_worker():
            network = network_sockets()
            for node in (peer, host):
                pid = node.process.pid
                self.assertNotIn("libonnxruntime", pathlib.Path(f"/proc/{pid}/maps").read_text())
                self.assertTrue(sockets(pid) & network, "the links are the server's")
                workers = [row["pid"] for row in node.status()["workers"] if row["tenant"] != "-"]
                self.assertTrue(workers)
                for worker in workers:
                    self.assertIn("libonnxruntime", pathlib.Path(f"/proc/{worker}/maps").read_text())
                    self.assertTrue(sockets(worker), "the way to its server")
                    self.assertFalse(sockets(worker) & network)
            os.kill(workers[-1], signal.SIGKILL)

        self.split_until(look_and_end_a_worker, host)

    def split_until(self, meanwhile, host):
        """An ordinary program's session at `host` is split; then something happens, and its results stay right."""
        large = self.folder / "large.onnx"
        write_model(large, size=160, channels=32)
        log, lost = pathlib.Path(host.log.name), self.folder / "lost"
        program = subprocess.Popen([OUTBOARD, "run", "--server", host.address, "--mode", "remote", "--", sys.executable, "-c",
                                    PROGRAM, str(large), str(log), str(lost)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   text=True)
        self.addCleanup(program.kill)
        said = []
        for line in program.stdout:
            said.append(line)
            if line.strip() == "split":
                break
        else:
            self.fail(f"the session was not split: {''.join(said)}{log.read_text()}")
        meanwhile()
        lost.touch()
        rest = program.stdout.read()
        self.assertEqual(program.wait(LIMIT_S), 0, rest)
        program.stdout.close()
        self.assertIn("all right", rest)
        host.process.terminate()
        host.process.wait(LIMIT_S)
        self.assertRegex(log.read_text(), r"split session ended .*split=[1-9][0-9]* .*rescued=[0-9]")

    def test_over_network_namespaces(self):
        reason = split.bed.lacks()
        if reason is not None:
            print(f"*** SKIPPED: a split over network namespaces was NOT tested: {reason} ***", file=sys.stderr, flush=True)
            self.skipTest(reason)
        common.BUILD = pathlib.Path(OUTBOARD).parent
        with split.Nodes(3, 1000, str(self.folder), False) as nodes:
            cluster = self.cluster([nodes.address(1), nodes.address(2)])
            got = self.split(cluster, "--runs", "3", "--json", "--insecure", inside=lambda command: nodes.inside(0, command))
            self.assertEqual(got.returncode, 0, got.stderr)
            row = json.loads(got.stdout)
            self.assertEqual(row["state"], "split over 3 nodes", got.stderr)
            self.assertLess(row["difference"], 1e-4)
            # Without --insecure and without a known identity nothing is sent to them.
            got = self.split(cluster, "--json", inside=lambda command: nodes.inside(0, command))
            self.assertEqual(got.returncode, 0, got.stderr)
            self.assertIn("the Run is done on one node", got.stderr)
            self.assertIn("outboard login", got.stderr)


if __name__ == "__main__":
    unittest.main()
