#!/bin/bash
# Runs one of the programs here that start a control plane, with Kubernetes' own programs at hand.
#
# usage: run.sh up|scenario|... [ARGUMENTS]
#   KUBE_BIN=/path  see build.sh
set -euo pipefail
program=$1
shift
binaries=$("$(dirname "$0")/build.sh")
# Kept, so that it is this program that gets the signals, and nothing is left behind.
kept=${XDG_CACHE_HOME:-$HOME/.cache}/orrery/kubernetes
mkdir -p "$kept"
nice -n 5 go build -C "$(dirname "$0")" -o "$kept/$program.$$" "./$program"
mv "$kept/$program.$$" "$kept/$program"
exec "$kept/$program" -binaries "$binaries" "$@"
