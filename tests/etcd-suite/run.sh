#!/bin/bash
# etcd's own tests (tests/common, as end-to-end tests) with our server where etcd was.
#
# usage: run.sh SERVER PEERS [TESTS]
#   SERVER  the binary under test; a real etcd is welcome
#   PEERS   directory with etcdctl and etcdutl; what is built here is kept there, too
#   TESTS   which ones, as `go test -run` takes it; all by default
#
# Prints a line for each test and a count, and fails when one failed that is not listed in
# exceptions.txt, or when one passed that is. OUTPUT=file keeps all that the tests print.
set -euo pipefail
server=$(realpath "$1") peers=$(realpath "$2") tests=${3:-.}
cd "$(dirname "$0")"
exceptions=$PWD/exceptions.txt

suite=$peers/common.test
if [ ! -x "$suite" ]; then
    echo "building etcd's tests" >&2
    go test -c -tags e2e -o "$suite.$$" go.etcd.io/etcd/tests/v3/common
    mv "$suite.$$" "$suite"
fi

# The exceptions are ours.
is_etcd=yes
case $("$server" --version) in *"Git SHA: orrery-"*) is_etcd= ;; esac

work=$(mktemp -d -t orrery-etcd-suite-XXXXXX)
trap 'rm -rf "$work"' EXIT
mkdir "$work/bin" "$work/tmp"
ln -s "$server" "$work/bin/etcd"
ln -s "$peers/etcdctl" "$peers/etcdutl" "$work/bin/"

# The tests look for their certificates beside their own directory.
cd "$(go list -f '{{.Dir}}' go.etcd.io/etcd/tests/v3/common)"

# Each in a process of its own: after a failure what it left running would make all others skip.
passed=0 failed=() skipped=() expected=()
for name in $("$suite" -test.list "$tests"); do
    status=0
    TMPDIR=$work/tmp timeout 900 "$suite" --bin-dir="$work/bin" -test.v -test.run "^$name\$" \
        >"$work/output" 2>&1 || status=$?
    if [ -n "${OUTPUT:-}" ]; then cat "$work/output" >>"$OUTPUT"; fi
    rm -rf "$work/tmp"/*
    line=$(grep -E "^--- (PASS|FAIL|SKIP): $name " "$work/output" || true)
    echo "${line:-"--- FAIL: $name (status $status)"}"
    if [ -z "$is_etcd" ] && grep -q "^$name " "$exceptions"; then
        case $line in
        "--- PASS"*) failed+=("$name (which exceptions.txt lists, and it passed)") ;;
        *) expected+=("$name") ;;
        esac
        continue
    fi
    case $line in
    "--- PASS"*) passed=$((passed + 1)) ;;
    "--- SKIP"*) skipped+=("$name") ;;
    *)
        failed+=("$name")
        grep -E '^\s+(\S+_test\.go:|execute\.go:|Error|expected|actual|Messages)' "$work/output" |
            head -n 12 | cut -c1-300 || true
        ;;
    esac
done
echo "etcd's own tests: $passed passed, ${#failed[@]} failed, ${#skipped[@]} skipped by themselves," \
    "${#expected[@]} failed as exceptions.txt says: ${expected[*]:-none}"
[ "${#failed[@]}" -eq 0 ] || echo "failed: ${failed[*]}"
[ "${#failed[@]}" -eq 0 ] && [ "$passed" -gt 0 ]
