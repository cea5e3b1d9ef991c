#!/bin/bash
# Runs deploy/compose.yml on a local engine with a ready binary, kills each container once while a client
# writes, and looks for what was written. Usage: deploy/test-compose.sh BINARY ETCDCTL [KUBE_BIN]
#
# With KUBE_BIN, a directory with kube-apiserver, kubectl and kwok, the profile `kubernetes` as well; images
# of them that the engine lacks are made, under their public names.
#
# Needs root where no engine runs: it then installs and starts one of its own, with everything it
# keeps in a temporary directory. Base images that the engine lacks are made with debootstrap.
set -euo pipefail

binary=$(realpath "$1")
etcdctl=$(realpath "$2")
kubernetes=${3:+$(realpath "$3")}
cd "$(dirname "$0")"

cache=${XDG_CACHE_HOME:-$HOME/.cache}/orrery/base
work=$(mktemp -d -t orrery-compose-XXXXXX)
engine=

# Newer clients need plugins that Debian does not have; its own one goes with its engine.
export PATH=/usr/bin:$PATH
export DOCKER_BUILDKIT=1 COMPOSE_DOCKER_CLI_BUILD=1 COMPOSE_PROJECT_NAME=orrery-test
export ORRERY_IMAGE_BINARY=ready

finish() {
    status=$?
    set +e
    if [ "$status" -ne 0 ]; then
        compose ps
        compose logs --tail=20
        [ -z "$engine" ] || tail -n 20 "$work/engine.log"
    fi
    compose down --volumes --timeout 5 >"$work/down.log" 2>&1 || cat "$work/down.log"
    if [ -n "$engine" ]; then
        kill "$engine" && wait "$engine"
        ip link delete docker0
        echo "$forwarding" >/proc/sys/net/ipv4/ip_forward
    fi
    rm -rf ready "$work"
    exit "$status"
}

compose() {
    if docker compose version >/dev/null 2>&1; then
        docker compose --file compose.yml "$@"
    else
        docker-compose --file compose.yml "$@"
    fi
}

install_engine() {
    command -v dockerd >/dev/null && command -v docker-compose >/dev/null \
        && command -v debootstrap >/dev/null && return
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install --yes -qq --no-install-recommends \
        docker.io docker-compose debootstrap >"$work/install.log" 2>&1 || {
        cat "$work/install.log"
        return 1
    }
}

# Without rules for the firewall; the bridge, which building needs, is taken away at the end.
start_engine() {
    forwarding=$(cat /proc/sys/net/ipv4/ip_forward)
    [ ! -e /sys/class/net/docker0 ] || { echo "an engine without a socket runs" >&2; return 1; }
    dockerd --data-root "$work/data" --exec-root "$work/exec" --pidfile "$work/engine.pid" \
        --host "unix://$work/engine.sock" --iptables=false --ip6tables=false \
        >"$work/engine.log" 2>&1 &
    engine=$!
    export DOCKER_HOST=unix://$work/engine.sock
    for _ in $(seq 100); do
        docker info >/dev/null 2>&1 && return
        kill -0 "$engine" || break
        sleep 0.2
    done
    echo "the engine does not start" >&2
    return 1
}

make_base_image() {
    docker image inspect debian:bookworm-slim >/dev/null 2>&1 && return
    if [ ! -f "$cache/bookworm.tar" ]; then
        echo "making debian:bookworm-slim"
        mkdir -p "$cache"
        debootstrap --variant=minbase bookworm "$work/bookworm" >"$work/base.log"
        tar --create --directory "$work/bookworm" --file "$cache/bookworm.tar.$$" .
        mv "$cache/bookworm.tar.$$" "$cache/bookworm.tar"
    fi
    docker import "$cache/bookworm.tar" debian:bookworm-slim >/dev/null
}

# As the public image has it: the program at PATH, and nothing else that counts.
make_program_image() {
    local name=$1 program=$2 path=$3
    docker image inspect "$name" >/dev/null 2>&1 && return
    mkdir -p "$work/image"
    cp "$kubernetes/$program" "$work/image/"
    printf 'FROM debian:bookworm-slim\nCOPY %s %s\nENTRYPOINT ["%s"]\n' "$program" "$path" "$path" \
        >"$work/image/Dockerfile"
    docker build --quiet --tag "$name" "$work/image" >/dev/null
    rm -r "$work/image"
}

ready_nodes() {
    "$kubernetes/kubectl" --kubeconfig "$work/kubeconfig" --request-timeout 5s get nodes --no-headers \
        2>"$work/kubectl.log" | awk '$2 == "Ready"' | wc -l
}

