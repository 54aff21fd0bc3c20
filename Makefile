# SPDX-License-Identifier: Apache-2.0
# Thin names over scripts and CMake presets; `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: help deps build demo test soak cross bench format format-check tidy fuzz clean

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

deps: ## install what is missing (Debian packages, build/deps)
	@scripts/install-deps.sh

build: deps ## build/release/outboard
	@scripts/build.sh release

demo: build ## a real program on a real picture, locally and then through Outboard
	@scripts/demo.sh

test: build ## every test; the wire's also under AddressSanitizer and UBSan
	@scripts/test.sh

soak: build ## SOAK_ROUNDS (default 1000) real rounds of every fault; goes on where it ended (build/soak)
	@build/deps/venv/bin/python tests/net/faults.py build/release --rounds $${SOAK_ROUNDS:-1000} --output build/soak/faults.jsonl

cross: build ## the client for aarch64 and old C libraries, and its test under qemu-user
	@scripts/cross-test.sh

bench: build ## every benchmark; results in build/bench
	@bench/run all

format: deps ## format the sources in place
	@scripts/format.sh

format-check: deps ## fail on a file that `make format` would change
	@scripts/format.sh --check

tidy: build ## clang-tidy over every source
	@scripts/tidy.sh

fuzz: deps ## each fuzzer for FUZZ_SECONDS (default 60)
	@scripts/fuzz.sh

clean: ## remove the build folders, keep build/deps
	@rm -rf build/release build/dev build/asan build/tsan build/fuzz build/bench build/cross-aarch64 build/cross-x86_64
