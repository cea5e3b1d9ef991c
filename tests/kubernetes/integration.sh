#!/bin/bash
# Kubernetes' integration tests of what it keeps in etcd (test/integration/etcd), with our server where
# they find an etcd: each kind of object is stored where older and newer releases look for it.
#
# usage: integration.sh SERVER [TESTS]
#   SERVER  the binary under test; a real etcd is welcome
#   TESTS   which ones, as `go test -run` takes it; all by default
#
# OUTPUT=file keeps all that the tests print.
set -euo pipefail
server=$(realpath "$1") tests=${2:-.}
cd "$(dirname "$0")"

version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
built=${PEERS_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/orrery/peers/kubernetes-${version#v}}
suite=$built/etcd-integration.test
if [ ! -x "$suite" ]; then
    echo "building Kubernetes' integration tests" >&2
    mkdir -p "$built"
    # Trimmed as in build.sh, of which most is the same.
    nice -n 5 go test -c -trimpath -o "$suite.$$" k8s.io/kubernetes/test/integration/etcd
    mv "$suite.$$" "$suite"
fi

work=$(mktemp -d -t orrery-kubernetes-XXXXXX)
trap 'rm -rf "$work"' EXIT
mkdir "$work/bin" "$work/tmp"
ln -s "$server" "$work/bin/etcd"

# They look for what older releases wrote where Kubernetes' own tree has it.
mkdir -p "$work/tree/test/integration/etcd" "$work/tree/staging/src/k8s.io"
ln -s "$(go list -m -f '{{.Dir}}' k8s.io/api)" "$work/tree/staging/src/k8s.io/api"
cd "$work/tree/test/integration/etcd"
# In a group of their own: the etcd that they start ends with them, however they end.
# An etcd that listens where they look first would be taken, whatever it is.
PATH=$work/bin:$PATH TMPDIR=$work/tmp KUBE_INTEGRATION_ETCD_URL=http://127.0.0.1:1 \
    setsid timeout 1800 "$suite" -test.v -test.run "$tests" >"$work/output" 2>&1 &
group=$!
trap 'kill -TERM -- "-$group" 2>/dev/null || true; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
status=0
wait "$group" || status=$?
if [ -n "${OUTPUT:-}" ]; then cp "$work/output" "$OUTPUT"; fi
count() { grep -a -c "^ *--- $1" "$work/output" || true; }
passed=$(count PASS)
echo "test/integration/etcd: $passed passed, $(count FAIL) failed, $(count SKIP) skipped by themselves"
grep -a '^--- ' "$work/output" || true
if [ "$status" -ne 0 ] || [ "$passed" -eq 0 ]; then
    grep -a -A5 '^ *--- FAIL\|^panic' "$work/output" | head -n 60 | cut -c1-300 || true
    echo "status $status"
    exit 1
fi