wait_ready_nodes() {
    for _ in $(seq 240); do
        [ "$(ready_nodes)" != 3 ] || return 0
        sleep 0.5
    done
    cat "$work/kubectl.log" >&2
    docker logs --tail 20 orrery-kube-apiserver >&2
    return 1
}

client() {
    "$etcdctl" --cacert "$work/certs/ca.crt" --cert "$work/certs/etcdclient.crt" \
        --key "$work/certs/etcdclient.key" \
        --endpoints "${endpoints:-localhost:2379,localhost:22379,localhost:32379}" "$@"
}

# A write may be refused while a leader is elected; then it is sent again.
write() {
    for _ in $(seq 20); do
        client put "$1" "$2" >/dev/null 2>"$work/put.log" && return
        sleep 0.5
    done
    cat "$work/put.log" >&2
    return 1
}

wait_healthy() {
    for _ in $(seq 120); do
        state=$(docker inspect --format '{{.State.Health.Status}}' "$1")
        [ "$state" = healthy ] && return
        sleep 0.5
    done
    echo "$1 is $state" >&2
    return 1
}

expect() {
    if [ "$2" != "$3" ]; then
        echo "$1: got '$2', want '$3'" >&2
        return 1
    fi
}

trap finish EXIT
if ! docker info >/dev/null 2>&1; then
    install_engine
    start_engine
fi
make_base_image
mkdir -p ready
# Most of it is debug information, which no container needs.
strip --strip-debug -o ready/orrery "$binary" 2>/dev/null || cp "$binary" ready/orrery

if [ -n "$kubernetes" ]; then
    make_program_image registry.k8s.io/kube-apiserver:v1.37.1 kube-apiserver /usr/local/bin/kube-apiserver
    make_program_image registry.k8s.io/kubectl:v1.37.1 kubectl /bin/kubectl
    make_program_image registry.k8s.io/kwok/kwok:v0.8.0 kwok /usr/local/bin/kwok
    export COMPOSE_PROFILES=kubernetes
fi

started=$SECONDS
compose up --detach --build >"$work/up.log" 2>&1 || { cat "$work/up.log"; exit 1; }
for member in 1 2 3; do wait_healthy orrery-m$member; done
if [ -n "$kubernetes" ]; then
    docker cp orrery-kube-apiserver:/kubernetes/kubeconfig "$work/kubeconfig"
    wait_ready_nodes
    first_ready=$((SECONDS - started))
fi
docker cp orrery-m1:/certs "$work/certs"

# One after another, so that the leader is among them.
for member in 1 2 3; do
    write "before/$member" 1
    docker kill orrery-m$member >/dev/null
    for at in $(seq 10); do write "during/$member-$at" "$at"; done
    docker start orrery-m$member >/dev/null
    wait_healthy orrery-m$member
done
for port in 2379 22379 32379; do
    for kind in before:3 during:30; do
        count=$(endpoints=localhost:$port client get --prefix "${kind%:*}/" --count-only --write-out=fields \
            | sed -n 's/^"Count" : //p')
        expect "keys written ${kind%:*} a member was killed, at $port" "$count" "${kind#*:}"
    done
done
client endpoint health --cluster

echo "without a certificate:"
if "$etcdctl" --cacert "$work/certs/ca.crt" --endpoints localhost:2379 --command-timeout 2s \
    get before >"$work/refused.log" 2>&1; then
    echo "a client without a certificate is served" >&2
    exit 1
fi
tail -n 1 "$work/refused.log"
echo "compose: each container was killed once and nothing was lost"

[ -n "$kubernetes" ] || exit 0
echo "kubernetes: three nodes were ready within $first_ready s of the start"
kubectl=("$kubernetes/kubectl" --kubeconfig "$work/kubeconfig" --request-timeout 30s)
"${kubectl[@]}" get nodes
for member in 1 2 3; do
    "${kubectl[@]}" create configmap "before-$member" --from-literal=a=b >/dev/null
    docker kill orrery-m$member >/dev/null
    "${kubectl[@]}" create configmap "during-$member" --from-literal=a=b >/dev/null
    docker start orrery-m$member >/dev/null
    wait_healthy orrery-m$member
done
count=$("${kubectl[@]}" get configmaps --no-headers | grep -c '^before-\|^during-')
expect "objects made while members were killed" "$count" 6
wait_ready_nodes
docker images --format '{{.Repository}}: {{.Size}} as made here' | sort
docker stats --no-stream --format '{{.Name}} uses {{.MemUsage}}' | sort
echo "kubernetes: each member was killed once, nothing was lost and all nodes are ready"
