#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Unpacks packages of a Debian release and an architecture into DIR, by an apt configuration of its own: nothing of them
# is installed, and what this machine's apt knows stays as it is. The mirror is the one that this machine already uses.
#
#   scripts/debian-unpack.sh RELEASE ARCHITECTURE DIR PACKAGE...
set -euo pipefail
release=$1 architecture=$2 dir=$3
shift 3
mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
  grep -v '^ *#' | grep -oE 'https?://[^ ]+/debian/?( |$)' | head -n 1 | tr -d " " || true)
[ -n "$mirror" ] || { echo "no Debian mirror found in /etc/apt/sources.list*; expected a line that names one" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$dir"
touch "$work/status"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $release main" > "$work/sources.list"
options=(-o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$work/lists"
  -o Dir::Cache="$work/cache" -o Dir::State::status="$work/status" -o APT::Sandbox::User=root
  -o APT::Architecture="$architecture" -o APT::Architectures="$architecture")
apt-get -qq "${options[@]}" update
(cd "$work" && apt-get -qq "${options[@]}" download "$@")
for package in "$work"/*.deb; do dpkg -x "$package" "$dir"; done
