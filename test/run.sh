#!/bin/bash
# Runs the test suites, prints each one's time and the slowest tests, and fails
# unless the tests that skipped are exactly those of test/skips.txt and, of `all`,
# each sentence of docs/troubleshooting.md was heard from a program.
#
# `all` runs its suites in lanes, side by side. What has machines and waits for
# them comes first at the processors; what only computes takes the rest (nice).
set -uo pipefail
cd "$(dirname "$0")/.."
export CGO_ENABLED=0 # test programs run inside older systems, too
# As `make build` does: what is compiled then serves both, and every checkout.
case " ${GOFLAGS:-} " in *" -trimpath "*) ;; *) export GOFLAGS="${GOFLAGS:+$GOFLAGS }-trimpath" ;; esac
logs=$(mktemp -d)
lanes=() wanted=()
# Each lane is a process group of its own, which is told when this one ends.
finish() { for lane in "${lanes[@]}"; do kill -TERM -- "-$lane" 2>/dev/null; done; wait; rm -rf "$logs"; }
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# failures prints what each failed test said, and what belongs to no test. Tests
# that run side by side take turns in the log.
failures() {
  awk '/^said: / { next }
       /^=== (RUN|CONT|NAME|PAUSE) / { now = $3; sub(/\/.*/, "", now); if ($3 != now && $2 != "PAUSE") said[now] = said[now] $0 "\n"; next }
       /^--- FAIL/ { printf "%s%s\n", said[$3], $0; delete said[$3]; now = ""; next }
       /^--- (PASS|SKIP)/ { delete said[$3]; now = ""; next }
       /^ +--- (PASS|SKIP)/ || /^(=== |PASS$|\?|ok )/ { next }
       now != "" { said[now] = said[now] $0 "\n"; next }
       { print }
       END { for (test in said) printf "=== not ended: %s\n%s", test, said[test] }' "$1"
}

# reasons prints what the failed tests of a log said themselves, the first lines of
# each message: the end of a long run is what people read first.
reasons() {
  awk 'NR == FNR { if ($1 == "---" && $2 == "FAIL:") bad[$3] = 1; next }
       /^=== (RUN|CONT|NAME) / { now = $3; more = 0; next }
       /^ *--- |^=== / { now = ""; more = 0; next }
       /^panic: |DATA RACE/ || now in bad && /^ +[A-Za-z0-9_]+\.go:[0-9]+: / { print substr($0, 1, 400); more = 6; next }
       now in bad && /^        / && more-- > 0 { print substr($0, 1, 400) }' "$1" "$1" | tail -n 40
}

# suite runs a command; only when it has ended, and all at once, its result is shown.
suite() { # name, command...
  local name=$1 begin=$SECONDS end=passed TIMEFORMAT='%U %S'; shift
  { time "$@" >"$logs/$name" 2>&1 </dev/null || end=FAILED; } 2>"$logs/.$name.cpu"
  {
    flock 9
    echo "$name $end $((SECONDS - begin)) $(awk '{ printf "%d", $1 + $2 }' "$logs/.$name.cpu")" >>"$logs/.suites"
    echo "== $name"
    if [ $end = passed ]; then
      printf '   passed in %d s\n' $((SECONDS - begin))
    else
      failures "$logs/$name" | tail -n "${TAIL:-300}"
      printf '   FAILED after %d s\n' $((SECONDS - begin))
    fi
  } 9>"$logs/.turn"
}

