#!/bin/sh
# Prepares the root filesystem of a whole computer with systemd as its first
# process, in which the steps of docs/operations.md run, and prints its path.
#
#   rootfs.sh CACHE_DIR  ->  CACHE_DIR/computer-bookworm-<hash>/
#
# The hash covers this script. PostgreSQL and Prometheus are there for the steps
# that need them; neither runs by itself. SALLY_MIRROR names another Debian
# mirror.
set -eu

suite=bookworm
packages=systemd,systemd-sysv,dbus,procps,iproute2,ca-certificates,curl,jq,openssl,openssh-client,util-linux,softhsm2,postgresql,prometheus
mirror=${SALLY_MIRROR:-} # empty: mmdebstrap's own choice

fail() { echo "rootfs.sh: $*" >&2; exit 1; }

[ $# -eq 1 ] || fail "usage: rootfs.sh CACHE_DIR"
[ "$(id -u)" = 0 ] || fail "must run as root: it makes a tree whose files belong to root"
for tool in mmdebstrap flock sha256sum; do
	command -v "$tool" >/dev/null || fail "$tool is missing; run: make deps"
done

umask 022
mkdir -p "$1/apt/archives/partial" || fail "the cache $1 cannot be written"
cache=$(cd "$1" && pwd -P)
case $cache in *[:,\\]*) fail "the path $cache holds ':', ',' or '\\', which overlayfs options cannot carry" ;; esac
hash=$({ cat "$0"; dpkg --print-architecture; echo "$mirror"; } | sha256sum | cut -c1-12)
out=$cache/computer-$suite-$hash

exec 9>"$cache/computer.lock"
flock 9
[ ! -f "$out/etc/sallyport-rootfs" ] || { echo "$out"; exit 0; }
rm -rf --one-file-system "$cache"/.computer.* # of a run that was killed
tmp=$(mktemp -d "$cache/.computer.XXXXXX")
trap 'rm -rf --one-file-system "$tmp"' EXIT
trap 'exit 1' HUP INT TERM
tree=$tmp/tree

cat >"$tmp/finish" <<'HOOK'
set -eu
root=$1
rm -f "$root"/etc/systemd/system/multi-user.target.wants/prometheus* "$root"/etc/ssh/ssh_host_* "$root"/etc/resolv.conf "$root"/etc/machine-id "$root"/var/lib/dbus/machine-id
rm -f "$root"/usr/sbin/policy-rc.d
: >"$root/etc/resolv.conf"
: >"$root/etc/machine-id"
echo computer >"$root/etc/hostname"
printf '127.0.0.1\tlocalhost computer login.corp.example\n' >"$root/etc/hosts"
chroot "$root" useradd --create-home --shell /bin/bash person
HOOK

mmdebstrap --quiet --mode=root --variant=minbase --include="$packages" \
	--aptopt='APT::Install-Recommends "false"' \
	--aptopt='Acquire::Languages "none"' \
	--dpkgopt='path-exclude=/usr/share/man/*' \
	--dpkgopt='path-exclude=/usr/share/locale/*' \
	--dpkgopt='path-exclude=/usr/share/doc/*' \
	--setup-hook='mkdir -p "$1/var/cache/apt/archives" "$1/usr/sbin" "$1/etc/postgresql-common" && printf "#!/bin/sh\nexit 101\n" >"$1/usr/sbin/policy-rc.d" && chmod 755 "$1/usr/sbin/policy-rc.d" && echo "create_main_cluster = false" >"$1/etc/postgresql-common/createcluster.conf"' \
	--setup-hook="find '$cache/apt/archives' -name '*.deb' -exec cp -t \"\$1/var/cache/apt/archives\" {} +" \
	--skip=download/empty --skip=essential/unlink \
	--customize-hook="find \"\$1/var/cache/apt/archives\" -name '*.deb' -exec cp -nt '$cache/apt/archives' {} +" \
	--customize-hook="sh '$tmp/finish' \"\$1\"" \
	"$suite" "$tree" ${mirror:+"$mirror"} >&2 || fail "mmdebstrap could not make the tree; its messages are above. It needs a Debian mirror: is the network there? SALLY_MIRROR names another one"

echo "$hash" >"$tree/etc/sallyport-rootfs"
chmod 0755 "$tree"
rm -rf --one-file-system "$out"
mv -T "$tree" "$out"
echo "$out"
