#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what Outboard builds and tests with: Debian packages, a Python environment, the headers of ONNX Runtime, a
# picture for the demo and the clients of other languages, all but the first under build/deps. Does nothing where
# everything is there already.
#
#   scripts/install-deps.sh [--check]    --check: say what is missing and exit 1
set -euo pipefail
cd "$(dirname "$0")/.."
deps=${OUTBOARD_DEPS:-build/deps}

packages=(
  # tools
  g++ cmake ninja-build ccache lld pkg-config make git python3 python3-venv iproute2 util-linux
  clang-19 clang-format-19 clang-tidy-19 libclang-rt-19-dev
  # libraries
  libexpected-dev libflatbuffers-dev flatbuffers-compiler libssl-dev libspdlog-dev libfmt-dev libcli11-dev
  nlohmann-json3-dev libtomlplusplus-dev libonnx-dev libprotobuf-dev protobuf-compiler libzstd-dev liblz4-dev zlib1g-dev
  libboost1.74-dev prometheus-cpp-dev  # metrics
  libavahi-client-dev  # headers: the library is loaded at run time
  libseccomp-dev  # the sandbox of workers
  librsvg2-bin  # rsvg-convert: plots as PNG
  # tests and benchmarks
  prometheus systemd avahi-daemon dbus-daemon
  libgrpc++-dev protobuf-compiler-grpc  # the peers of bench/run offload
  libgtest-dev libgmock-dev librapidcheck-dev libbenchmark-dev coinor-libcbc-dev coinor-cbc
  qemu-user-static
)
missing=()
for p in "${packages[@]}"; do
  dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null | grep -qx installed || missing+=("$p")
done
# A Node of the distribution's own version would do; one that is there already is left alone.
for tool in node npm; do
  command -v "$tool" >/dev/null || missing+=("$([ "$tool" = node ] && echo nodejs || echo npm)")
done
stamp=$deps/requirements.stamp
want=$(cat scripts/requirements.txt scripts/ort-headers.sh scripts/debian-unpack.sh scripts/get-picture.sh tests/clients/package.json 2>/dev/null | sha256sum)

if [ "${1:-}" = --check ]; then
  [ ${#missing[@]} -eq 0 ] || { echo "missing Debian packages: ${missing[*]}" >&2; exit 1; }
  [ "$(cat "$stamp" 2>/dev/null)" = "$want" ] || { echo "build/deps is not complete: run scripts/install-deps.sh" >&2; exit 1; }
  exit 0
fi

if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" -ne 0 ]; then
    echo "these Debian packages are missing: ${missing[*]}; run scripts/install-deps.sh as root once, or install them" >&2
    exit 1
  fi
  echo "installing ${missing[*]}"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

if [ "$(cat "$stamp" 2>/dev/null)" = "$want" ]; then
  scripts/install-clients.sh "$deps/clients" "$deps/venv/bin/python"
  exit 0
fi
mkdir -p "$deps"
scripts/ort-headers.sh "$deps/onnxruntime"
python=/usr/bin/python3
[ -x "$python" ] || python=python3
[ -x "$deps/venv/bin/python" ] || "$python" -m venv "$deps/venv"
echo "installing Python packages of scripts/requirements.txt"
"$deps/venv/bin/python" -m pip install --quiet --disable-pip-version-check -r scripts/requirements.txt
scripts/get-picture.sh "$deps/pictures" "$deps/venv/bin/python"
if [ -f tests/clients/package.json ]; then
  echo "installing the Node client of tests/clients/package.json"
  mkdir -p "$deps/node"
  cp tests/clients/package.json "$deps/node/"
  # The package's post-install step downloads from elsewhere; its registry archive has all that the CPU needs.
  (cd "$deps/node" && ONNXRUNTIME_NODE_INSTALL=skip npm install --silent --no-audit --no-fund --loglevel=error)
fi
echo "$want" > "$stamp"
scripts/install-clients.sh "$deps/clients" "$deps/venv/bin/python"
