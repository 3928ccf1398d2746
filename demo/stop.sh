#!/bin/bash
# Ends what the demo started, by pid and start time, and removes its folder.
# The prepared root filesystem stays in the cache; with CACHE_TOO=1 it goes too.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
[ "$(id -u)" = 0 ] || fail "run it as root, as the demo was"
ended() { ! alive "$1"; }
for name in lab server; do
  if alive $name; then
    read -r pid _ <"$state/$name.pid"
    kill "$pid"
    waitfor 10 ended $name || kill -9 "$pid"
    echo "stopped the $name (pid $pid)"
  fi
done
if [ ! -e "$state" ]; then
  echo "nothing to remove: there is no $state"
else
  [ -f "$state/sally" ] || [ -d "$state/server" ] || fail "$state does not look like the demo's folder; it is left alone"
  rm -rf --one-file-system "$state"
  echo "removed $state"
fi
if [ "${CACHE_TOO:-}" = 1 ]; then
  rm -rf --one-file-system "$cache"
  echo "removed $cache"
fi
