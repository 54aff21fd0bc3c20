#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the models that tests, the demo and the benchmarks run: published architectures with seeded weights.

    scripts/make_models.py [NAME...]     make these (default: every one) in build/models; one that is there is left alone
    scripts/make_models.py --list        what there is, made or not, beside the published numbers

Needs onnx and numpy: run it with build/deps/venv/bin/python, which it does by itself where that exists.
"""
import argparse
import hashlib
import importlib
import json
import os
import pathlib
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
VENV = ROOT / "build/deps/venv/bin/python"

# name: (module, function, published parameters, published multiply-accumulates or None, what it is)
ZOO = {
    "tiny": ("basic", "tiny", 272, 256, "one 16x16 Gemm and a ReLU"),
    "bytes-16mb": ("basic", "bytes_16mb", 0, 0, "16 MiB in, 16 MiB out, one Neg"),
    "mobilenet-v2": ("classifiers", "mobilenet_v2", 3_504_872, 301e6, "torchvision mobilenet_v2; batch norm folded"),
    "resnet-50": ("classifiers", "resnet50", 25_557_032, 4.09e9, "torchvision resnet50 (v1.5); batch norm folded"),
    "vgg-16": ("classifiers", "vgg16", 138_357_544, 15.47e9, "torchvision vgg16; it has no batch norm"),
    "densenet-121": ("classifiers", "densenet121", 7_978_856, 2.83e9,
                     "torchvision densenet121; batch norm folded where a convolution precedes it, else separate"),
    "inception-v3": ("inception", "inception_v3", 23_834_568, 5.71e9, "torchvision inception_v3; batch norm folded"),
    # 26,166,084 floats are 104.66 MB; the published pose_iter_584000.caffemodel has 104.72 MB with its layers' names.
    "openpose-body25": ("dense", "openpose_body25", 26_166_084, None, "OpenPose BODY_25; it has no batch norm"),
    "yolo-v8n": ("dense", "yolov8n", 3_157_200, 4.35e9, "Ultralytics YOLOv8n, 640x640, with its head; batch norm folded"),
    "unet": ("dense", "unet", 31_037_633, None, "milesial/Pytorch-UNet, padded convolutions; batch norm folded"),
    "bert-base": ("language", "bert_base", 109_482_240, 11.2e9,
                  "BERT base uncased with its pooler, counted at 128 tokens"),
}


def recipe(module):
    """Changes when the code that makes a model does."""
    digest = hashlib.sha256()
    for name in ("graph", module):
        digest.update((ROOT / f"scripts/models/{name}.py").read_bytes())
    return digest.hexdigest()[:16]


def make(name, folder):
    """Writes NAME.onnx and NAME.json unless both are there and made by the code of today. Returns the description."""
    module, function = ZOO[name][:2]
    path, about = folder / f"{name}.onnx", folder / f"{name}.json"
    key = recipe(module)
    known = read_about(about)
    if known and known["recipe"] == key and path.exists() and path.stat().st_size == known["size_bytes"]:
        return known, False
    from models.graph import shape_of, type_of
    graph = getattr(importlib.import_module(f"models.{module}"), function)()
    model = graph.model()
    data = model.SerializeToString()
    described = {
        "name": name, "recipe": key, "size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(),
        "inputs": [{"name": i.name, "type": type_of(i), "shape": shape_of(i)} for i in model.graph.input],
        "outputs": [{"name": o.name, "type": type_of(o), "shape": shape_of(o)} for o in model.graph.output],
        "parameters": graph.counts.learnable, "stored_parameters": graph.counts.stored,
        "flops": 2 * graph.counts.macs, "ir_version": model.ir_version, "opset": graph.opset,
    }
    folder.mkdir(parents=True, exist_ok=True)
    for target, content in ((path, data), (about, json.dumps(described, indent=1).encode() + b"\n")):
        scratch = target.with_name(f"{target.name}.{os.getpid()}")  # two makers at once: the last rename wins
        scratch.write_bytes(content)
        scratch.replace(target)
    return described, True


def read_about(about):
    try:
        return json.loads(about.read_text())
    except (OSError, ValueError):
        return None


def table(folder):
    row = "{:<16} {:<44} {:<26} {:>12} {:>12} {:>9} {:>9} {:>7}  {}"
    print(row.format("model", "inputs", "outputs", "parameters", "published", "GFLOP", "published", "MB", "what"))
    for name, (_, _, parameters, macs, what) in ZOO.items():
        known = read_about(folder / f"{name}.json")
        published = f"{2 * macs / 1e9:.2f}" if macs is not None else "-"
        if not known:
            print(row.format(name, "(not made)", "", "", parameters, "", published, "", what))
            continue
        shapes = [", ".join("x".join(map(str, t["shape"])) + (f" {t['type']}" if t["type"] != "float" else "")
                            for t in known[side]) for side in ("inputs", "outputs")]
        print(row.format(name, *shapes, known["parameters"], parameters, f"{known['flops'] / 1e9:.2f}",
                         published, f"{known['size_bytes'] / 1e6:.1f}", what))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: every model")
    parser.add_argument("--list", action="store_true", help="print the table and make nothing")
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "build/models", metavar="DIR")
    arguments = parser.parse_args()
    unknown = [n for n in arguments.names if n not in ZOO]
    if unknown:
        print(f"make_models: no model is called ({unknown[0]}); there are {', '.join(ZOO)}", file=sys.stderr)
        return 2
    if arguments.list:
        table(arguments.output)
        return 0
    for name in arguments.names or ZOO:
        begin = time.monotonic()
        known, made = make(name, arguments.output)
        if made:
            print(f"{arguments.output / (name + '.onnx')}: {known['size_bytes'] / 1e6:.1f} MB, "
                  f"{known['parameters']:,} parameters, {time.monotonic() - begin:.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    try:
        import onnx  # noqa: F401
    except ImportError:
        if not VENV.exists() or pathlib.Path(sys.prefix) == VENV.parent.parent:
            sys.exit("make_models: the Python package onnx is missing; run scripts/install-deps.sh")
        os.execv(VENV, [str(VENV), *sys.argv])
    sys.exit(main())
