#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs the clients that the tests run unmodified, each from its own registry, under DIR; programs of compiled
# languages (tests/clients) are built there, too. Each part has a stamp and does nothing when it is there already.
# A language whose tools this machine lacks is left out, loudly; its tests say so, too.
#
#   scripts/install-clients.sh DIR PIP_PYTHON     PIP_PYTHON: an interpreter that has pip
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p "$1"
dir=$(cd "$1" && pwd) pip_python=$(realpath -s "$2")
sources=$PWD/tests/clients

# part NAME TOOLS FILES...: runs install_NAME in an emptied DIR/NAME, unless it has been run with these very FILES.
part() {
  local name=$1 tools=$2 tool want
  shift 2
  want=$(cat "$0" "$@" | sha256sum)
  [ "$(cat "$dir/$name.stamp" 2>/dev/null)" = "$want" ] && return
  for tool in $tools; do
    command -v "$tool" >/dev/null || { echo "WITHOUT THE CLIENT ($name): the program ($tool) is missing" >&2; return 0; }
  done
  echo "installing the client ($name)"
  rm -rf "${dir:?}/$name"
  mkdir -p "$dir/$name"
  (cd "$dir/$name" && "install_${name//[-.]/_}")
  echo "$want" > "$dir/$name.stamp"
}

# A wheel and what it needs, in an environment of its own.
install_wheel() {
  /usr/bin/python3 -m venv --without-pip .
  "$pip_python" -m pip --python bin/python install --quiet --disable-pip-version-check --no-compile "$@"
}
install_python_1_16() { install_wheel onnxruntime==1.16.3 "numpy<2"; } # built before numpy 2
install_python_1_19() { install_wheel onnxruntime==1.19.2 "numpy>=2"; }
install_python_1_23() { install_wheel onnxruntime==1.23.2 "numpy>=2"; }

install_java() {
  mvn -q -B dependency:copy -Dartifact=com.microsoft.onnxruntime:onnxruntime:1.29.0 -DoutputDirectory=.
  javac -encoding UTF-8 -d . -cp onnxruntime-1.29.0.jar "$sources/java/Client.java"
}

install_rust() {
  CARGO_TARGET_DIR=$PWD/target cargo build --quiet --locked --manifest-path "$sources/rust/Cargo.toml"
  mv target/debug/client client
  rm -rf target
}

install_go() { (cd "$sources/go" && go build -o "$dir/go/client" .); }

for release in 1.16 1.19 1.23; do part "python-$release" "" /dev/null; done
part java "java javac mvn" "$sources/java/Client.java"
part rust cargo "$sources"/rust/Cargo.* "$sources/rust/src/main.rs"
part go go "$sources"/go/*
