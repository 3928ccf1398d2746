#!/bin/sh
# Makes the thin layer that lies over the prepared root filesystem: the C
# libraries of this checkout and the list of what a machine runs. Cheap, because
# these change often and the root filesystem does not. Prints the layer's path.
#
#   layer.sh ROOTFS SHIM_OUT CACHE_DIR  ->  CACHE_DIR/layer-<hash>/
#
# The files are laid down inert: nsswitch.conf, PAM and sshd stay as Debian made
# them until the extension wires them. The hash covers the content, so a layer
# that machines stand on never changes.
set -eu

fail() { echo "layer.sh: $*" >&2; exit 1; }

[ $# -eq 3 ] || fail "usage: layer.sh ROOTFS SHIM_OUT CACHE_DIR"
[ "$(id -u)" = 0 ] || fail "must run as root: it makes files that belong to root"
rootfs=$1 shims=$2
here=$(cd "$(dirname "$0")" && pwd -P)
for file in libnss_sallyport.so.2 pam_sallyport.so sallyport-principals; do
	[ -f "$shims/$file" ] || fail "$shims/$file is missing; run: make -C shim"
done
# Where /usr is not merged (Debian 11), libraries are found in /lib, and a PAM
# module anywhere else closes every login. Where it is, /lib is a link, which a
# folder of this layer would hide.
lib=usr/lib
[ -h "$rootfs/lib" ] || lib=lib
triplet=
for dir in "$rootfs/$lib"/*-linux-gnu*; do
	[ -d "$dir/security" ] && triplet=${dir##*/}
done
[ -n "$triplet" ] || fail "$rootfs holds no PAM modules; make it with prepare.sh"

umask 022
mkdir -p "$3"
cache=$(cd "$3" && pwd -P)
case $cache in *[:,\\]*) fail "the path $cache holds ':', ',' or '\\', which overlayfs options cannot carry" ;; esac

tmp=$(mktemp -d "$cache/.layer.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM
tree=$tmp/tree
install -d -m 0755 "$tree" "$tree/etc" "$tree/usr" "$tree/usr/libexec" "$tree/${lib%%/*}" "$tree/$lib" "$tree/$lib/$triplet" "$tree/$lib/$triplet/security"
install -m 0644 "$shims/libnss_sallyport.so.2" "$tree/$lib/$triplet/"
install -m 0644 "$shims/pam_sallyport.so" "$tree/$lib/$triplet/security/"
install -m 0755 "$shims/sallyport-principals" "$tree/usr/libexec/"
install -m 0644 "$here/sallyport-init.conf" "$tree/etc/"

# The same for systemd as a machine's first process. What Debian would start and
# no lab machine needs stays off: a login prompt without a terminal, and timers
# that look for a network.
units=$tree/usr/lib/systemd/system
own=$tree/etc/systemd/system
install -d -m 0755 "$tree/usr/lib" "$tree/usr/lib/systemd" "$units" "$tree/etc/systemd" "$own" "$own/multi-user.target.wants"
for unit in "$here/../systemd/sallyport-agent-root.service" "$here/../systemd/sallyport-agent.service" \
	"$here/sallyport-lab-join.service" "$here/sallyport-lab-hostkeys.service"; do
	install -m 0644 "$unit" "$units/"
	ln -s "/usr/lib/systemd/system/${unit##*/}" "$own/multi-user.target.wants/"
done
for unit in console-getty.service getty.target apt-daily.timer apt-daily-upgrade.timer systemd-networkd-wait-online.service; do
	ln -s /dev/null "$own/$unit"
done

hash=$(cd "$tree" && { find . -type f | LC_ALL=C sort | xargs sha256sum; find . -type l -printf '%p %l\n' | LC_ALL=C sort; } | sha256sum | cut -c1-12)
out=$cache/layer-$hash
# Two runs may make the same layer; the content is equal, the first one stays.
[ -d "$out" ] || mv -T "$tree" "$out" 2>/dev/null || [ -d "$out" ] || fail "cannot make $out"
echo "$out"
