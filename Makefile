# A list of names. `make demo` shows it working, `make test` proves it, `make help` explains the rest.
.DEFAULT_GOAL := help
.PHONY: help demo build release install test fuzz fuzz-build bench plugins guests lint fmt clean need need-java

CARGO ?= cargo
GUEST_TARGET := wasm32-wasip2
WEIR := target/debug/weir
# How long each fuzz target runs, and from which seed: `make fuzz SECONDS=3600 SEED=1000000`.
SECONDS ?= 600
SEED ?= 1

help:
	@echo 'make demo     the whole job on an embedded broker, with a kill -9 in the middle (first build: about thirteen minutes)'
	@echo 'make release  the same for other machines: optimised as a whole, stripped, OpenSSL built in: target/release/weir'
	@echo 'make install  the release into ~/.cargo/bin; PREFIX=/usr/local for another place'
	@echo 'make test     everything that proves it; starts its own Apache Kafka'
	@echo 'make fuzz     longer random tests: SECONDS (600) for each of two targets, from SEED (1) on'
	@echo 'make build    the program, plugins and all: target/debug/weir'
	@echo 'make plugins  the plugins alone: target/plugins/*.wasm'
	@echo 'make bench    recorded measurements of this machine, with controls; ONLY=swaps for one part'
	@echo 'make lint     formatting and lints, warnings are errors'

# Where the system has the headers of OpenSSL, they save two minutes of the first build. The file is read by cargo: with
# make and without it the same is built. A release has its own OpenSSL in it all the same.
SETTINGS := .cargo/config.toml
SYSTEM_OPENSSL := '\# Written by make need; delete it and the next make writes it anew.' '[env]' 'OPENSSL_NO_VENDOR = "1"'

# What must be there already, each with its remedy in one line.
need:
	@command -v rustup >/dev/null || { echo 'missing: rustup. Install Rust from https://rustup.rs'; exit 1; }
	@command -v cc >/dev/null || { echo 'missing: a C compiler (librdkafka). Debian: apt-get install gcc'; exit 1; }
	@rustup target list --installed | grep -q $(GUEST_TARGET) || rustup target add $(GUEST_TARGET)
	@if pkg-config --exists 'openssl >= 1.1.1' 2>/dev/null; then \
	  [ -e $(SETTINGS) ] || { mkdir -p .cargo && printf '%s\n' $(SYSTEM_OPENSSL) > $(SETTINGS); }; \
	else \
	  if grep -qs 'by make need' $(SETTINGS); then rm $(SETTINGS); fi; \
	  command -v perl >/dev/null || { echo 'missing: perl (OpenSSL is built from source), or the headers of OpenSSL. Debian: apt-get install perl, or pkg-config libssl-dev'; exit 1; }; \
	fi

need-java:
	@command -v java >/dev/null && command -v mvn >/dev/null || \
	  echo 'missing: a JDK or Maven. The tests against Apache Kafka and DuckDB are skipped here; CI fails without them'

# The shipped plugins are part of the program: cargo builds them on the way.
build: need
	@[ -x $(WEIR) ] || echo 'building Weir: about thirteen minutes on two cores, once (wasmtime, librdkafka, Arrow, plugins)'
	$(CARGO) build --locked --bin weir

# One file that runs on any machine with the same libc, or a newer one. It says its size.
release: need
	@command -v perl >/dev/null || { echo 'missing: perl (OpenSSL is built from source). Debian: apt-get install perl'; exit 1; }
	OPENSSL_NO_VENDOR=0 $(CARGO) build --locked --release --bin weir
	@ls -l target/release/weir | awk '{ printf "target/release/weir: %.1f MiB, plugins and all\n", $$5 / 1048576 }'

PREFIX ?= $(or $(CARGO_HOME),$(HOME)/.cargo)
install: release
	install -D -m 755 target/release/weir $(DESTDIR)$(PREFIX)/bin/weir
	@echo 'installed: $(DESTDIR)$(PREFIX)/bin/weir'

plugins: need
	cd plugins && $(CARGO) build --release --target $(GUEST_TARGET) --target-dir ../target/guests # as shipped/build.rs does
	@mkdir -p target/plugins
	@for f in target/guests/$(GUEST_TARGET)/release/*.wasm; do \
	  cp "$$f" "target/plugins/$$(basename "$$f" | tr _ -)"; done

# Misbehaving guests, for the tests alone.
guests: need
	cd tests/guests && $(CARGO) build --locked --release --target $(GUEST_TARGET) --target-dir ../../target/test-guests
	@mkdir -p target/plugins-test
	@for f in target/test-guests/$(GUEST_TARGET)/release/*.wasm; do \
	  cp "$$f" "target/plugins-test/$$(basename "$$f" | tr _ -)"; done

demo: build
	$(WEIR) demo

# Random tests have a minute here.
test: build plugins guests need-java fuzz-build
	cd plugins && $(CARGO) test --locked --target-dir ../target/guests-native
	$(FUZZ) xml --seed $(SEED) --seconds 60
	WEIR_FUZZ_SEED=$(SEED) WEIR_FUZZ_SECONDS=60 $(CARGO) test --locked

FUZZ := target/fuzz/release/weir-fuzz
fuzz-build:
	cd tests/fuzz && $(CARGO) build --locked --release --target-dir ../../target/fuzz

# A difference ends with the seed that shows it again.
fuzz: fuzz-build
	$(FUZZ) xml --seed $(SEED) --seconds $(SECONDS)
	WEIR_FUZZ_SEED=$(SEED) WEIR_FUZZ_SECONDS=$(SECONDS) $(CARGO) test --locked --lib plugin::fuzz -- --nocapture

# Our own code optimised fully and without assertions, as the dependencies are; the plugins once more as a native
# library, to compare.
BENCH = $(foreach set,opt-level=3 debug-assertions=false overflow-checks=false,--config profile.dev.package.weir.$(set))
bench: plugins need-java
	cd plugins && $(CARGO) build --locked --release --example native -p validate --target-dir ../target/guests-native
	ONLY=$(ONLY) $(CARGO) bench --locked --profile dev $(BENCH) --bench weir

lint: need
	$(CARGO) fmt --all --check
	cd plugins && $(CARGO) fmt --all --check
	cd tests/fuzz && $(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	cd plugins && $(CARGO) clippy --locked --all-targets --target-dir ../target/guests-native -- -D warnings
	cd tests/fuzz && $(CARGO) clippy --locked --release --target-dir ../../target/fuzz -- -D warnings

fmt:
	$(CARGO) fmt --all
	cd plugins && $(CARGO) fmt --all
	cd tests/fuzz && $(CARGO) fmt

clean:
	rm -rf target
