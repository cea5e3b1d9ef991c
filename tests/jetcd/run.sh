#!/bin/bash
# jetcd against three members with certificates, without and with users: run.sh ORRERY [SERVER]
# SERVER is the server to run, if it is not ORRERY, which makes the certificates.
set -euo pipefail
cd "$(dirname "$0")"
orrery=$(realpath "$1")
server=$(realpath "${2:-$1}")
home=$(mktemp -d -t orrery-jetcd-XXXXXX)
members=()
trap 'kill "${members[@]}" 2>/dev/null || true; wait; rm -rf "$home"' EXIT

mvn -q -B compile dependency:build-classpath -Dmdep.outputFile=target/classpath
"$orrery" certs --host 127.0.0.1 --out "$home"
# Six ports that are free now, in one go, so that none comes twice.
read -r -a ports < <(python3 -c '
import socket
held = [socket.socket() for _ in range(6)]
[one.bind(("127.0.0.1", 0)) for one in held]
print(*[one.getsockname()[1] for one in held])')
everybody=
for at in 0 1 2; do everybody+="${everybody:+,}m$at=https://127.0.0.1:${ports[at + 3]}"; done
endpoints=
for at in 0 1 2; do
    client="https://127.0.0.1:${ports[at]}" peer="https://127.0.0.1:${ports[at + 3]}"
    endpoints+="${endpoints:+,}$client"
    "$server" --name "m$at" --data-dir "$home/m$at" --initial-cluster "$everybody" \
        --listen-client-urls "$client" --advertise-client-urls "$client" \
        --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" \
        --cert-file "$home/server.crt" --key-file "$home/server.key" \
        --trusted-ca-file "$home/ca.crt" --client-cert-auth \
        --peer-cert-file "$home/peer.crt" --peer-key-file "$home/peer.key" \
        --peer-trusted-ca-file "$home/ca.crt" --peer-client-cert-auth >"$home/m$at.log" 2>&1 &
    members+=($!)
done
for at in 0 1 2; do
    until grep -q 'ready to serve client requests' "$home/m$at.log"; do sleep 0.1; done
done
java -cp "target/classes:$(cat target/classpath)" Tried "$endpoints" "$home"
