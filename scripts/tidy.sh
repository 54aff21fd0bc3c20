#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# clang-tidy over sources, two at a time. A file that was clean before, with the same content, the same headers
# of src/ and the same settings, is skipped (~/.cache/outboard-tidy remembers).
#
#   scripts/tidy.sh [FILE...]    default: every .cc under src/
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${XDG_CACHE_HOME:-$HOME/.cache}/outboard-tidy
mkdir -p "$cache"
export cache
check() {
  # The quoted includes, followed by hand: a hundred times faster than asking the compiler.
  files=$1 queue=$1
  while [ -n "$queue" ]; do
    next=
    for header in $(grep -hoP '^\s*#\s*include\s+"\K[^"]+' $queue | sort -u); do
      if [ -f "src/$header" ] && [[ " $files " != *" src/$header "* ]]; then
        files+=" src/$header" next+=" src/$header"
      fi
    done
    queue=$next
  done
  key=$cache/$(cat .clang-tidy $files | sha256sum | cut -c1-32)
  [ -f "$key" ] && return 0
  clang-tidy-19 --quiet -p build/release "$1" 2> >(grep -v 'warnings generated\|Suppressed\|Use -' >&2) && touch "$key"
}
export -f check
files=("$@")
[ ${#files[@]} -gt 0 ] || mapfile -t files < <(git ls-files -c -o --exclude-standard 'src/*.cc')
printf '%s\0' "${files[@]}" | xargs -0 -n 1 -P 2 bash -c 'check "$0"'
