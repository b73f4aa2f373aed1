# Everything that a person or a CI does with this checkout. Each target fetches the
# tools it lacks (scripts/install-tools, into .tools/), and writes to ignored folders
# only: target/ (or CARGO_TARGET_DIR), .tools/ and dist/.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.ONESHELL:
MAKEFLAGS += --no-print-directory

# One place for cargo's output, whatever the environment or ~/.cargo/config.toml says.
override TARGET_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))
export CARGO_TARGET_DIR := $(TARGET_DIR)
# Scenarios start the daemon from here; `make test` always builds it first.
export VAULTREF_BIN := $(TARGET_DIR)/debug/vaultref

CARGO := cargo
# The lock file is the project's: no target may change it.
LOCKED := --locked
MODULE := $(CARGO) build $(LOCKED) --package vaultref-module --profile wasm --target wasm32-wasip1
MODULE_FILE := $(TARGET_DIR)/wasm32-wasip1/wasm/vaultref.wasm
GUESTS := --manifest-path tests/guests/Cargo.toml --target-dir $(TARGET_DIR)/guests
COMPONENT := --manifest-path examples/component/Cargo.toml --target-dir $(TARGET_DIR)/guests
EXAMPLE_FILTER := --manifest-path examples/filter/Cargo.toml --target-dir $(TARGET_DIR)/guests
# Manifests with a lock file of their own.
OWN_MANIFESTS := tests/guests/Cargo.toml examples/component/Cargo.toml examples/filter/Cargo.toml
PROGRAMS := $(CARGO) build $(LOCKED) --package vaultref-host --package vaultref-scenarios --bins

# What the fuzzer's own time goes into.
fast = --config profile.dev.package.$(1).opt-level=2
FUZZ_FAST := $(call fast,vaultref-harness) $(call fast,vaultref-scenarios)

# Packages with property tests, and how many cases `make fuzz` gives each.
FUZZ_PACKAGES ?= $(patsubst %,--package %,vaultref-contract vaultref-filter vaultref-host)
PROPTEST_CASES ?= 20000

