#!/bin/bash
# Makes deb and rpm packages for amd64 and arm64 from this checkout. Equal sources
# give equal bytes: versions, times and owners come from the sources alone.
#
#   packages.sh build BUILD              programs for both architectures, in BUILD/amd64 and BUILD/arm64
#   packages.sh stage BUILD              what `make build` has made, as BUILD/amd64
#   packages.sh pack BUILD OUT VERSION [ARCH...]    packages of BUILD, in OUT;
#       of all names and formats, or of those in the variables NAMES and FORMATS;
#       with RPM_LEVEL=1 rpms are made in a tenth of the time and are a sixth larger
#
# It runs on amd64. Needed beside what building needs: packaging/deps.sh packages.
set -euo pipefail
cd "$(dirname "$0")/.."
export CGO_ENABLED=0 LC_ALL=C TZ=UTC
umask 022
# 2.46 and newer do not build everywhere: a module of theirs is not on the proxy.
nfpm=github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.0

# The time of the commit; of sources without a history, a fixed one.
epoch() { git -c safe.directory='*' log -1 --format=%ct 2>/dev/null || echo 1767225600; }
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(epoch)}

build() { # BUILD
  local build=$1 arch
  mkdir -p "$build/amd64" "$build/arm64"
  build=$(cd "$build" && pwd)
  for arch in amd64 arm64; do
    GOARCH=$arch go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=${VERSION:-$(cat VERSION)}" -o "$build/$arch/sally" ./cmd/sally
  done
  make --no-print-directory -s -C shim OUT="$build/c/amd64" all
  HOST_CC=cc sh shim/test/stub-libpam.sh aarch64-linux-gnu-gcc "$build/c/arm64/libpam"
  make --no-print-directory -s -C shim CC=aarch64-linux-gnu-gcc OUT="$build/c/arm64" PAMDEV="-I$build/c/arm64/libpam/include -L$build/c/arm64/libpam" all
  for arch in amd64 arm64; do
    install -m 0755 "$build/c/$arch"/{libnss_sallyport.so.2,pam_sallyport.so,sallyport-principals} "$build/$arch/"
    texts "$build" $arch
  done
  CGO_ENABLED=1 GOARCH=amd64 signer "$build/amd64"
  CGO_ENABLED=1 GOARCH=arm64 CC=aarch64-linux-gnu-gcc signer "$build/arm64"
}

# signer is the one program with cgo: it loads a token's library.
signer() { # FOLDER
  go build -tags pkcs11 -trimpath -buildvcs=false -ldflags "-s -w -X main.version=${VERSION:-$(cat VERSION)}" -o "$1/sally-signer" ./cmd/sally-signer
}

stage() { # BUILD
  mkdir -p "$1/amd64"
  install -m 0755 out/sally out/sally-signer shim/out/{libnss_sallyport.so.2,pam_sallyport.so,sallyport-principals} "$1/amd64/"
  texts "$1" amd64
}

# texts makes what is the same for both architectures.
texts() { # BUILD ARCH
  "$1/amd64/sally" completion bash >"$1/$2/sally.bash"
  manual "$1/amd64/sally" | gzip -9n >"$1/$2/sally.1"
  [ "$2" = amd64 ] || return 0
  checkmodule -M -m -c 17 -o "$1/sallyport.mod" packaging/selinux/sallyport.te >/dev/null
  semodule_package -o "$1/amd64/sallyport.pp" -m "$1/sallyport.mod" -f packaging/selinux/sallyport.fc
}

# manual is the program's own help as a manual page.
manual() { # SALLY
  printf '.TH SALLY 1 "" "Sallyport" "User commands"\n.SH NAME\nsally \\- sign in to Linux machines with a directory identity\n.SH SYNOPSIS\n.B sally\nGROUP COMMAND [OPTIONS]\n.SH DESCRIPTION\n.nf\n'
  "$1" --help | sed 's/\\/\\e/g; s/-/\\-/g; s/^\([.'"'"']\)/\\\&\1/'
  printf '.fi\n.SH SEE ALSO\nEach command explains itself:\n.B sally\nCOMMAND\n.B \\-\\-help\n'
}

# once fetches and builds the packager.
once() {
  local at=${SALLY_CACHE:-/var/cache/sallyport}/tools/${nfpm##*@}
  if [ ! -x "$at/nfpm" ]; then
    mkdir -p "$at"
    GOFLAGS=-trimpath GOBIN=$at.new go install "$nfpm" && mv -f "$at.new/nfpm" "$at/nfpm"
  fi
  echo "$at/nfpm"
}

pack() { # BUILD OUT VERSION [ARCH...]
  local build=$1 out=$2 version=$3 arch triplet name tool config
  shift 3
  [ $# -gt 0 ] || set -- amd64 arm64
  [[ $version =~ ^[0-9][0-9A-Za-z.+~]*$ ]] || { echo "the version $version is none that both deb and rpm take" >&2; exit 1; }
  tool=$(once)
  mkdir -p "$out"
  config=$(mktemp -d)
  trap "rm -rf '$config'" EXIT
  for arch; do
    case $arch in
    amd64) triplet=x86_64-linux-gnu ;;
    arm64) triplet=aarch64-linux-gnu ;;
    *) echo "packages are made for amd64 and arm64, not for $arch" >&2; exit 1 ;;
    esac
    for name in ${NAMES:-sallyport sallyport-agent sallyport-signer sallyport-selinux}; do
      [ $name != sallyport-selinux ] || [ $arch = amd64 ] || continue # one for all
      sed -e "s|@ARCH@|$arch|; s|@VERSION@|$version|g; s|@TRIPLET@|$triplet|g; s|@BUILD@|$build/$arch|g" \
        -e "s|compression: gzip\$|compression: gzip${RPM_LEVEL:+:$RPM_LEVEL}|" \
        -e "s|@MTIME@|$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)|" packaging/nfpm/$name.yaml >"$config/$name.yaml"
      for format in ${FORMATS:-deb rpm}; do
        "$tool" package --config "$config/$name.yaml" --packager $format --target "$out/" >/dev/null
      done
    done
  done
}

case "${1:-}" in
build) build "$2" ;;
stage) stage "$2" ;;
pack) shift; pack "$@" ;;
*) echo "usage: packages.sh build BUILD | stage BUILD | pack BUILD OUT VERSION [ARCH...]" >&2; exit 2 ;;
esac
