#!/bin/bash
# Kubernetes' tests of its storage (k8s.io/apiserver), with our server where they start an etcd of their own.
#
# usage: storage.sh SERVER [PACKAGES]
#   SERVER    the binary under test; a real etcd is welcome
#   PACKAGES  which ones, below pkg/ of the module; all four by default
#
# They are run in a copy of the module, since theirs takes its etcd as a library: the one file that starts it
# is ours there. The copy and what is built is kept in the cache.
set -euo pipefail
server=$(realpath "$1")
packages=${2:-storage/etcd3 storage/storagebackend/factory registry/generic/registry storage/cacher}
cd "$(dirname "$0")"

version=$(go list -m -f '{{.Version}}' k8s.io/apiserver)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/orrery/peers/apiserver-${version#v}
if [ ! -d "$cache" ]; then
    rm -rf "$cache.new"
    mkdir -p "$(dirname "$cache")"
    cp -r "$(go list -m -f '{{.Dir}}' k8s.io/apiserver)" "$cache.new"
    chmod -R u+w "$cache.new"
    mv "$cache.new" "$cache"
fi
cp storage/test_server.go "$cache/pkg/storage/etcd3/testserver/test_server.go"
cd "$cache"

work=$(mktemp -d -t orrery-kubernetes-XXXXXX)
trap 'rm -rf "$work"' EXIT
failed=()
for package in $packages; do
    go test -c -o "$work/test" "./pkg/$package"
    # Where the tests look for their files.
    status=0
    (cd "pkg/$package" && ETCD_EXEC=$server timeout 900 "$work/test" -test.v) >"$work/output" 2>&1 || status=$?
    passed=$(grep -a -c '^ *--- PASS' "$work/output" || true)
    skipped=$(grep -a -c '^ *--- SKIP' "$work/output" || true)
    missed=$(grep -a -c '^ *--- FAIL' "$work/output" || true)
    echo "$package: $passed passed, $missed failed, $skipped skipped by themselves"
    if [ "$status" -ne 0 ] || [ "$passed" -eq 0 ]; then
        failed+=("$package")
        grep -a -A5 '^ *--- FAIL\|^panic' "$work/output" | head -n 60 | cut -c1-300 || true
    fi
done
[ "${#failed[@]}" -eq 0 ] || { echo "failed: ${failed[*]}"; exit 1; }
