#!/bin/bash
# Makes what the API server of compose.yml and its clients need: certificates, the token of an
# administrator, and a kubeconfig for containers and one for the host. What is there is kept.
#
# usage: make-files.sh [DIRECTORY]   /certs by default
set -euo pipefail
cd "${1:-/certs}"
umask 077

# The certificate for peers, which an API server has no use for, is for service accounts: its key signs their tokens.
orrery certs --out . --host kube-apiserver,localhost,127.0.0.1
if [ ! -s tokens.csv ]; then
    token=$(od --address-radix=n --format=x1 --read-bytes=16 /dev/urandom | tr -d ' \n')
    echo "$token,admin,admin,system:masters" >tokens.csv
fi
token=$(cut -d, -f1 tokens.csv)

kubeconfig() {
    cat <<END
apiVersion: v1
kind: Config
clusters:
- name: orrery
  cluster:
    server: $1
    certificate-authority-data: $(base64 --wrap=0 ca.crt)
users:
- name: admin
  user:
    token: $token
contexts:
- name: orrery
  context: {cluster: orrery, user: admin}
current-context: orrery
END
}
kubeconfig https://kube-apiserver:6443 >kubeconfig.inside
kubeconfig https://localhost:6443 >kubeconfig
