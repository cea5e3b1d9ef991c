# Everything that is done with this repository is a target here; `make` lists them.

SHELL := /bin/bash

# One profile for everything, so that RocksDB is built once; outside the tree, so that clones share it.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/orrery/target
ORRERY := $(CARGO_TARGET_DIR)/release/orrery
TOOLS := $(HOME)/.cache/orrery/tools
DENY := $(TOOLS)/bin/cargo-deny
DEB := $(TOOLS)/bin/cargo-deb

# The three members of `make cluster`, as etcd's own Procfile has them.
CLUSTER := m1=http://127.0.0.1:2380,m2=http://127.0.0.1:22380,m3=http://127.0.0.1:32380
ENDPOINTS := 127.0.0.1:2379,127.0.0.1:22379,127.0.0.1:32379

.DEFAULT_GOAL := help
.PHONY: help setup build run cluster compose deb deb-test unit-test test check deny fuzz simulate

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-26s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what the build needs and is missing
	@missing=(); \
	command -v c++ >/dev/null || missing+=(g++); \
	command -v git >/dev/null || missing+=(git); \
	command -v curl >/dev/null || missing+=(curl); \
	command -v protoc >/dev/null || missing+=(protobuf-compiler); \
	compgen -G '/usr/lib/llvm*/lib/libclang*.so*' >/dev/null \
	  || compgen -G '/usr/lib*/libclang*.so*' >/dev/null \
	  || compgen -G '/usr/lib/*/libclang*.so*' >/dev/null \
	  || [ -n "$$LIBCLANG_PATH" ] || missing+=(libclang-dev); \
	if [ $${#missing[@]} -gt 0 ]; then \
	  if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	    echo "installing $${missing[*]}"; \
	    { apt-get install -y --no-install-recommends "$${missing[@]}" \
	      || { apt-get update && apt-get install -y --no-install-recommends "$${missing[@]}"; }; \
	    } >/dev/null; \
	  else \
	    echo "The build needs what these Debian packages hold; install them and try again:" >&2; \
	    echo "  sudo apt-get install $${missing[*]}" >&2; exit 1; \
	  fi; \
	fi
	@command -v cargo >/dev/null || { \
	  echo "The build needs Rust: install rustup from https://rustup.rs; it then takes the" >&2; \
	  echo "release that rust-toolchain.toml names." >&2; exit 1; }
	@# Cargo takes what another checkout built for this one's if its files are older than the build.
	@stamp='$(CARGO_TARGET_DIR)/checkout'; mkdir -p '$(CARGO_TARGET_DIR)'; \
	if [ "$$(cat "$$stamp" 2>/dev/null)" != '$(CURDIR)' ]; then \
	  git ls-files -z -- '*.rs' '*.proto' | xargs -0 touch && echo '$(CURDIR)' >"$$stamp"; \
	fi

build: setup ## build the binary
	cargo build --release --bin orrery

run: build ## start one member on 127.0.0.1:2379, with its data in default.orrery/
	@echo; echo 'Try, in another terminal:'
	@echo '  etcdctl put greeting hello'
	@echo '  etcdctl get greeting'; echo
	@exec $(ORRERY)

cluster: build ## start three members on loopback; Ctrl-C stops them all
	@echo; echo 'Clients at $(ENDPOINTS). Try, in another terminal:'
	@echo '  etcdctl --endpoints=$(ENDPOINTS) put greeting hello'
	@echo '  etcdctl --endpoints=$(ENDPOINTS) endpoint status -w table'; echo
	@members=(); \
	trap 'trap - INT TERM HUP EXIT; kill -TERM "$${members[@]}" 2>/dev/null; wait' INT TERM HUP EXIT; \
	for number in 1 2 3; do \
	  port=$$(( number == 1 ? 2379 : number * 10000 + 2379 )); \
	  setsid $(ORRERY) --name "m$$number" --data-dir "m$$number.orrery" \
	    --listen-client-urls "http://127.0.0.1:$$port" \
	    --advertise-client-urls "http://127.0.0.1:$$port" \
	    --listen-peer-urls "http://127.0.0.1:$$(( port + 1 ))" \
	    --initial-advertise-peer-urls "http://127.0.0.1:$$(( port + 1 ))" \
	    --initial-cluster '$(CLUSTER)' --initial-cluster-token orrery-loopback & \
	  members+=($$!); \
	done; \
	wait

compose: ## start three members with mutual TLS in containers
	docker compose -f deploy/compose.yml up --build

deb: build $(DEB) ## make a Debian package in deploy/out/
	$(DEB) --no-build --output deploy/out/

deb-test: deb ## install that package in a Debian of its own, run it, remove it (root)
	deploy/test-deb.sh deploy/out/orrery_*.deb

unit-test: deb ## have systemd run a member, in a Debian of its own that it boots (root)
	deploy/test-unit.sh deploy/out/orrery_*.deb $(PEERS)/etcdctl

test: setup ## everything that must pass: check, then all tests; prints how long it took
	@tests/everything.sh

check: setup deny ## formatting, lints, documentation, house rules, licences and advisories
	cargo fmt --all --check
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	cargo clippy --release --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings -A rustdoc::private-intra-doc-links' cargo doc --release --workspace --no-deps --document-private-items
	cargo test --release --quiet --test tidy

deny: setup $(DENY) ## what may be depended on: licences, sources, and the database of advisories
	$(DENY) --log-level error check --hide-inclusion-graph bans licenses sources
	@if $(DENY) fetch db >/dev/null 2>&1; then $(DENY) check advisories; \
	else echo 'SKIPPED advisories: their database cannot be fetched'; fi

# Built once, where clones share it.
$(DENY):
	env -u CARGO_TARGET_DIR cargo install --quiet --locked --root $(HOME)/.cache/orrery/tools cargo-deny@0.20.2

$(DEB):
	env -u CARGO_TARGET_DIR cargo install --quiet --locked --root $(TOOLS) cargo-deb@3.8.0

fuzz: setup ## feed the decoders with garbage, 5 minutes each (SECONDS_EACH=300)
	@SECONDS_EACH='$(or $(SECONDS_EACH),300)' fuzz/run

simulate: setup ## three members in one process, with faults, from many seeds (SEEDS=2000) or one (SEED=7)
	ORRERY_SIM_SEED='$(SEED)' ORRERY_SIM_SEEDS='$(or $(SEEDS),2000)' \
	  cargo test --release --test simulation -- --nocapture three_members

include tests/tests.mk
