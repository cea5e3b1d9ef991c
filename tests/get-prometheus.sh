#!/bin/sh
# Prints the path of a Prometheus: the one that is installed, or Debian's, unpacked into the cache and not
# installed, since that would start it. Fails where there is neither.
set -eu
command -v prometheus && exit
cache=${XDG_CACHE_HOME:-$HOME/.cache}/orrery/tools/prometheus
if [ ! -x "$cache/usr/bin/prometheus" ]; then
    work=$(mktemp -d -t orrery-prometheus-XXXXXX)
    trap 'rm -rf "$work"' EXIT
    cd "$work"
    { apt-get update -qq && apt-get download -qq prometheus; } >&2
    mkdir -p "$cache"
    dpkg-deb --extract prometheus_*.deb "$cache"
fi
echo "$cache/usr/bin/prometheus"
