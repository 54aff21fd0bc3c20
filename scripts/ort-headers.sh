#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Puts the headers of ONNX Runtime into DIR/include. Debian 12 has no package of them, Debian 13 does: its
# libonnxruntime-dev is downloaded and unpacked.
#
#   scripts/ort-headers.sh DIR
set -euo pipefail
dir=$1
[ -f "$dir/include/onnxruntime_c_api.h" ] && exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
echo "fetching the headers of ONNX Runtime (Debian 13's libonnxruntime-dev)"
"$(dirname "$0")/debian-unpack.sh" trixie "$(dpkg --print-architecture)" "$work" libonnxruntime-dev
mkdir -p "$dir"
rm -rf "$dir/include"
cp -r "$work/usr/include/onnxruntime" "$dir/include"
