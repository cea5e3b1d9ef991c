# Kubernetes on the server. tests/tests.mk includes this, and has the variables.

# Kubernetes' own programs; build.sh makes them if KUBE_BIN does not say where they are.
KUBERNETES = $$(tests/kubernetes/build.sh)
# Takes the lock for what must have the machine for itself, as benches and fault tests do.
KUBERNETES_LOAD = peers=$(PEERS) && server=$$(realpath $(TESTED_BIN)) && cd tests/kubernetes \
	&& program=$$(mktemp -t orrery-load-XXXXXX) && trap 'rm -f "$$program"' EXIT \
	&& go build -o "$$program" ./load && "$$program" -server "$$server" \
	-etcd "$${ETCD-$$peers/etcd}" -results '$(abspath $(RESULTS))'

.PHONY: kubernetes kubernetes-storage kubernetes-integration kubernetes-up kubernetes-scenario
.PHONY: kubernetes-scenario-small kubernetes-load kubernetes-connections kubernetes-list-and-watch
.PHONY: kubernetes-through kubernetes-kubeadm kubernetes-migration

# What is measured beside an etcd is not in it: load, connections, through, list-and-watch, and the large scenario.
kubernetes: ## everything that Kubernetes' programs and tests can say of the server (half an hour)
	$(MAKE) kubernetes-kubeadm kubernetes-migration kubernetes-storage kubernetes-integration \
		kubernetes-scenario-small

kubernetes-storage: ## Kubernetes' own tests of its storage, on our server (7 minutes; PACKAGES=storage/etcd3 for some)
	tests/kubernetes/storage.sh $(TESTED_BIN) $(if $(PACKAGES),'$(PACKAGES)')

kubernetes-load: ## what 1,000 and 5,000 nodes ask, and the most nodes, beside etcd (half an hour; LOAD=flags)
	$(KUBERNETES_LOAD) requests $(LOAD)

kubernetes-connections: ## a member with 600 watches and 2,500 idle connections, beside etcd (5 minutes)
	$(KUBERNETES_LOAD) connections $(LOAD)

kubernetes-list-and-watch: ## a watch while 10,000 objects are listed on its connection, beside etcd (4 minutes)
	$(KUBERNETES_LOAD) list-and-watch $(LOAD)

kubernetes-through: ## 1,000 nodes and pods that come and go, through a real control plane, beside etcd (8 minutes)
	binaries=$(KUBERNETES) && $(KUBERNETES_LOAD) through -binaries "$$binaries" $(LOAD)

kubernetes-migration: ## a real control plane moves from etcd to the server and back (6 minutes; KUBE_BIN=/path)
	peers=$(PEERS) && programs=$(KUBERNETES) && server=$$(realpath $(TESTED_BIN)) && cd tests/kubernetes \
		&& ORRERY_BIN=$$server ETCD_BIN=$$peers KUBE_BIN=$$programs \
		go test -count=1 -timeout 30m -v -run Migration ./kubeadm

kubernetes-kubeadm: ## as kubeadm, k3s and RKE2 start, join, copy and roll back members (3 minutes; ORRERY_COPIES=4)
	server=$$(realpath $(TESTED_BIN)) && cd tests/kubernetes \
		&& ORRERY_BIN=$$server go test -count=1 -timeout 20m ./kubeadm

kubernetes-integration: ## Kubernetes' own test/integration/etcd, on our server (5 minutes; the first time 10 more)
	tests/kubernetes/integration.sh $(TESTED_BIN)

kubernetes-up: ## a control plane with three fake nodes on three members, or on ETCD_ENDPOINTS=...
	tests/kubernetes/run.sh up -server $(TESTED_BIN)

kubernetes-scenario: ## a control plane's life, in calm and under faults, beside etcd (ARGS=-help)
	tests/kubernetes/run.sh scenario $(ARGS) orrery=$(TESTED_BIN) etcd=$(PEERS)/etcd

kubernetes-scenario-small: ## the same in five minutes, on our server alone
	tests/kubernetes/run.sh scenario -nodes 5 -pods 20 -namespaces 4 -objects 20 -customs 600 \
		-hold 4s -settle 3s -lasting 0s $(ARGS) orrery=$(TESTED_BIN)
