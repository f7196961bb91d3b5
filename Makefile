# A list of names. `make demo` shows it working, `make test` proves it, `make help` explains the rest.
.DEFAULT_GOAL := help
.PHONY: help demo build release install test fuzz fuzz-build bench bench-peers bindings plugins guests lint fmt clean need need-servers

CARGO ?= cargo
GUEST_TARGET := wasm32-wasip2
WEIR := target/debug/weir
# How long each fuzz target runs, and from which seed: `make fuzz SECONDS=3600 SEED=1000000`.
SECONDS ?= 600
SEED ?= 1

help:
	@echo 'make demo     the whole job on an embedded broker, with a kill -9 in the middle (first build: eight to nine minutes)'
	@echo 'make release  the same for other machines: optimised as a whole, stripped, OpenSSL built in: target/release/weir'
	@echo 'make install  the release into ~/.cargo/bin; PREFIX=/usr/local for another place'
	@echo 'make test     everything that proves it; starts its own Apache Kafka'
	@echo 'make fuzz     longer random tests: SECONDS (600) for each of two targets, from SEED (1) on'
	@echo 'make build    the program, plugins and all: target/debug/weir'
	@echo 'make plugins  the plugins alone: target/plugins/*.wasm'
	@echo 'make bindings after a change of wit/weir.wit: what wit-bindgen makes of it, for the SDK'
	@echo 'make bench    recorded measurements of this machine, with controls; ONLY=swaps for one part'
	@echo 'make bench-peers  Spark beside it in one run; installs Spark into target/'
	@echo 'make lint     formatting and lints, warnings are errors'

# Settings of the build that depend on the machine. cargo reads the file: with make and without it the same is built.
# C is built without debugging symbols (nobody debugs librdkafka here, and they are a sixth of its build), and OpenSSL is
# the system's where its headers are: that saves two minutes. A release has its own OpenSSL in it all the same.
SETTINGS := .cargo/config.toml
BY_MAKE := '\# Written by make need; delete it and the next make writes it anew.' '[env]' 'CFLAGS = "-g0"'
SYSTEM_OPENSSL := 'OPENSSL_NO_VENDOR = "1"'

# What must be there already, each with its remedy in one line.
need:
	@command -v rustup >/dev/null || { echo 'missing: rustup. Install Rust from https://rustup.rs'; exit 1; }
	@command -v cc >/dev/null || { echo 'missing: a C compiler (librdkafka). Debian: apt-get install gcc'; exit 1; }
	@rustup target list --installed | grep -q $(GUEST_TARGET) || rustup target add $(GUEST_TARGET)
	@mkdir -p .cargo; if ! [ -e $(SETTINGS) ] || grep -qs 'by make need' $(SETTINGS); then \
	  { printf '%s\n' $(BY_MAKE); \
	    ! pkg-config --exists 'openssl >= 1.1.1' 2>/dev/null || printf '%s\n' $(SYSTEM_OPENSSL); } > $(SETTINGS).new; \
	  if cmp -s $(SETTINGS).new $(SETTINGS); then rm $(SETTINGS).new; else mv $(SETTINGS).new $(SETTINGS); fi; \
	fi
	@grep -qs OPENSSL_NO_VENDOR $(SETTINGS) || command -v perl >/dev/null || \
	  { echo 'missing: perl (OpenSSL is built from source), or the headers of OpenSSL. Debian: apt-get install perl, or pkg-config libssl-dev'; exit 1; }

need-servers:
	@command -v java >/dev/null && command -v mvn >/dev/null || \
	  echo 'missing: a JDK or Maven. The tests against Apache Kafka and DuckDB are skipped here; CI fails without them'
	@command -v go >/dev/null || \
	  echo 'missing: Go. The tests against an S3 server are skipped here; CI fails without it'
	@command -v node >/dev/null && command -v npm >/dev/null || \
	  echo 'missing: Node.js or npm. The tests against an Azure server and of the page are skipped here; CI fails without them'
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || [ "$$CI" = true ] || \
	  echo 'missing: Chromium. The tests of the page are skipped here; CI installs it. Debian: apt-get install chromium'

# The shipped plugins are part of the program: cargo builds them on the way.
build: need
	@[ -x $(WEIR) ] || echo 'building Weir: eight to nine minutes on two cores, once (wasmtime, librdkafka, Arrow, plugins)'
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

# After a change of wit/weir.wit: what wit-bindgen makes of it, for the SDK.
BINDINGS := plugins/sdk/src/bindings.rs
bindings: need
	cd plugins && touch sdk/src/contract.rs && WIT_BINDGEN_DEBUG=1 $(CARGO) build -p weir-sdk --features generate \
	  --release --target $(GUEST_TARGET) --target-dir ../target/bindings
	{ echo '// Generated by wit-bindgen from wit/weir.wit; `make bindings` writes it anew.'; \
	  echo "// sha256 of wit/weir.wit: $$(sha256sum < wit/weir.wit | cut -d' ' -f1)"; \
	  cat $$(ls -t target/bindings/release/build/wit-bindgen-rust-macro-*/out/plugin0.rs | head -1); } > $(BINDINGS)

# Misbehaving guests, for the tests alone.
guests: need
	cd tests/guests && $(CARGO) build --locked --release --target $(GUEST_TARGET) --target-dir ../../target/test-guests
	@mkdir -p target/plugins-test
	@for f in target/test-guests/$(GUEST_TARGET)/release/*.wasm; do \
	  cp "$$f" "target/plugins-test/$$(basename "$$f" | tr _ -)"; done

demo: build
	$(WEIR) demo

# Random tests have a minute here.
test: build plugins guests need-servers fuzz-build
	cd plugins && $(CARGO) test --locked --target-dir ../target/guests-native
	$(FUZZ) xml --seed $(SEED) --seconds 60
	WEIR_FUZZ_SEED=$(SEED) WEIR_FUZZ_SECONDS=60 $(CARGO) test --locked

FUZZ := target/fuzz/release/weir-fuzz
fuzz-build:
	cd tests/fuzz && $(CARGO) build --locked --release --target-dir ../../target/fuzz

# A difference ends with the seed that shows it again.
fuzz: fuzz-build
	$(FUZZ) xml --seed $(SEED) --seconds $(SECONDS)
	WEIR_FUZZ_SEED=$(SEED) WEIR_FUZZ_SECONDS=$(SECONDS) $(CARGO) test --locked --lib boundary::fuzz -- --nocapture

# Our own code optimised fully and without assertions, as the dependencies are; the plugins once more as a native
# library, to compare.
BENCH = $(foreach set,opt-level=3 debug-assertions=false overflow-checks=false,--config profile.dev.package.weir.$(set))
bench: plugins need-servers
	cd plugins && $(CARGO) build --locked --release --example native -p validate --target-dir ../target/guests-native
	ONLY='$(ONLY)' $(CARGO) bench --locked --profile dev $(BENCH) --bench weir

# Spark beside Weir in one run, on the program that users get: PySpark from PyPI, its Kafka source from Maven Central.
PEERS := target/peers/venv
bench-peers: release plugins need-servers
	@command -v python3 >/dev/null || { echo 'missing: Python 3 (PySpark). Debian: apt-get install python3-venv'; exit 1; }
	[ -x $(PEERS)/bin/spark-submit ] || { python3 -m venv $(PEERS) && $(PEERS)/bin/pip install -q pyspark==4.1.1; }
	WEIR=$(CURDIR)/target/release/weir $(MAKE) bench ONLY=peers

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
