#!/bin/bash
# Installs what building and the demo need, on Debian 12 as root; with the word
# "tests" also what the tests need, with "packages" what `make packages` needs.
# Does nothing, quickly, where everything is there.
set -euo pipefail
packages=(gcc libc6-dev libpam0g-dev make mmdebstrap systemd-container iproute2 openssh-client strace util-linux ca-certificates binutils procps)
[ "${1:-}" != tests ] || packages+=(git python3-venv softhsm2 postgresql-15 rsyslog clang clang-tools libclang-rt-14-dev qemu-user) # what only `make test` needs
# What makes packages for the other architecture, and the policy module.
case "${1:-}" in tests | packages) packages+=(gcc-aarch64-linux-gnu libc6-dev-arm64-cross checkpolicy semodule-utils) ;; esac
# What reads packages and repositories as the systems do that install them.
[ "${1:-}" != tests ] || packages+=(rpm createrepo-c dnf dnf-plugins-core gpgv sqv)
# The ssh clients that people use.
[ "${1:-}" != tests ] || packages+=(rsync putty-tools ansible-core python3-paramiko python3-asyncssh)
# Debian's Azure CLI, and the browser in which people sign in.
[ "${1:-}" != tests ] || packages+=(azure-cli chromium)
# Node.js and its package manager, for the SDKs that are made for it; other builds than Debian's bring both in one.
[ "${1:-}" != tests ] || { command -v node >/dev/null || packages+=(nodejs); command -v npm >/dev/null || packages+=(npm); }
missing=()
for p in "${packages[@]}"; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing+=("$p")
done
if [ ${#missing[@]} -gt 0 ]; then
  [ "$(id -u)" = 0 ] || { echo "these Debian packages are missing: ${missing[*]}; run as root: apt-get install -y ${missing[*]}" >&2; exit 1; }
  echo "installing: ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  # The tests start PostgreSQL servers of their own; none is to run beside them.
  if ! command -v pg_createcluster >/dev/null; then
    install -d /etc/postgresql-common/createcluster.d
    echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.d/sallyport.conf
  fi
  if ! out=$(apt-get update -q 2>&1 && apt-get install -q -y --no-install-recommends "${missing[@]}" 2>&1); then
    echo "$out" >&2
    echo "apt-get could not install them, for the reason above; is the network there?" >&2
    exit 1
  fi
fi
command -v go >/dev/null || { echo "Go 1.26 or newer is needed and no 'go' is on the PATH" >&2; exit 1; }
have=$(go env GOVERSION | sed 's/^go//')
[ "$(printf '%s\n1.26\n' "$have" | sort -V | head -1)" = 1.26 ] || { echo "Go 1.26 or newer is needed; this is $have" >&2; exit 1; }
