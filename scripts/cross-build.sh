#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds what a weak device needs (`outboard` with run, push, status and version, and the interposers) for an
# architecture and a C library as old as 2.31, into build/cross-ARCH.
#
#   scripts/cross-build.sh aarch64|x86_64 [TARGET...]
set -euo pipefail
cd "$(dirname "$0")/.."
arch=$1
shift
deps=$(realpath "${OUTBOARD_DEPS:-build/deps}")
[ -f "$deps/cross/$arch.stamp" ] || { echo "the folder ($deps/cross/$arch) is missing; run scripts/install-cross.sh" >&2; exit 1; }
# What zig builds of the C and C++ libraries is kept for the next build folder.
export ZIG_GLOBAL_CACHE_DIR=${ZIG_GLOBAL_CACHE_DIR:-$deps/cross/cache} ZIG_LOCAL_CACHE_DIR=$deps/cross/cache
build=build/cross-$arch
log=$(mktemp)
trap 'rm -f "$log"' EXIT
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_TOOLCHAIN_FILE="$PWD/cmake/zig.cmake" \
  -DOUTBOARD_ARCH="$arch" -DOUTBOARD_CROSS="$deps/cross" -DOUTBOARD_CLIENT_ONLY=ON > "$log" 2>&1 || { cat "$log" >&2; exit 1; }
cmake --build "$build" ${@:+--target "$@"}
