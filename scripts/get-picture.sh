#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Puts a photograph of a printed page, DIR/page.png, there: the one that scikit-image's wheel ships. The package
# itself is not installed.
#
#   scripts/get-picture.sh DIR PYTHON
set -euo pipefail
dir=$1 python=$2
[ -f "$dir/page.png" ] && exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
echo "fetching a photograph of a page (from the wheel of scikit-image)"
"$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: -d "$work" scikit-image==0.26.0
mkdir -p "$dir"
"$python" - "$work" "$dir" <<'PYTHON'
import pathlib, sys, zipfile
wheel = next(pathlib.Path(sys.argv[1]).glob("*.whl"))
pathlib.Path(sys.argv[2], "page.png").write_bytes(zipfile.ZipFile(wheel).read("skimage/data/page.png"))
PYTHON
