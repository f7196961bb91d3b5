# A list of names. `make demo` shows it working, `make test` proves it, `make help` explains the rest.
.DEFAULT_GOAL := help
.PHONY: help demo build test bench plugins guests lint fmt clean need need-java

CARGO ?= cargo
GUEST_TARGET := wasm32-wasip2
WEIR := target/debug/weir

help:
	@echo 'make demo     the whole job on an embedded broker, with a kill -9 in the middle (first build: about ten minutes)'
	@echo 'make test     everything that proves it; starts its own Apache Kafka'
	@echo 'make build    host (target/debug/weir) and plugins (target/plugins/*.wasm)'
	@echo 'make plugins  the plugins alone'
	@echo 'make bench    recorded measurements of this machine, with controls'
	@echo 'make lint     formatting and lints, warnings are errors'

# What must be there already, each with its remedy in one line.
need:
	@command -v rustup >/dev/null || { echo 'missing: rustup. Install Rust from https://rustup.rs'; exit 1; }
	@command -v cc >/dev/null || { echo 'missing: a C compiler (librdkafka). Debian: apt-get install gcc'; exit 1; }
	@command -v perl >/dev/null || { echo 'missing: perl (OpenSSL is built from source). Debian: apt-get install perl'; exit 1; }
	@rustup target list --installed | grep -q $(GUEST_TARGET) || rustup target add $(GUEST_TARGET)

need-java:
	@command -v java >/dev/null && command -v mvn >/dev/null || \
	  echo 'missing: a JDK or Maven. The tests against Apache Kafka and DuckDB are skipped here; CI fails without them'

build: need plugins
	@[ -x $(WEIR) ] || echo 'building Weir: about ten minutes on two cores, once (wasmtime, librdkafka, Arrow, OpenSSL)'
	$(CARGO) build --locked --bin weir

plugins: need
	cd plugins && $(CARGO) build --release --target $(GUEST_TARGET) --target-dir ../target/guests
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

test: build guests need-java
	cd plugins && $(CARGO) test --locked --target-dir ../target/guests-native
	$(CARGO) test --locked

# Our own code optimised fully and without assertions, as the dependencies are; the plugins once more as a native
# library, to compare.
BENCH = $(foreach set,opt-level=3 debug-assertions=false overflow-checks=false,--config profile.dev.package.weir.$(set))
bench: plugins need-java
	cd plugins && $(CARGO) build --locked --release --example native -p validate --target-dir ../target/guests-native
	$(CARGO) bench --locked --profile dev $(BENCH) --bench weir

lint: need
	$(CARGO) fmt --all --check
	cd plugins && $(CARGO) fmt --all --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	cd plugins && $(CARGO) clippy --locked --all-targets --target-dir ../target/guests-native -- -D warnings

fmt:
	$(CARGO) fmt --all
	cd plugins && $(CARGO) fmt --all

clean:
	rm -rf target
