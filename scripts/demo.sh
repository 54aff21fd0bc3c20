#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The demonstration: examples/ocr.py, which knows nothing of Outboard, reads a photograph of a page; first here,
# then through a server on loopback, twice: the first time the server gets the models while the program runs, the
# second time it has them. The text must be the same each time. Stops what it starts.
#
#   scripts/demo.sh [PICTURE]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
deps=${OUTBOARD_DEPS:-$root/build/deps}
outboard=${OUTBOARD:-$root/build/release/outboard}
python=$deps/venv/bin/python
picture=${1:-$deps/pictures/page.png}
program=$root/examples/ocr.py

die() { echo "demo: $*" >&2; exit 1; }
[ -x "$outboard" ] || die "the program ($outboard) is not built; run make build"
[ -x "$python" ] || die "the Python environment ($deps/venv) is missing; run scripts/install-deps.sh"
[ -f "$picture" ] || die "the picture ($picture) is missing; run scripts/install-deps.sh, or name one"
"$python" -c "import rapidocr_onnxruntime" 2>/dev/null ||
  die "the Python package rapidocr-onnxruntime is missing in $deps/venv; run scripts/install-deps.sh"

work=$(mktemp -d)
server=
stop() {
  [ -z "$server" ] || { kill "$server" 2>/dev/null && wait "$server" 2>/dev/null; } || true
  rm -rf "$work"
}
trap stop EXIT
trap 'exit 130' INT TERM

now_ms() { echo $(($(date +%s%N) / 1000000)); }
# timed NAME COMMAND...: its output to $work/NAME.txt, its wall time to $work/NAME.ms
timed() {
  local name=$1 begin
  shift
  begin=$(now_ms)
  "$@" > "$work/$name.txt" || die "the program failed ($*)"
  echo $(($(now_ms) - begin)) > "$work/$name.ms"
}
same_text() {
  diff "$work/here.txt" "$work/$1.txt" > "$work/diff" || { cat "$work/diff" >&2; die "the text differs from the local run's"; }
}

echo "== here: python examples/ocr.py $(basename "$picture")"
timed here "$python" "$program" "$picture"
[ -s "$work/here.txt" ] || die "the program found no text in the picture ($picture)"
cat "$work/here.txt"

"$outboard" serve --listen 127.0.0.1:0 --store "$work/store" --ready-file "$work/ready" > "$work/server.log" 2>&1 &
server=$!
for ((i = 0; i < 300; i++)); do
  [ -s "$work/ready" ] && break
  kill -0 "$server" 2>/dev/null || { cat "$work/server.log" >&2; server=; die "outboard serve ended before it was ready"; }
  sleep 0.1
done
[ -s "$work/ready" ] || die "outboard serve was not ready after 30 s"
read -r address < "$work/ready"

echo
echo "== through Outboard: outboard run --server $address -- python examples/ocr.py $(basename "$picture")"
timed first "$outboard" run --server "$address" -- "$python" "$program" "$picture" 2> "$work/first.err" ||
  { cat "$work/first.err" >&2; exit 1; }
same_text first
echo "first time, while the server receives the models: the same text"
timed again "$outboard" run --server "$address" --summary --json "$work/report.json" -- "$python" "$program" "$picture"
same_text again
echo "second time, the server has them: the same text"

"$python" - "$work/report.json" <<'PYTHON'
import json, sys
sessions = [s for p in json.load(open(sys.argv[1]))["processes"] for s in p["sessions"]]
local = [s["model"]["name"] for s in sessions if s["runs"]["server"] == 0]
if not sessions or local:
    sys.exit(f"demo: these sessions did not run on the server: {', '.join(local) or 'there was no session'}")
print(f"{len(sessions)} sessions, {sum(s['runs']['server'] for s in sessions)} Runs, every session on the server")
PYTHON
echo "wall time: $(cat "$work/here.ms") ms here, $(cat "$work/first.ms") ms the first time, $(cat "$work/again.ms") ms again"
