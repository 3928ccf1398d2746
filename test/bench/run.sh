#!/bin/bash
# Measures the bars of docs/performance.md side by side in one run, as root.
#   test/bench/run.sh [-only names,rbac,...] [-rounds N] [-duration 10s]
# step-ca is built from the Go module proxy into the cache, once. The results
# are in out/bench/.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ "$(id -u)" = 0 ] || { echo "bench: run as root: lab machines are made of namespaces and mounts" >&2; exit 1; }
cache=${SALLY_CACHE:-/var/cache/sallyport}
version=v0.30.2
stepca=$cache/bench/step-ca-$version
for file in out/sally shim/out/libnss_sallyport.so.2; do
  [ -f "$file" ] || { echo "bench: $file is missing; run: make build" >&2; exit 1; }
done
if [ ! -x "$stepca" ]; then
  echo "building step-ca $version (once, some minutes)"
  tmp=$(mktemp -d "${TMPDIR:-/tmp}/sallyport-step-ca.XXXXXX")
  trap 'rm -rf "$tmp"' EXIT
  # CGO_ENABLED=0 leaves out smart cards; nothing that is measured needs them.
  (cd "$tmp" && GOBIN=$tmp CGO_ENABLED=0 nice go install -buildvcs=false "github.com/smallstep/certificates/cmd/step-ca@$version")
  install -D -m 0755 "$tmp/step-ca" "$stepca"
  rm -rf "$tmp"
  trap - EXIT
fi
mkdir -p out/bench
go build -o out/bench/bench ./test/bench
exec out/bench/bench -cache "$cache" -step-ca "$stepca" "$@"
