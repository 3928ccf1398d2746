#!/bin/bash
# Proves the README's first lines: a minimal Debian 12 root filesystem with
# nothing but Go in it, `apt-get install -y make git`, a clone of this commit, no
# module, `make demo`, one login with sudo, `make demo-stop`. Nothing installed by
# hand on this computer can help, because none of it is visible there. Of this
# computer it has the compiler's cache, which saves time and stands for nothing
# that is missing: what is kept is found by the content of all that it was made
# from. SALLY_FRESH_COLD=1 leaves it out. Needs root, mmdebstrap, git, Go and the
# network.
#
# Everything happens in a pid and a mount namespace and in one folder. All of it
# goes when this script ends, in whatever way; only the folder outlives kill -9.
set -euo pipefail
self=$(readlink -f "$0")
cache=${SALLY_CACHE:-/var/cache/sallyport}/fresh-apt # downloaded packages, between runs

fail() { echo "fresh: $*" >&2; exit 1; }

# step TITLE COMMAND...: runs the command and shows its time; its output only
# when it fails.
step() {
  local title=$1 begin=$EPOCHREALTIME out; shift
  if ! out=$("$@" 2>&1 </dev/null); then
    printf 'fresh: %s: failed\n%s\n' "$title" "$out"
    exit 1
  fi
  awk -v t="$title" -v a="$begin" -v b="$EPOCHREALTIME" 'BEGIN { printf "fresh: %-48s %7.1f s\n", t, b - a }'
}

# outside: the folder, the namespaces, and their end.
outside() {
  [ "$(id -u)" = 0 ] || fail "run as root: it makes a root filesystem and namespaces"
  for tool in mmdebstrap git go unshare setpriv; do
    command -v $tool >/dev/null || fail "$tool is missing; run: make deps"
  done
  base=$(mktemp -d /var/tmp/sallyport-fresh.XXXXXX)
  namespace=
  trap cleanup EXIT
  trap 'exit 129' HUP; trap 'exit 130' INT; trap 'exit 143' TERM
  mkdir -p "$base/root" "$cache"
  # The checkout may belong to somebody else than root; git asks whether that is meant.
  printf '[safe]\n\tdirectory = *\n' >"$base/gitconfig"
  GIT_CONFIG_GLOBAL=$base/gitconfig step "clone HEAD" git clone -q --bare "$(dirname "$self")/.." "$base/sallyport.git"
  # The kernel ends unshare when we end, and the namespace's processes when unshare ends.
  setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child --propagation private "$self" inside "$base" &
  namespace=$!
  wait "$namespace" && namespace= || { namespace=; exit 1; }
}

cleanup() {
  trap '' HUP INT TERM
  if [ -n "$namespace" ]; then
    # Its first process takes all others along; unshare returns after the last.
    local first
    first=$(cat "/proc/$namespace/task/$namespace/children" 2>/dev/null) || true
    kill -KILL ${first:-"$namespace"} 2>/dev/null || true
    wait "$namespace" 2>/dev/null || true
  fi
  rm -rf --one-file-system "$base"
}

