#!/bin/bash
# Proves the README's first lines: a minimal Debian 12 root filesystem with
# nothing but Go in it, `apt-get install -y make git`, a clone of this commit,
# empty caches, `make demo`, one login, `make demo-stop`. Nothing installed by
# hand on this computer can help, because none of it is visible there.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "fresh: run as root" >&2; exit 1; }
top=$PWD
base=$(mktemp -d /var/tmp/sallyport-fresh.XXXXXX)
trap 'rm -rf --one-file-system "$base"' EXIT
root=$base/root
goroot=$(go env GOROOT)

echo "fresh: making a minimal root filesystem"
mmdebstrap --quiet --mode=root --variant=minbase bookworm "$root" ${SALLY_MIRROR:-}
mkdir -p "$root/usr/local/go" "$root/src"
cp --reflink=auto -a "$goroot/." "$root/usr/local/go/"
cp /etc/resolv.conf "$root/etc/resolv.conf"
# A computer behind a proxy of its own trust has it in these places; the fresh
# system needs them to reach packages at all, as the person's computer would.
if [ -n "${SSL_CERT_FILE:-}" ] && [ -f "$SSL_CERT_FILE" ]; then
  install -D -m 0644 "$SSL_CERT_FILE" "$root$SSL_CERT_FILE"
fi
git clone -q --bare "$top" "$root/src/sallyport.git"

cat >"$root/src/try.sh" <<'TRY'
set -euo pipefail
export HOME=/root PATH=/usr/local/go/bin:/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive
mount -t proc proc /proc
mount -t sysfs sys /sys 2>/dev/null || mount --rbind /oldsys /sys 2>/dev/null || true
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
apt-get update -q >/dev/null
apt-get install -q -y make git >/dev/null
git clone -q /src/sallyport.git /root/sallyport
cd /root/sallyport
time make demo
. /var/lib/sallyport-demo/env
[ "$(sally ssh vm -n myVM -g AzureADLinuxVM -- sudo whoami)" = root ]
make demo-stop
[ ! -e /var/lib/sallyport-demo ]
if pgrep -x sally; then echo "fresh: a process is left"; exit 1; fi
echo "fresh: the demo ran and left nothing"
TRY
# Private mount and process namespaces; the network stays, for packages. The
# new /dev holds what a container would have.
unshare --mount --pid --fork --kill-child --propagation private bash -euc '
  root=$1
  mount --bind "$root" "$root"
  mount -t tmpfs -o mode=755 dev "$root/dev"
  for n in null zero full random urandom tty; do : >"$root/dev/$n"; mount --bind "/dev/$n" "$root/dev/$n"; done
  mkdir -p "$root/dev/pts" "$root/dev/shm" "$root/dev/net"
  mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
  ln -s pts/ptmx "$root/dev/ptmx"; ln -s /proc/self/fd "$root/dev/fd"
  mount -t tmpfs shm "$root/dev/shm"
  exec chroot "$root" /usr/bin/env -i ${SSL_CERT_FILE:+SSL_CERT_FILE="$SSL_CERT_FILE"} /bin/bash /src/try.sh
' bash "$root"
