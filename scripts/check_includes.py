#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks the include rules of docs/architecture.md: reads every #include under src/ and fails on an arrow
that is not allowed, on a vendor header outside the folders that may use it, and on a file without a licence line.

    scripts/check_includes.py [ROOT]
"""
import pathlib
import re
import sys

# folder (or folder/subfolder) -> the folders it may include, itself always among them
ALLOWED = {
    "base": set(),
    "profile": {"base"},
    "wire": {"base"},
    "intercept": {"wire", "profile", "base"},
    "engine": {"base"},
    "serve": {"wire", "profile", "engine", "split/exec", "base"},
    "split": {"profile", "base"},
    "split/exec": {"split", "profile", "base", "wire", "engine"},
    "manage": {"profile", "base"},
    "manage/live": {"manage", "profile", "base", "wire"},
    "manage/kube": {"manage", "profile", "base", "wire"},
    "cli": {"base", "profile", "wire", "engine", "serve", "split", "split/exec", "manage", "manage/live", "manage/kube"},
}
# vendor header prefix -> folders that may include it
VENDOR = {
    "onnxruntime": {"engine", "intercept"},
    "onnx/": {"split"},
    "google/protobuf": {"split"},
    "nlohmann/": {"profile/json", "serve", "split", "split/exec", "manage", "cli"},
    "CLI/": {"cli"},
    "avahi-": {"cli"},
    "spdlog/": {"serve", "cli"},
    "boost/": {"serve"},
    "prometheus/": {"serve"},
    "toml++/": {"cli", "split", "manage"},
    "iostream": {"cli"},
}
# Interposers link these; they must not pull in what a host process should not see.
INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]', re.M)


def folder_of(path):
    """The longest name in ALLOWED that starts the path; profile/json is a folder of its own for vendors only."""
    parts = path.split("/")
    two = "/".join(parts[:2])
    return two if two in ALLOWED else parts[0]


def check(root):
    findings = []
    src = root / "src"
    for file in sorted(src.rglob("*")):
        if file.suffix not in {".h", ".cc", ".c"}:
            continue
        relative = file.relative_to(src).as_posix()
        here, text = folder_of(relative), file.read_text()
        if "SPDX-License-Identifier: Apache-2.0" not in text.splitlines()[0]:
            findings.append(f"src/{relative}:1: the first line must hold the SPDX licence")
        for match in INCLUDE.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            quoted, name = match.group(1) == '"', match.group(2)
            for prefix, allowed in VENDOR.items():
                if name.startswith(prefix) and not any(relative.startswith(a + "/") for a in allowed):
                    findings.append(f"src/{relative}:{line}: <{name}> may be included only in {', '.join(sorted(allowed))}")
            if not quoted or name.startswith("onnxruntime"):
                continue
            there = folder_of(name)
            if there not in ALLOWED:
                findings.append(f'src/{relative}:{line}: "{name}" is not named from src/')
            elif there != here and there not in ALLOWED[here]:
                findings.append(f"src/{relative}:{line}: {here} must not include {there} (\"{name}\"); "
                                f"allowed: {', '.join(sorted(ALLOWED[here])) or 'nothing'}")
    return findings


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent)
    findings = check(root)
    print("\n".join(findings) or "include rules hold")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
