#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs every libFuzzer target for FUZZ_SECONDS each (default 60); new inputs go to build/fuzz/corpus.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/build.sh fuzz
for fuzzer in build/fuzz/fuzzers/*; do
  name=$(basename "$fuzzer")
  mkdir -p "build/fuzz/corpus/$name" "tests/fuzz/corpus/$name"
  echo "== $name"
  "$fuzzer" -max_total_time="${FUZZ_SECONDS:-60}" -print_final_stats=1 "build/fuzz/corpus/$name" "tests/fuzz/corpus/$name"
done
