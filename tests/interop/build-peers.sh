#!/bin/sh
# Builds the etcd that tests and benchmarks compare with, from the module versions that go.mod
# pins, and prints the directory of the binaries (etcd, etcdctl, etcdutl). Once built, it is fast.
set -eu
cd "$(dirname "$0")"

version=$(go list -m -f '{{.Version}}' go.etcd.io/etcd/server/v3)
peers=${PEERS_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/orrery/peers/etcd-${version#v}}
mkdir -p "$peers"

build() {
    [ -x "$peers/$1" ] && return
    echo "building $1 $version" >&2
    # Written beside its name and renamed, so that a killed build leaves no half binary.
    go build -trimpath -o "$peers/$1.$$" "$2"
    mv "$peers/$1.$$" "$peers/$1"
}

build etcd go.etcd.io/etcd/server/v3
build etcdctl go.etcd.io/etcd/etcdctl/v3
build etcdutl go.etcd.io/etcd/etcdutl/v3
echo "$peers"
