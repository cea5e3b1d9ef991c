# Tests and benchmarks of real processes. The main Makefile includes this.
#
# ORRERY_BIN: the server under test instead of the one that cargo builds; a real etcd is welcome.
# ORRERY_FAULT_ROUNDS: how often each fault is repeated.
# ETCD: the etcd to compare answers with, instead of the one that is built.
# SECONDS, SEED: how long random programs are run, and the first of them.
# TESTS: which of etcd's own tests, as `go test -run` takes it.
# LOAD: flags for what measures the load of Kubernetes, RESULTS: a file for its figures.

PEERS = $$(tests/interop/build-peers.sh)
CLUSTER_TEST = cargo test --release --test cluster --
COMPARE = ETCD_BIN=$(PEERS)/etcd cargo bench --bench compare --
# Built with the tests, so that nothing is built twice: tests turn on features of dependencies.
TESTED_BIN = $${ORRERY_BIN:-$$(cargo test --release --quiet --no-run --test command_line >&2 \
	&& echo $(ORRERY))}

# Where there is no Go, the tests say that they skip what needs an etcd.
CONFORMANCE = ETCD=$${ETCD:-$$(peers=$(PEERS) && echo $$peers/etcd)} \
	cargo test --release --test conformance -- --nocapture

.PHONY: conformance conformance-fuzz golden
.PHONY: prometheus-test peers interop jetcd etcd-suite cluster-tests cluster-tests-etcd fault-rounds big-restart
.PHONY: bench bench-parts gap rolling-restart compose-test compose-kubernetes-test

peers: ## build the etcd to compare with (a minute; then cached)
	@tests/interop/build-peers.sh

interop: ## Go clientv3 and etcdctl against the server
	peers=$(PEERS) && server=$$(realpath $(TESTED_BIN)) && cd tests/interop \
		&& ETCD=$$peers/etcd ETCDCTL=$$peers/etcdctl ORRERY_BIN=$$server go test -count=1 -timeout 20m ./...

jetcd: ## Java's jetcd on three members with certificates and users (a JDK and Maven)
	tests/jetcd/run.sh $(TESTED_BIN)

etcd-suite: ## etcd's own tests/common with our binary where etcd was (TESTS=...; 9 minutes)
	peers=$(PEERS) && tests/etcd-suite/run.sh $(TESTED_BIN) $$peers '$(or $(TESTS),.)'

conformance: ## the scripts of tests/conformance on all targets, a real etcd (ETCD=...) among them
	$(CONFORMANCE) as_the_scripts_say

conformance-fuzz: ## random programs on a server and an etcd in step (SECONDS=1800 SEED=...)
	ORRERY_FUZZ_SECONDS=$(or $(SECONDS),1800) ORRERY_FUZZ_SEED=$(or $(SEED),$$(date +%s)) \
		$(CONFORMANCE) random_programs

prometheus-test: ## alerts and dashboard with a real Prometheus (apt-get install prometheus)
	cargo test --release --test prometheus -- --nocapture

golden: ## etcd's flags and refusals as recorded, beside a real etcd (ETCD=...; ORRERY_GOLDEN_RECORD=1)
	ETCD=$${ETCD:-$(PEERS)/etcd} cargo test --release --test command_line -- --ignored golden::

cluster-tests: ## members killed, stopped and cut off from power under traffic
	$(CLUSTER_TEST) --test-threads=1

cluster-tests-etcd: ## the same against a real etcd: the tests prove themselves
	ORRERY_BIN=$(PEERS)/etcd $(CLUSTER_TEST) --test-threads=1

fault-rounds: ## twenty rounds of kills and ten of power loss
	ORRERY_FAULT_ROUNDS=20 $(CLUSTER_TEST) --nocapture --test-threads=1 kills::
	ORRERY_FAULT_ROUNDS=10 $(CLUSTER_TEST) --nocapture --test-threads=1 power_loss::

big-restart: ## 1 GiB loaded, SIGKILL, restart: time to the first get, and memory
	$(CLUSTER_TEST) --ignored --nocapture --test-threads=1 big_restart::

bench: ## throughput, latency and server CPU per operation beside etcd
	$(COMPARE) speed

bench-parts: ## what applying, ranges and log appends cost by themselves
	cargo bench --bench apply --bench range --bench log_append

gap: ## time without acknowledged writes when the leader is killed or stopped, beside etcd
	$(COMPARE) gap

rolling-restart: ## three members restarted in turn under load: failed requests, and the longest gap, beside etcd
	$(COMPARE) rolling

compose-test: ## deploy/compose.yml on a local engine, one container killed (root)
	binary=$(TESTED_BIN) && deploy/test-compose.sh $$binary $(PEERS)/etcdctl

compose-kubernetes-test: ## the same with its profile kubernetes (root; KUBE_BIN=/path)
	binary=$(TESTED_BIN) && programs=$(KUBERNETES) \
		&& deploy/test-compose.sh $$binary $(PEERS)/etcdctl "$$programs"

# The harness under jepsen/: its binary, the library that shifts clocks, and the build with
# failpoints. Built as the tests are, so that nothing is built twice.
BROKEN := $(ORRERY)-failpoints
JEPSEN := $(CARGO_TARGET_DIR)/release/jepsen

.PHONY: jepsen jepsen-build jepsen-broken jepsen-probe jepsen-smoke jepsen-matrix jepsen-soak

jepsen: ## how the harness of fault tests is used
	@sed -n '/^## Commands/,/^## /p' jepsen/README.md | sed '$$d'

jepsen-build: setup
	@jepsen/install-tools.sh
	@cargo build --release --quiet -p orrery-clockshim
	@cargo test --release --quiet --no-run --workspace

# The copy is made before the binary without failpoints takes its place again.
jepsen-broken: setup
	@cargo test --release --quiet --no-run --features failpoints --test command_line
	@cp $(ORRERY) $(BROKEN)

jepsen-probe: jepsen-build ## which faults this machine can do, and why not the others (root)
	$(JEPSEN) probe

jepsen-smoke: jepsen-broken jepsen-build ## ten short runs, and every broken build is found (root; SEED=)
	$(JEPSEN) smoke --broken $(BROKEN) $(if $(SEED),--seed $(SEED))

jepsen-matrix: jepsen-build ## the cells of the matrix that have no result yet (root; CELLS= for some)
	ETCD=$${ETCD:-$(PEERS)/etcd} $(JEPSEN) matrix $(if $(CELLS),--cells $(CELLS))

jepsen-soak: jepsen-build ## everything at once, for hours (root; HOURS=1)
	$(JEPSEN) soak --hours $(or $(HOURS),1)

include tests/kubernetes/kubernetes.mk
