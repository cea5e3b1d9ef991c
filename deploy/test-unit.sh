#!/bin/bash
# Boots a Debian whose first process is systemd, installs a package in it, and has systemd run a member:
# started, used, killed, stopped. Usage: deploy/test-unit.sh PACKAGE ETCDCTL
#
# Needs root. What is missing of debootstrap and systemd-nspawn is installed; the Debian is kept for next
# time.
set -euo pipefail

package=$(realpath "$1")
etcdctl=$(realpath "$2")
cache=${XDG_CACHE_HOME:-$HOME/.cache}/orrery/base
system=$cache/bookworm-systemd.tar
work=$(mktemp -d -t orrery-unit-XXXXXX)
root=$work/root
trap 'rm -rf "$work"' EXIT

command -v debootstrap >/dev/null && command -v systemd-nspawn >/dev/null || {
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install --yes -qq --no-install-recommends \
        debootstrap systemd-container >"$work/install.log" 2>&1 || { cat "$work/install.log"; exit 1; }
}
mkdir -p "$cache" "$root"
if [ -f "$system" ]; then
    tar --extract --directory "$root" --file "$system"
else
    debootstrap --variant=minbase --include=adduser,systemd,systemd-sysv,dbus bookworm "$root" \
        >"$work/debootstrap.log" || { cat "$work/debootstrap.log"; exit 1; }
    tar --create --directory "$root" --file "$system.$$" --one-file-system .
    mv "$system.$$" "$system"
fi
# An installer writes this file; debootstrap does not.
echo "127.0.0.1 localhost" >"$root/etc/hosts"
install "$package" "$root/orrery.deb"
install "$etcdctl" "$root/usr/local/bin/etcdctl"

# Runs inside, as a service of its own.
cat >"$root/usr/local/bin/look" <<'EOF'
#!/bin/sh
set -eux
trap '[ -f /passed ] || journalctl --no-pager --unit=orrery' EXIT
main() { systemctl show --property=MainPID --value orrery; }
dpkg --install /orrery.deb
! systemctl is-active orrery
echo 'ETCD_LOG_LEVEL=warn' >>/etc/default/orrery
# Comes back when the member serves: it says so itself.
systemctl enable --now orrery
test "$(stat --format=%U /proc/$(main))" = orrery
etcdctl put unit kept
test "$(etcdctl get unit --print-value-only)" = kept
test -d /var/lib/orrery/data

before=$(main)
kill -KILL "$before"
for _ in $(seq 200); do
    sleep 0.1
    if systemctl is-active orrery && [ "$(main)" != "$before" ]; then break; fi
done
test "$(etcdctl get unit --print-value-only)" = kept

systemctl restart orrery
test "$(etcdctl get unit --print-value-only)" = kept
systemctl stop orrery
test "$(systemctl show --property=Result --value orrery)" = success
# What was asked for in its settings is what it does: no line of information.
! journalctl --unit=orrery --output=cat | grep '"level":"info"'

echo 'ETCD_HEARTBEAT_INTERVAL=nonsense' >>/etc/default/orrery
! timeout 20 systemctl start orrery
journalctl --unit=orrery --output=cat | grep nonsense
dpkg --purge orrery
test -d /var/lib/orrery/data
touch /passed
EOF
chmod 755 "$root/usr/local/bin/look"
cat >"$root/etc/systemd/system/look.service" <<'EOF'
[Unit]
After=basic.target dbus.service
[Service]
Type=oneshot
ExecStart=/usr/local/bin/look
StandardOutput=file:/look.log
StandardError=file:/look.log
ExecStopPost=/bin/systemctl --no-block poweroff
EOF
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -s /etc/systemd/system/look.service "$root/etc/systemd/system/multi-user.target.wants/"

# A network of its own, with nothing but loopback.
timeout 180 systemd-nspawn --quiet --directory="$root" --boot --register=no --keep-unit \
    --private-network >"$work/boot.log" 2>&1 </dev/null || tail -n 5 "$work/boot.log"
if [ ! -f "$root/passed" ]; then
    cat "$root/look.log" || cat "$work/boot.log"
    exit 1
fi
echo "unit: started by systemd, used, killed, restarted, stopped, and taken away; the data has stayed"
