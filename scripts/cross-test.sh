#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the client for both architectures and old C libraries, and tests it against the release build's server.
# Installs what that takes (scripts/install-cross.sh) when it is not there.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/build.sh release
deps=${OUTBOARD_DEPS:-build/deps}
scripts/install-cross.sh "$deps/cross" "$deps/venv/bin/python"
for arch in aarch64 x86_64; do scripts/cross-build.sh "$arch"; done
"$deps/venv/bin/python" tests/cross/cross_test.py