# Whoever is killed takes along what it has started: make its cargo, cargo its tests,
# and a test its servers (they see to that themselves).
HOST = $(shell rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')

say = @printf '\n==> %s\n' "$(1)"

.PHONY: help demo demo-envoy test bench soak lint fuzz wasm build guests
# Cargo has its own parallelism, and the targets share its target folder.
.NOTPARALLEL:

help: ## say what there is (this text)
	@printf 'Vaultref: vault references for Proxy-Wasm gateways\n\n'
	awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

demo: wasm ## a request through the wasmtime harness: what was sent, what the upstream got
	$(call say,demo: daemon with env and fs vaults and requests through the harness)
	$(PROGRAMS)
	"$(TARGET_DIR)/debug/demo"

demo-envoy: wasm ## the same with a real Envoy and a real OpenBao
	$(call say,demo-envoy: daemon and requests through Envoy with secrets from OpenBao)
	scripts/install-tools envoy bao
	$(PROGRAMS)
	"$(TARGET_DIR)/debug/demo" --envoy

test: wasm guests ## all tests, with real servers that are started and stopped by them
	$(call say,test: the whole workspace with real Envoy and OpenBao)
	scripts/install-tools envoy bao wrk moto drongo conjur-client azure-client
	# All targets: the tests' executables and also the programs that they start.
	$(CARGO) build $(LOCKED) --workspace --all-targets
	export CARGO_TARGET_$(HOST)_RUNNER='setpriv --pdeathsig KILL'
	setpriv --pdeathsig TERM $(CARGO) test $(LOCKED) --workspace $(TEST_ARGS)

bench: wasm guests ## what the filter costs a request in Envoy, beside its peers (BENCH_ARGS=--help)
	$(call say,bench: CPU and requests a second in Envoy; takes some minutes)
	scripts/install-tools envoy wrk
	$(PROGRAMS)
	"$(TARGET_DIR)/debug/bench" $(BENCH_ARGS)

soak: wasm ## ten minutes of load with rotations and a daemon that is killed (SOAK_ARGS=--help)
	$(call say,soak: Envoy under load while the secret changes; ten minutes)
	scripts/install-tools envoy bao wrk
	$(PROGRAMS)
	"$(TARGET_DIR)/debug/soak" $(SOAK_ARGS)

lint: ## format, clippy, dependencies (bans, licenses, sources), documentation
	$(call say,lint: format)
	scripts/install-tools lint-components wasm-target cargo-deny
	$(CARGO) fmt --all --check
	for manifest in $(OWN_MANIFESTS); do
		$(CARGO) fmt --manifest-path $$manifest --all --check
	done
	printf '\n==> lint: clippy\n'
	$(CARGO) clippy $(LOCKED) --workspace --all-targets -- -D warnings
	$(CARGO) clippy $(LOCKED) --package vaultref-abi --package vaultref-module --package vaultref-sdk --target wasm32-wasip1 -- -D warnings
	$(CARGO) clippy $(LOCKED) --package vaultref-module --target wasm32-wasip1 --no-default-features -- -D warnings
	$(CARGO) clippy $(LOCKED) $(GUESTS) --target wasm32-wasip1 -- -D warnings
	$(CARGO) clippy $(LOCKED) $(COMPONENT) --target wasm32-wasip1 -- -D warnings
	$(CARGO) clippy $(LOCKED) $(EXAMPLE_FILTER) --target wasm32-wasip1 -- -D warnings
	printf '\n==> lint: dependencies\n'
	.tools/bin/cargo-deny --locked check bans licenses sources
	for manifest in $(OWN_MANIFESTS); do
		.tools/bin/cargo-deny --locked --manifest-path $$manifest --config deny.toml check bans licenses sources
	done
	printf '\n==> lint: documentation\n'
	RUSTDOCFLAGS=-Dwarnings $(CARGO) doc $(LOCKED) --workspace --no-deps
	RUSTDOCFLAGS=-Dwarnings $(CARGO) doc $(LOCKED) --package vaultref-abi --package vaultref-sdk --target wasm32-wasip1 --no-deps

fuzz: wasm ## inputs by chance for the filter, then many property tests (FUZZ_ARGS=--help, PROPTEST_CASES=20000)
	$(call say,fuzz: the filter natively and in the harness)
	$(CARGO) build $(LOCKED) --package vaultref-scenarios --bin fuzz $(FUZZ_FAST)
	"$(TARGET_DIR)/debug/fuzz" $(FUZZ_ARGS)
	# Whoever looks at one input wants nothing else.
	case "$(FUZZ_ARGS)" in *--replay*|*--distil*|*--help*) exit ;; esac
	printf '\n==> fuzz: property tests with $(PROPTEST_CASES) cases each\n'
	# Our own crates optimised for once: millions of cases run in them.
	export CARGO_PROFILE_DEV_OPT_LEVEL=2 CARGO_PROFILE_TEST_OPT_LEVEL=2
	PROPTEST_CASES=$(PROPTEST_CASES) $(CARGO) test $(LOCKED) $(FUZZ_PACKAGES)

wasm: ## both modules as shipped: dist/vaultref.wasm and dist/vaultref-envoy.wasm
	$(call say,wasm: dist/vaultref.wasm for every gateway and dist/vaultref-envoy.wasm for Envoy)
	scripts/install-tools wasm-target
	mkdir -p dist
	# One file name for both, so each is copied before the next is built.
	$(MODULE)
	install -m 644 "$(MODULE_FILE)" dist/vaultref.wasm
	$(MODULE) --no-default-features
	install -m 644 "$(MODULE_FILE)" dist/vaultref-envoy.wasm
	ls -l dist/*.wasm

guests: # filters and components to measure against and to test with, and the examples of them
	$(call say,guests: filters and components to measure against and to test with)
	scripts/install-tools wasm-target
	$(CARGO) build $(LOCKED) $(GUESTS) --profile wasm --target wasm32-wasip1
	$(CARGO) build $(LOCKED) $(COMPONENT) --profile wasm --target wasm32-wasip1
	$(CARGO) build $(LOCKED) $(EXAMPLE_FILTER) --release --target wasm32-wasip1

build: ## the release binary: target/release/vaultref
	$(call say,build: $(TARGET_DIR)/release/vaultref)
	$(CARGO) build $(LOCKED) --release --package vaultref-host
