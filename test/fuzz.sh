#!/bin/bash
# Every Go fuzz target for FUZZTIME each, FUZZJOBS at a time, one processor per
# target and below everything else that runs here. A target that finds
# something leaves its input in the package's testdata/fuzz, to be committed
# with the repair. FUZZ is an extended pattern that picks targets by
# "directory name". Inputs are made smaller a hundred times at most: go test's own
# minute for each left FuzzSnapshot six inputs in a minute, and not 40,000.
set -uo pipefail
cd "$(dirname "$0")/.."
export GOMAXPROCS=1 FUZZTIME="${FUZZTIME:-60s}"
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
export logs

one() { # directory, target
  local log="$logs/${1//\//_}_$2" last
  if nice -n 19 go test -run '^$' -fuzz "^$2\$" -fuzztime "$FUZZTIME" -fuzzminimizetime 100x "$1" </dev/null >"$log" 2>&1; then
    last=$(grep -oE 'execs: [0-9]+' "$log" | tail -1)
    echo "ok      $1 $2 ${last:-no progress line}"
  else
    echo "FAILED  $1 $2"
    tail -n 60 "$log"
    : >"$logs/.failed.$2"
  fi
}
export -f one

targets=$(grep -rE '^func Fuzz[A-Za-z0-9_]+\(' --include='*_test.go' . |
  sed -nE 's#^(.*)/[^/]*_test\.go:func (Fuzz[A-Za-z0-9_]+)\(.*#\1 \2#p' | sort -u | grep -E "${FUZZ:-.}")
[ -n "$targets" ] || { echo "fuzz: no target matches ${FUZZ:-.}" >&2; exit 2; }
xargs -P "${FUZZJOBS:-2}" -L 1 bash -c 'one "$0" "$1"' <<<"$targets"
failed=$(find "$logs" -name '.failed.*' | wc -l)
echo "$(wc -l <<<"$targets") targets for $FUZZTIME each, $failed failed"
[ "$failed" -eq 0 ]
