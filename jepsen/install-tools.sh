#!/bin/bash
# Installs what the harness uses of the system and is missing, where that is possible.
set -euo pipefail

declare -A packages=(
    [ip]=iproute2 [tc]=iproute2 [nft]=nftables [iptables]=iptables [nsenter]=util-linux
    [unshare]=util-linux [setpriv]=util-linux [mkfs.ext4]=e2fsprogs [fallocate]=util-linux [perl]=perl-base
    [eatmydata]=eatmydata
)
missing=()
for tool in "${!packages[@]}"; do
    PATH=$PATH:/usr/sbin:/sbin command -v "$tool" >/dev/null || missing+=("${packages[$tool]}")
done
[ "${#missing[@]}" -eq 0 ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing ${missing[*]}"
    { apt-get install -y --no-install-recommends "${missing[@]}" \
        || { apt-get update && apt-get install -y --no-install-recommends "${missing[@]}"; }; } >/dev/null
else
    echo "The harness needs what these Debian packages hold: ${missing[*]}" >&2
    exit 1
fi
