#!/bin/bash
# etcd's own tests (tests/common, as end-to-end tests) with our server where etcd was.
#
# usage: run.sh SERVER PEERS [TESTS]
#   SERVER  the binary under test; a real etcd is welcome
#   PEERS   directory with etcdctl and etcdutl; what is built here is kept there, too
#   TESTS   which ones, as `go test -run` takes it; all by default
#
# Prints a line for each test and a count, and fails when one failed.
set -euo pipefail
server=$(realpath "$1") peers=$(realpath "$2") tests=${3:-.}
cd "$(dirname "$0")"

suite=$peers/common.test
if [ ! -x "$suite" ]; then
    echo "building etcd's tests" >&2
    go test -c -tags e2e -o "$suite.$$" go.etcd.io/etcd/tests/v3/common
    mv "$suite.$$" "$suite"
fi

work=$(mktemp -d -t orrery-etcd-suite-XXXXXX)
trap 'rm -rf "$work"' EXIT
mkdir "$work/bin" "$work/tmp"
ln -s "$server" "$work/bin/etcd"
ln -s "$peers/etcdctl" "$peers/etcdutl" "$work/bin/"

# The tests look for their certificates beside their own directory.
cd "$(go list -f '{{.Dir}}' go.etcd.io/etcd/tests/v3/common)"
status=0
TMPDIR=$work/tmp "$suite" --bin-dir="$work/bin" -test.v -test.timeout 60m -test.run "$tests" \
    >"$work/output" 2>&1 || status=$?
if [ -n "${OUTPUT:-}" ]; then cp "$work/output" "$OUTPUT"; fi

grep -E '^--- (PASS|FAIL|SKIP): ' "$work/output" | sed 's/^--- //' || true
count() { grep -c "^--- $1: " "$work/output" || true; }
passed=$(count PASS) failed=$(count FAIL) skipped=$(count SKIP)
if [ "$status" -ne 0 ] && [ "$failed" -eq 0 ]; then
    tail -n 40 "$work/output"
    echo "the tests ended with status $status"
fi
echo "etcd's own tests: $passed passed, $failed failed, $skipped skipped by themselves"
[ "$status" -eq 0 ] && [ "$passed" -gt 0 ]