# inside: makes the root filesystem and enters it, so that no path leads back.
inside() {
  base=$1 root=$1/root goroot=$(go env GOROOT)
  mount -t proc proc /proc
  step "make a minimal Debian 12 root filesystem" mmdebstrap --quiet --mode=root --variant=minbase \
    --setup-hook='mkdir -p "$1/var/cache/apt/archives"' \
    --setup-hook="find '$cache' -name '*.deb' -exec cp -t \"\$1/var/cache/apt/archives\" {} +" \
    --skip=download/empty --skip=essential/unlink --skip=cleanup/apt/cache \
    bookworm "$root" ${SALLY_MIRROR:+"$SALLY_MIRROR"}
  chmod 0755 "$root"
  mount --bind "$root" "$root"
  cd "$root"
  mkdir -p usr/local/go src old
  mv "$base/sallyport.git" src/
  mount --bind "$goroot" usr/local/go
  mount -o remount,bind,ro usr/local/go
  local gocache=
  if [ -z "${SALLY_FRESH_COLD:-}" ]; then
    gocache=var/cache/go-build
    mkdir -p $gocache
    mount --bind "$(go env GOCACHE)" $gocache
  fi
  mkdir -p var/cache/fresh-apt
  mount --bind "$cache" var/cache/fresh-apt
  # What every installer and every container runtime sets up.
  cp --remove-destination "$(readlink -f /etc/resolv.conf)" etc/resolv.conf
  printf '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n127.0.1.1\tfresh\n' >etc/hosts
  local env=(PATH=/usr/local/go/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive
    GOTOOLCHAIN=local "GOPROXY=$(go env GOPROXY)" "GOSUMDB=$(go env GOSUMDB)" ${SALLY_MIRROR:+"SALLY_MIRROR=$SALLY_MIRROR"} "SALLY_DEMO_PORT=$(free_port)"
    ${gocache:+"GOCACHE=/$gocache"})
  for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
    [ -z "${!name:-}" ] || env+=("$name=${!name}")
  done
  # A computer behind a proxy of its own trust names it so; without it the fresh
  # system could not reach modules. Installing ca-certificates must not undo it.
  if [ -n "${SSL_CERT_FILE:-}" ] && [ -f "$SSL_CERT_FILE" ]; then
    install -m 0644 "$SSL_CERT_FILE" etc/fresh-ca.crt
    env+=(SSL_CERT_FILE=/etc/fresh-ca.crt)
  fi
  { echo 'set -euo pipefail'; declare -f fail step try; echo try; } >src/try.sh
  devices
  mount -t sysfs sys sys
  mount -t tmpfs -o mode=755 tmpfs run
  mount -t tmpfs -o mode=1777 tmpfs tmp
  mount -t proc proc proc
  pivot_root . old
  exec chroot . /usr/bin/env -i "${env[@]}" /bin/bash /src/try.sh
}

# devices: what a container has.
devices() {
  mount -t tmpfs -o mode=755 dev dev
  local name
  for name in null zero full random urandom tty; do
    : >dev/$name
    mount --bind /dev/$name dev/$name
  done
  mkdir dev/pts dev/shm
  mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
  mount -t tmpfs -o mode=1777 shm dev/shm
  ln -s pts/ptmx dev/ptmx
  ln -s /proc/self/fd dev/fd
}

# free_port: the demo's own, unless a demo runs on this computer.
free_port() {
  local port=8443
  while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 1)); done
  echo $port
}

# try: in the fresh system, what its owner types.
try() {
  umount -l /old
  rmdir /old
  cd /root
  packages() { apt-get update -q && apt-get install -q -y make git; }
  login() { [ "$(. /var/lib/sallyport-demo/env && sally ssh vm -n myVM -g AzureADLinuxVM -- sudo whoami)" = root ]; }
  # Read before anything ran, so that what the demo leaves behind shows.
  local mounts
  mounts=$(cat /proc/self/mountinfo)
  step "apt-get install -y make git" packages
  step "git clone" git clone -q /src/sallyport.git /root/sallyport
  cd /root/sallyport
  step "make demo" make demo
  step "one login with sudo" login
  step "make demo-stop" make demo-stop
  [ ! -e /var/lib/sallyport-demo ] || fail "make demo-stop left /var/lib/sallyport-demo"
  ! pgrep -l sally || fail "make demo-stop left processes"
  [ "$mounts" = "$(cat /proc/self/mountinfo)" ] || fail "the demo left mounts: $(cat /proc/self/mountinfo)"
  ! (exec 3<>"/dev/tcp/127.0.0.1/$SALLY_DEMO_PORT") 2>/dev/null || fail "the demo's port still answers"
  [ -z "$(git status --porcelain)" ] || fail "the demo changed the checkout: $(git status --porcelain)"
  ls /var/lib/apt/lists/*_Packages >/dev/null 2>&1 && ls /var/cache/apt/archives/*.deb >/dev/null 2>&1 || fail "the demo emptied apt's lists or cache"
  cp -n /var/cache/apt/archives/*.deb /var/cache/fresh-apt/
  echo "fresh: the demo ran, a person logged in, and nothing is left"
}

case "${1:-}" in
  "") outside ;;
  inside) inside "$2" ;;
  *) fail "usage: test/fresh.sh" ;;
esac
