# SPDX-License-Identifier: Apache-2.0
"""Published architectures, at small input sizes, over three nodes, two of them servers: the outputs are those of the library on the whole model,
within float rounding."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import numpy
import onnx
import onnxruntime

OUTBOARD, SCRIPTS = sys.argv.pop(1), sys.argv.pop(1)
sys.path[:0] = [SCRIPTS, str(pathlib.Path(SCRIPTS).parent / "bench")]
import common  # noqa: E402
from make_models import ZOO  # noqa: E402
from models import graph  # noqa: E402

LIMIT_S = 200
SIZES = {"vgg-16": (64, 64), "resnet-50": (96, 96), "mobilenet-v2": (96, 96), "densenet-121": (96, 96), "inception-v3": (139, 139),
         "openpose-body25": (64, 48), "yolo-v8n": (96, 96), "unet": (64, 64)}


def write_small(name, path):
    """The zoo's model for an input of another size. Returns the input's name and shape."""
    import importlib
    module, function = ZOO[name][:2]
    whole = graph.Graph.input
    given = {}

    def small(self, tensor, shape, *more, **others):
        given["name"], given["shape"] = tensor, (*shape[:2], *SIZES[name])
        return whole(self, tensor, given["shape"], *more, **others)

    graph.Graph.input = small
    try:
        onnx.save(getattr(importlib.import_module(f"models.{module}"), function)().model(), path)
    finally:
        graph.Graph.input = whole
    return given["name"], given["shape"]


class Models(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.work = tempfile.TemporaryDirectory()
        cls.folder = pathlib.Path(cls.work.name)
        os.environ["XDG_CACHE_HOME"] = str(cls.folder / "cache")  # the host's bands
        addresses = [f"unix:{cls.folder}/{i}" for i in range(2)]
        cls.servers = []
        for i, address in enumerate(addresses):
            with open(cls.folder / f"log{i}", "wb") as log:
                cls.servers.append(subprocess.Popen(
                    [OUTBOARD, "serve", "--listen", address, "--peers", addresses[1 - i], "--store", str(cls.folder / f"store{i}"),
                     "--threads", "1", "--ready-file", str(cls.folder / f"ready{i}")], stdout=log, stderr=log))
        for i, server in enumerate(cls.servers):
            common.wait_ready(server, cls.folder / f"ready{i}", cls.folder / f"log{i}")
        # Slow nodes and a quick link, so that the plan is for all of them.
        nodes = [{"name": f"n{i}", "flops_per_s": 1e8, **({"address": addresses[i - 1]} if i else {})} for i in range(3)]
        (cls.folder / "cluster.json").write_text(json.dumps(
            {"host": "n0", "nodes": nodes, "link": {"delay_us": 10, "rate_bits_per_s": 1e10}}))

    @classmethod
    def tearDownClass(cls):
        for server in cls.servers:
            server.kill()
            server.wait()
        cls.work.cleanup()

    def check(self, name):
        path, image = self.folder / f"{name}.onnx", self.folder / "image.npy"
        tensor, shape = write_small(name, path)
        numpy.save(image, numpy.random.default_rng(2).random(shape, dtype=numpy.float32))
        for scheme in ("dpfp" if name == "vgg-16" else "auto",):
            got = subprocess.run([OUTBOARD, "split", "run", str(path), "--cluster", str(self.folder / "cluster.json"), "--input",
                                  f"{tensor}={image}", "--output", str(self.folder), "--runs", "2", "--json", "--effort", "0.05", "--scheme", scheme],
                                 capture_output=True, text=True, timeout=LIMIT_S, check=False)
            self.assertEqual(got.returncode, 0, got.stderr)
            row = json.loads(got.stdout)
            self.assertIn("split over", row["state"], got.stderr)
            session = onnxruntime.InferenceSession(str(path))
            for value, whole in zip(session.get_outputs(), session.run(None, {tensor: numpy.load(image)})):
                split = numpy.fromfile(self.folder / (value.name.replace("/", "_") + ".raw"), dtype=whole.dtype).reshape(whole.shape)
                self.assertLess(numpy.abs(split - whole).max() / numpy.abs(whole).max(), 1e-4, f"{name} by {scheme}: {value.name}")
            print(f"{name} by {scheme}: {row['state']}, difference {row['difference']:.2g}", file=sys.stderr, flush=True)
        path.unlink()


for model in SIZES:
    setattr(Models, f"test_{model.replace('-', '_')}", lambda self, model=model: self.check(model))

if __name__ == "__main__":
    unittest.main()
