#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Puts the headers of ONNX Runtime into DIR/include. Debian 12 has no package of them, Debian 13 does: its
# libonnxruntime-dev is downloaded by an apt configuration of its own and unpacked; nothing of Debian 13 is
# installed. The mirror is the one that this machine already uses.
#
#   scripts/ort-headers.sh DIR
set -euo pipefail
dir=$1
[ -f "$dir/include/onnxruntime_c_api.h" ] && exit 0
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
  grep -v '^ *#' | grep -oE 'https?://[^ ]+/debian/?( |$)' | head -n 1 | tr -d " " || true)
[ -n "$mirror" ] || { echo "no Debian mirror found in /etc/apt/sources.list*; expected a line that names one" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
touch "$work/status"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" > "$work/sources.list"
options=(-o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$work/lists"
  -o Dir::Cache="$work/cache" -o Dir::State::status="$work/status" -o APT::Sandbox::User=root)
echo "fetching the headers of ONNX Runtime (Debian 13's libonnxruntime-dev)"
apt-get -qq "${options[@]}" update
(cd "$work" && apt-get -qq "${options[@]}" download libonnxruntime-dev)
dpkg -x "$work"/libonnxruntime-dev_*.deb "$work/root"
rm -rf "$dir/include"
cp -r "$work/root/usr/include/onnxruntime" "$dir/include"
