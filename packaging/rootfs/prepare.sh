#!/bin/sh
# Prepares the root filesystem that lab machines of one Debian release are
# overlays of, and prints its path. Either back end of the lab runs it.
#
#   prepare.sh CACHE_DIR [SUITE]  ->  CACHE_DIR/rootfs-<suite>-<hash>/
#
# SUITE is bookworm (Debian 12), bullseye (11) or trixie (13); without it,
# bookworm. The hash covers this script and the package list, so a changed recipe
# makes a new tree and never alters one that machines stand on. Safe to run at
# any time, by several people and for several suites at once: a lock for each
# suite, a temporary directory, one rename. Downloads stay in CACHE_DIR.
# SALLY_MIRROR names another Debian mirror.
#
# The tree holds no secret and nothing of this computer: no host key, no
# resolv.conf, no machine-id, no password. Nothing is started in it.
set -eu

packages=openssh-server,openssh-client,sudo,libpam-modules,libpam-runtime,login,passwd,procps,iproute2,netcat-openbsd,pamtester,strace,ca-certificates,rsync
packages=$packages,systemd,systemd-sysv,dbus,libpam-systemd,cron,at,libnss-extrausers,faketime
mirror=${SALLY_MIRROR:-} # empty: mmdebstrap's own choice

fail() { echo "prepare.sh: $*" >&2; exit 1; }

[ $# -eq 1 ] || [ $# -eq 2 ] || fail "usage: prepare.sh CACHE_DIR [SUITE]"
suite=${2:-bookworm}
case $suite in
bookworm) archives=apt/archives ;;
bullseye | trixie) archives=apt-$suite/archives ;;
*) fail "the suite $suite is none of bullseye, bookworm, trixie" ;;
esac
[ "$(id -u)" = 0 ] || fail "must run as root: it makes a tree whose files belong to root"
for tool in mmdebstrap flock sha256sum; do
	command -v "$tool" >/dev/null || fail "$tool is missing; run: apt-get install -y mmdebstrap util-linux coreutils"
done

umask 022
mkdir -p "$1/$archives/partial" || fail "the cache $1 cannot be written"
cache=$(cd "$1" && pwd -P)
case $cache in *[:,\\]*) fail "the path $cache holds ':', ',' or '\\', which overlayfs options cannot carry" ;; esac

hash=$({ cat "$0"; dpkg --print-architecture; echo "$mirror"; } | sha256sum | cut -c1-12)
out=$cache/rootfs-$suite-$hash

exec 9>"$cache/prepare-$suite.lock"
flock 9
if [ -f "$out/etc/sallyport-rootfs" ]; then
	echo "$out"
	exit 0
fi

rm -rf --one-file-system "$cache/.rootfs-$suite".* # of a run that was killed
tmp=$(mktemp -d "$cache/.rootfs-$suite.XXXXXX")
trap 'rm -rf --one-file-system "$tmp"' EXIT
trap 'exit 1' HUP INT TERM
tree=$tmp/tree

# Runs with $1 = the tree when all packages are in it. Below, policy-rc.d keeps
# packages from starting services, and the copies fill and use the download cache.
cat >"$tmp/finish" <<'HOOK'
set -eu
root=$1
chroot "$root" useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin sallyport-agent
chroot "$root" useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin sallyport-ssh
rm -f "$root"/etc/ssh/ssh_host_* "$root"/etc/resolv.conf "$root"/etc/hostname "$root"/etc/machine-id "$root"/var/lib/dbus/machine-id
rm -f "$root"/usr/sbin/policy-rc.d "$root"/etc/passwd- "$root"/etc/shadow- "$root"/etc/group- "$root"/etc/gshadow-
: >"$root/etc/resolv.conf"
: >"$root/etc/machine-id"
rm -rf "$root"/var/log/*
# /tmp, /run and the package lists are mmdebstrap's to empty: its configuration
# of apt lies in that /tmp, and without it its last apt-get would clean the
# computer's own lists and cache.
install -d -m 0755 "$root/var/lib/sallyport"
# The lab binds its own program over this file, so that a machine always runs
# the build that started it.
install -m 0755 /dev/null "$root/usr/bin/sally"
HOOK

mmdebstrap --quiet --mode=root --variant=minbase --include="$packages" \
	--aptopt='APT::Install-Recommends "false"' \
	--aptopt='Acquire::Languages "none"' \
	--dpkgopt='path-exclude=/usr/share/man/*' \
	--dpkgopt='path-exclude=/usr/share/locale/*' \
	--dpkgopt='path-exclude=/usr/share/doc/*' \
	--dpkgopt='path-include=/usr/share/doc/*/copyright' \
	--setup-hook='mkdir -p "$1/var/cache/apt/archives" "$1/usr/sbin" && printf "#!/bin/sh\nexit 101\n" >"$1/usr/sbin/policy-rc.d" && chmod 755 "$1/usr/sbin/policy-rc.d"' \
	--setup-hook="find '$cache/$archives' -name '*.deb' -exec cp -t \"\$1/var/cache/apt/archives\" {} +" \
	--skip=download/empty --skip=essential/unlink \
	--customize-hook="find \"\$1/var/cache/apt/archives\" -name '*.deb' -exec cp -nt '$cache/$archives' {} +" \
	--customize-hook="sh '$tmp/finish' \"\$1\"" \
	"$suite" "$tree" ${mirror:+"$mirror"} >&2 || fail "mmdebstrap could not make the tree; its messages are above. It needs a Debian mirror: is the network there? SALLY_MIRROR names another one"

echo "$hash" >"$tree/etc/sallyport-rootfs"
chmod 0755 "$tree"
sync -f "$tree"
rm -rf --one-file-system "$out"
mv -T "$tree" "$out"
echo "$out"
