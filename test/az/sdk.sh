#!/bin/sh
# Installs an official SDK's packages at pinned versions, each by its hash, into
# the cache, once, and prints the folder. Safe to run by several at once.
#
#   sdk.sh CACHE_DIR python VENV  ->  CACHE_DIR/tools/sdk-python-<hash>, for the
#                                     PYTHONPATH of VENV, which venv.sh made
#   sdk.sh CACHE_DIR node         ->  CACHE_DIR/tools/sdk-node-<hash>
set -eu
cache=$1 kind=$2
here=$(dirname "$(readlink -f "$0")")
case $kind in
  python) wanted=$here/pyclient/requirements.txt ;;
  node) wanted=$here/nodeclient/package-lock.json ;;
  *) echo "usage: sdk.sh CACHE_DIR python VENV | node" >&2; exit 2 ;;
esac
folder=$cache/tools/sdk-$kind-$(sha256sum "$wanted" | cut -c1-12)
mkdir -p "$cache/tools"
exec 9>"$cache/tools/sdk-$kind.lock"
flock 9
if [ ! -e "$folder/.whole" ]; then
  rm -rf "$folder"
  mkdir "$folder"
  if [ "$kind" = python ]; then
    "$3/bin/pip" install --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: --target "$folder" -r "$wanted" >&2
  else
    cp "$here/nodeclient/package.json" "$wanted" "$folder"
    # No script of a package runs: what the lock file names is all that comes.
    npm ci --prefix "$folder" --ignore-scripts --no-audit --no-fund --loglevel=error >&2
  fi
  touch "$folder/.whole"
fi
echo "$folder"
