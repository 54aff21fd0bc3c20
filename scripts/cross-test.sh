#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the client for both architectures and old C libraries, and tests it against the release build's server.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/build.sh release
for arch in aarch64 x86_64; do scripts/cross-build.sh "$arch"; done
"${OUTBOARD_DEPS:-build/deps}/venv/bin/python" tests/cross/cross_test.py
