#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# clang-tidy over sources, two at a time; a file whose content, headers and settings were clean before is skipped.
#
#   scripts/tidy.sh [FILE...]    default: every .cc under src/
set -euo pipefail
cd "$(dirname "$0")/.."
cache=build/tidy
mkdir -p "$cache"
settings=$(cat .clang-tidy $(git ls-files -c -o --exclude-standard 'src/*.h') | sha256sum | cut -c1-16)
export cache settings
check() {
  key=$cache/$(printf '%s %s %s' "$settings" "$1" "$(sha256sum < "$1")" | sha256sum | cut -c1-32)
  [ -f "$key" ] && return 0
  clang-tidy-19 --quiet -p build/release "$1" 2> >(grep -v 'warnings generated\|Suppressed\|Use -' >&2) && touch "$key"
}
export -f check
files=("$@")
[ ${#files[@]} -gt 0 ] || mapfile -t files < <(git ls-files -c -o --exclude-standard 'src/*.cc')
printf '%s\0' "${files[@]}" | xargs -0 -n 1 -P 2 bash -c 'check "$0"'
