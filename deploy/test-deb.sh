#!/bin/bash
# Installs a package in a Debian of its own, looks at what it did, starts the server as its user, and
# takes the package away again. Usage: deploy/test-deb.sh PACKAGE
#
# Needs root, and debootstrap or the base system that deploy/test-compose.sh has kept.
set -euo pipefail

package=$(realpath "$1")
cd "$(dirname "$0")"
base=${XDG_CACHE_HOME:-$HOME/.cache}/orrery/base/bookworm.tar
work=$(mktemp -d -t orrery-deb-XXXXXX)
root=$work/root

finish() {
    status=$?
    mountpoint -q "$root/proc" && umount "$root/proc"
    rm -rf "$work"
    exit "$status"
}
trap finish EXIT

mkdir "$root"
if [ -f "$base" ]; then
    tar --extract --directory "$root" --file "$base"
else
    debootstrap --variant=minbase --include=adduser bookworm "$root" >"$work/debootstrap.log"
fi
mount --bind /proc "$root/proc"
cp "$package" "$root/orrery.deb"

# The unit, with a program where the real one will be.
sed 's|^ExecStart=.*|ExecStart=/bin/true|' systemd/orrery.service >"$work/orrery.service"
if command -v systemd-analyze >/dev/null; then
    systemd-analyze verify "$work/orrery.service"
fi

chroot "$root" dpkg --install /orrery.deb
chroot "$root" sh -euc '
    getent passwd orrery
    test -f /usr/lib/systemd/system/orrery.service -a -f /etc/default/orrery
    ! test -e /etc/systemd/system/multi-user.target.wants/orrery.service
    test -z "$(dpkg --verify orrery)"
    install --directory --owner=orrery --mode=0700 /var/lib/orrery
    cd /var/lib/orrery
    setpriv --reuid=orrery --regid=orrery --clear-groups /usr/bin/orrery \
        --listen-client-urls=http://127.0.0.1:0 --advertise-client-urls=http://127.0.0.1:0 \
        --listen-peer-urls=http://127.0.0.1:0 2>log & server=$!
    for _ in $(seq 100); do grep -q "ready to serve client requests" log && break; sleep 0.1; done
    grep -q "ready to serve client requests" log || { cat log; exit 1; }
    kill "$server" && wait "$server"
    test -f default.orrery/orrery.json
    dpkg --purge orrery
    test -f default.orrery/orrery.json
    ! test -e /etc/default/orrery -o -e /usr/bin/orrery
'
echo "package: installed, served, and taken away; the data has stayed"
