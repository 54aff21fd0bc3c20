#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Executes the walk through docs/placement.md: every `$ outboard ...` line is run in a scratch folder that holds a copy of
examples/placement, and what it prints must be what the page shows (numbers within 2 %).

    placement_walk_test.py SOURCE_DIR OUTBOARD [--update]    --update writes what was printed into the page
"""
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

BLOCK = re.compile(r"^```console\n(.*?)^```$", re.M | re.S)
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")


def same(shown, printed):
    """Equal but for numbers, which may differ by 2 % or two of their last digits; how exact a prediction is does not count."""
    shown, printed = (re.sub(r"\(error [\d.]+ ms\)", "(error)", text) for text in (shown, printed))
    if NUMBER.sub("#", " ".join(shown.split())) != NUMBER.sub("#", " ".join(printed.split())):
        return False
    for a, b in zip(NUMBER.findall(shown), NUMBER.findall(printed)):
        digits = len(a.partition(".")[2])
        if abs(float(a) - float(b)) > max(0.02 * abs(float(a)), 2.5 * 10 ** -digits):
            return False
    return True


def commands(block):
    """(command, what the page shows after it)."""
    parts = re.split(r"^\$ ", block, flags=re.M)[1:]
    for part in parts:
        command, _, shown = part.partition("\n")
        yield command, shown


def main():
    source, outboard = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]).resolve()
    update = "--update" in sys.argv
    page = source / "docs/placement.md"
    text = page.read_text()
    run = 0
    failures = []
    with tempfile.TemporaryDirectory() as folder:
        for file in (source / "examples/placement").glob("*.json"):
            shutil.copy(file, folder)

        def replace(match):
            nonlocal run
            result = ""
            for command, shown in commands(match.group(1)):
                words = shlex.split(command)
                assert words[0] == "outboard", f"only outboard is run, not ({command})"
                got = subprocess.run([str(outboard), *words[1:]], cwd=folder, capture_output=True, text=True, timeout=120)
                printed = got.stdout + got.stderr
                run += 1
                if not update and not same(shown, printed):
                    failures.append(f"$ {command}\n--- the page shows\n{shown}--- it printed\n{printed}")
                result += f"$ {command}\n{printed}"
            return f"```console\n{result}```"

        updated = BLOCK.sub(replace, text)
    if update:
        page.write_text(updated)
    assert run >= 6, f"the page has {run} commands only"
    print("\n".join(failures) or f"{run} commands print what docs/placement.md shows")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
