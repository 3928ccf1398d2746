#!/bin/sh
# Installs the Azure CLI of requirements.txt into a virtual environment in the
# cache, once, and prints the folder. Safe to run by several at once.
#
#   venv.sh CACHE_DIR  ->  CACHE_DIR/tools/azure-cli-<hash>
set -eu
cache=$1
wanted=$(dirname "$(readlink -f "$0")")/requirements.txt
hash=$(sha256sum "$wanted" | cut -c1-12)
folder=$cache/tools/azure-cli-$hash
mkdir -p "$cache/tools"
exec 9>"$cache/tools/azure-cli.lock"
flock 9
if [ ! -e "$folder/.whole" ]; then
  rm -rf "$folder"
  # Debian's own Python: the hashes are those of its version's files.
  /usr/bin/python3 -m venv "$folder"
  "$folder/bin/pip" install --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: -r "$wanted" >&2
  touch "$folder/.whole"
fi
echo "$folder"
