#!/bin/bash
# All that must pass: `make test`. What this machine cannot do is skipped, and counted at the end.
set -uo pipefail
cd "$(dirname "$0")/.."

began=$(date +%s)
build=warm
compgen -G "$CARGO_TARGET_DIR/release/deps/librocksdb-*.rlib" >/dev/null || build=cold
output=$(mktemp -t orrery-test-XXXXXX)
trap 'rm -f "$output"' EXIT
failed=()

# Runs one step; the ones after a failed step still run.
step() {
    local name=$1
    shift
    echo "=== $name"
    "$@" 2>&1 | tee -a "$output" || failed+=("$name")
}

skip() {
    echo "SKIPPED $*" | tee -a "$output"
}

step check make --no-print-directory check
# The etcd that the scripts of conformance run against, too.
if command -v go >/dev/null; then
    step peers make --no-print-directory peers
fi
if [ -z "${PROMETHEUS:-}" ] && prometheus=$(tests/get-prometheus.sh); then
    export PROMETHEUS=$prometheus
fi
# One build for everything: it makes the binary, too, which the Go tests then use.
step tests cargo test --release --workspace --no-fail-fast
# Builds for half a minute when the server's decoders have changed, in two when all is new.
step fuzz fuzz/run 5
if command -v go >/dev/null; then
    step interop make --no-print-directory interop ORRERY_BIN="$CARGO_TARGET_DIR/release/orrery"
    # Beside each other, since all of them wait for timers. What is left out takes minutes more.
    step "etcd-suite, kubernetes" make --no-print-directory -j3 --output-sync=target \
        ORRERY_BIN="$CARGO_TARGET_DIR/release/orrery" \
        etcd-suite TESTS='TestA(uth[A-Z]|larm)|TestKV|TestTxn|TestLease|TestUser|TestRole|TestWatch|TestEndpoint' \
        kubernetes-kubeadm kubernetes-storage PACKAGES=storage/etcd3
else
    skip "Go clientv3, etcdctl, etcd's and Kubernetes' own tests, the comparison with etcd: Go is not installed"
fi
# Members in namespaces and on disks of their own, broken on purpose.
if [ "$(id -u)" = 0 ] && make --no-print-directory jepsen-probe; then
    # Always the same seeds: what a change is judged by. `make jepsen-smoke` alone takes a new one.
    step jepsen make --no-print-directory jepsen-smoke SEED=1
else
    skip "the fault tests under jepsen/: they need root, and all that jepsen-probe looks for"
fi

echo
took=$(($(date +%s) - began))
skipped=$(grep -c '^SKIPPED ' "$output")
if [ "$skipped" -gt 0 ]; then
    echo "NOT TESTED HERE, $skipped parts:"
    sed -n 's/^SKIPPED /  - /p' "$output"
fi
echo "make test: $((took / 60)) min $((took % 60)) s, $build build; $skipped parts skipped;" \
    "failed: ${failed[*]:-nothing}"
[ "${#failed[@]}" -eq 0 ]