# program builds a package's tests once and runs a part of them where it lies.
program() { # package, words of go test's program...
  local package=$1 file=$logs/.${1//\//_}; shift
  (flock 9; [ -e "$file" ] || go test -c -vet=off -ldflags='-s -w' -tags e2e -o "$file" "./$package") 9>"$file.turn" || return
  (cd "$package" && exec "$file" -test.v -test.timeout 30m "$@")
}

lean=(-vet=off "-ldflags=-s -w") # vet is a suite of its own, and nobody debugs these programs
# What is said in these tests is written into their log (internal/fault).
unit() { suite unit go test -tags heard -v -timeout 30m "${lean[@]}" ./...; }
# SQLite is C turned into Go: watched, it takes most of the time, and nothing in it is ours.
race() { suite race env CGO_ENABLED=1 go test -race -timeout 30m "${lean[@]}" '-gcflags=modernc.org/...=-race=false' ./internal/store ./internal/httpd/... ./internal/agent/... ./internal/machine/... ./internal/resource ./internal/resource/types ./internal/directory ./internal/rbac ./internal/conditional ./internal/oauth/... ./internal/signin ./internal/collector ./internal/keystore/sshagent ./internal/cli/sshagent; }
c() { suite c make --no-print-directory -j2 -C shim test scan; }
vet() { suite vet bash -c 'out=$(gofmt -l cmd internal test); [ -z "$out" ] || { echo "gofmt: $out"; exit 1; }; go vet -tags e2e,mutations ./... && go vet -tags heard,judge ./internal/fault ./internal/handbooktest && CGO_ENABLED=1 go vet -tags pkcs11 ./internal/signer/... ./cmd/sally-signer'; }
hsm() { suite hsm env CGO_ENABLED=1 go test -race "${lean[@]}" -tags pkcs11,heard -v ./internal/signer/... ./internal/keystore/sshagent; }
postgres() { suite postgres go test -v -count=1 -timeout 60m "${lean[@]}" -tags e2e,heard ./test/postgres; }
mutations() { suite mutations go test -v -count=1 -timeout 60m -parallel 2 -tags mutations ./test/mutations; }
fresh() { suite fresh test/fresh.sh; }

# The end-to-end tests, in parts that have a server and a lab each.
alone='^Test(Authorities|Backup|Offline|Packages|Replicas|Restore|Rotate|Signer)' # with worlds of their own, in which they wait
each='^Test(Clients|Drift|Host_|Identity|Live|Sandbox|System)' # on machines of each system
matrix() { suite matrix program test/e2e -test.parallel 3 -test.run '^TestMatrix'; }
worlds() { suite worlds program test/e2e -test.parallel 4 -test.run "$alone"; }
systems() { suite systems program test/e2e -test.parallel 3 -test.run "$each"; }
machines() { suite machines program test/e2e -test.skip "^TestMatrix|$alone|$each"; }
wiring() { suite wiring program test/e2e/wiring; }
azure() { suite azure program test/az -test.parallel 3; }
operations() { suite operations program test/operations; }
lab() { suite lab go test -v -count=1 -timeout 60m "${lean[@]}" -tags e2e ./internal/lab/...; }

# lane runs suites one after another, beside the other lanes.
lane() { # nice, suites...
  local nice=$1; shift
  wanted+=("$@")
  set -m
  (
    [ "$nice" = 0 ] || renice -n "$nice" $BASHPID >/dev/null
    for one; do "$one"; done
  ) &
  lanes+=($!)
  set +m
}
# The matrix holds logins to seconds, so no other machines work beside it.
e2e_lanes() {
  lane 0 matrix
  wait "${lanes[-1]}"
  lane 0 systems azure
  lane 0 worlds operations
  lane 0 machines wiring lab
}

case "${1:-all}" in
  all) lane 5 vet unit race; lane 5 fresh mutations postgres c hsm; e2e_lanes ;;
  unit) lane 0 vet unit hsm ;;
  c) lane 0 c ;;
  mutations) lane 0 mutations ;;
  e2e) lane 5 postgres; e2e_lanes ;;
  fresh) lane 0 fresh ;;
  *) echo "usage: test/run.sh all|unit|c|mutations|e2e|fresh" >&2; exit 2 ;;
esac
wait
lanes=()

touch "$logs/.suites"
failed=()
for one in "${wanted[@]}"; do
  grep -q "^$one passed " "$logs/.suites" || failed+=("$one")
done
cat "$logs"/* 2>/dev/null | grep -E '^ *--- SKIP' | sed -E 's/^ *--- SKIP: ([^ ]+).*/\1/' | sort -u >"$logs/.skips"
grep -vE '^(#|$)' test/skips.txt 2>/dev/null | awk '{print $1}' | sort -u >"$logs/.known"
new=$(comm -23 "$logs/.skips" "$logs/.known")
skipped=$(wc -l <"$logs/.skips")
if [ -n "$new" ]; then
  echo "skipped without a reason in test/skips.txt: $new"
  failed+=(skips)
fi
# Whether each sentence was heard is known only when everything has run, and passed.
# What a program says that lacks a guard is no proof.
if [ "${1:-all}" = all ] && [ ${#failed[@]} -eq 0 ]; then
  mapfile -t heard < <(find "$logs" -maxdepth 1 -type f ! -name '.*' ! -name mutations)
  go test -tags judge -count=1 -v -run TestPage_WasHeard ./internal/handbooktest -args "${heard[@]}" || failed+=(sentences)
fi
tests=$(cat "$logs"/* 2>/dev/null | grep -cE '^ *--- PASS')
bad=$(cat "$logs"/* 2>/dev/null | grep -cE '^ *--- FAIL')
echo
# A processor's time is that of processes that a suite has waited for: of a
# machine with systemd, say, only what its container's first process saw end.
echo "suites, by their time beside the others, with the processors' time:"
sort -k3 -rn "$logs/.suites" | awk '{ printf "  %5d s  %5d s  %s\n", $3, $4, $1; sum += $4 } END { printf "  %7s  %5d s  %d s on the clock\n", "", sum, '$SECONDS' }'
echo "the slowest tests:"
(cd "$logs" && grep -HE '^--- (PASS|FAIL): ' * | sed -E 's/^([^:]+):--- [A-Z]+: ([^ ]+) \(([0-9.]+)s\)$/\3 \1 \2/' | sort -rn | head -n 10 | awk '{ printf "  %7.1f s  %s: %s\n", $1, $2, $3 }')
echo
for one in "${failed[@]}"; do
  [ ! -e "$logs/$one" ] || { echo "what $one said:"; reasons "$logs/$one"; }
done
[ ${#failed[@]} -eq 0 ] || { echo "failed suites: ${failed[*]}"; [ "$bad" -gt 0 ] || bad=${#failed[@]}; }
echo "$tests passed, $bad failed, $skipped skipped"
[ ${#failed[@]} -eq 0 ]
