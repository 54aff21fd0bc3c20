#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Puts what scripts/cross-build.sh and its test need under DIR: zig's C++ compiler (PyPI's ziglang), the libraries that
# the client is built with for each architecture (Debian 12's, static), and, to run the result, Debian 11 for aarch64
# (its C library is 2.31) with Python and ONNX Runtime's wheel. Each part has a stamp and is left as it is when it is there.
#
#   scripts/install-cross.sh DIR PIP_PYTHON     PIP_PYTHON: an interpreter that has pip
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p "$1"
dir=$(cd "$1" && pwd) pip_python=$(realpath -s "$2")
pip=("$pip_python" -m pip install --quiet --disable-pip-version-check --no-compile --no-deps)

# Headers and static libraries; the shared ones are there because the packages' CMake files ask for them.
libraries=(libexpected-dev libflatbuffers-dev libflatbuffers2 libfmt-dev libfmt9 libcli11-dev nlohmann-json3-dev libtomlplusplus-dev
  libssl-dev libssl3 libzstd-dev libzstd1 liblz4-dev liblz4-1 libavahi-client-dev libavahi-common-dev)

# part NAME: runs install_NAME in an emptied DIR/NAME, unless it has been run as it is now.
part() {
  local want
  want=$({ declare -f "install_$1"; echo "${libraries[@]}"; cat scripts/debian-unpack.sh; } | sha256sum)
  [ "$(cat "$dir/$1.stamp" 2>/dev/null)" = "$want" ] && return
  echo "installing for other machines ($1)"
  rm -rf "${dir:?}/$1"
  mkdir -p "$dir/$1"
  "install_$1" "$dir/$1"
  echo "$want" > "$dir/$1.stamp"
}

install_zig() { "${pip[@]}" --target "$1" ziglang==0.17.0; }

install_aarch64() { scripts/debian-unpack.sh bookworm arm64 "$1" "${libraries[@]}"; }
install_x86_64() { scripts/debian-unpack.sh bookworm amd64 "$1" "${libraries[@]}"; }

install_debian11() {
  scripts/debian-unpack.sh bullseye arm64 "$1" libc6 libstdc++6 libgcc-s1 zlib1g libexpat1 libffi7 libssl1.1 libcrypt1 \
    libbz2-1.0 liblzma5 python3.9-minimal libpython3.9-minimal libpython3.9-stdlib
  local wheels=("${pip[@]}" --only-binary :all: --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64
    --platform manylinux_2_17_aarch64)
  # The newest ONNX Runtime and numpy that Debian 11's Python takes; and the library of the newest that starts in qemu 7.2 (1.29 and 1.31 crash
  # there in their own initialisation).
  "${wheels[@]}" --target "$1/site" --python-version 3.9 onnxruntime==1.19.2 numpy==1.26.4
  "${wheels[@]}" --target "$1/newest" --python-version 3.11 onnxruntime==1.23.2
}

for name in zig aarch64 x86_64 debian11; do part "$name"; done
