#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every test of the release build, then those that also run under AddressSanitizer and UBSan.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/build.sh release
ctest --preset release
scripts/build.sh asan
ctest --preset asan
