#!/bin/bash
# Builds Kubernetes' programs and kwok from the modules that go.mod pins, and prints their directory.
#
# usage: build.sh
#   KUBE_BIN=/path  a directory that has them already: kube-apiserver, kube-controller-manager,
#                   kube-scheduler, kubectl and kwok
#
# The first time takes some ten minutes on two cores; once built, it is fast.
set -euo pipefail
cd "$(dirname "$0")"

programs=(kube-apiserver kube-controller-manager kube-scheduler kubectl kwok)
if [ -n "${KUBE_BIN:-}" ]; then
    for program in "${programs[@]}"; do
        [ -x "$KUBE_BIN/$program" ] || { echo "$KUBE_BIN has no $program" >&2; exit 1; }
    done
    realpath "$KUBE_BIN"
    exit
fi

version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
built=${PEERS_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/orrery/peers/kubernetes-${version#v}}
mkdir -p "$built"

# What the programs say that they are; the commit and the day are nobody's.
IFS=. read -r major minor _ <<<"${version#v}"
says=
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    says+=" -X $package.gitVersion=$version -X $package.gitMajor=$major -X $package.gitMinor=$minor"
    says+=" -X $package.gitTreeState=clean -X $package.gitCommit=unknown"
done

build() {
    [ -x "$built/$1" ] && return
    echo "building $1" >&2
    # Written beside its name and renamed, so that a killed build leaves no half program.
    nice -n 5 go build -trimpath -ldflags "-s -w$says" -o "$built/$1.$$" "$2"
    mv "$built/$1.$$" "$built/$1"
}

for program in "${programs[@]}"; do
    case $program in
    kwok) build kwok sigs.k8s.io/kwok/cmd/kwok ;;
    *) build "$program" "k8s.io/kubernetes/cmd/$program" ;;
    esac
done
echo "$built"
