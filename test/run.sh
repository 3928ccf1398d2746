#!/bin/bash
# Runs the test suites, prints each one's time, and fails unless the tests that
# skipped are exactly those of test/skips.txt.
set -uo pipefail
cd "$(dirname "$0")/.."
export CGO_ENABLED=0 # test programs run inside older systems, too
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
failed=()
passed=0

# failures prints what each failed test said, and what belongs to no test.
failures() {
  awk '/^=== RUN +[^\/]+$/ { said = $0 "\n"; test = 1; next }
       /^--- FAIL/ { printf "%s%s\n", said, $0; said = ""; test = 0; next }
       /^--- (PASS|SKIP)/ { said = ""; test = 0; next }
       /^(=== |PASS$|\?|ok )/ { next }
       test { said = said $0 "\n"; next }
       { print }
       END { if (test) printf "%s", said }' "$1"
}

suite() { # name, command...
  local name=$1 start=$SECONDS; shift
  echo "== $name"
  if "$@" >"$logs/$name" 2>&1; then
    passed=$((passed + 1))
    printf '   passed in %d s\n' $((SECONDS - start))
  else
    failed+=("$name")
    failures "$logs/$name" | tail -n "${TAIL:-300}"
    printf '   FAILED after %d s\n' $((SECONDS - start))
  fi
}

unit() { suite unit go test -v -shuffle=on ./...; }
race() { suite race env CGO_ENABLED=1 go test -race ./internal/store ./internal/httpd/... ./internal/agent/... ./internal/machine/... ./internal/resource/... ./internal/directory ./internal/rbac ./internal/oauth/... ./internal/signin ./internal/collector ./internal/keystore/sshagent ./internal/cli/sshagent; }
clibs() { suite c make --no-print-directory -j2 -C shim test scan; }
vet() { suite vet bash -c 'out=$(gofmt -l cmd internal test); [ -z "$out" ] || { echo "gofmt: $out"; exit 1; }; go vet ./... && go vet -tags e2e ./... && CGO_ENABLED=1 go vet -tags pkcs11 ./internal/signer/... ./cmd/sally-signer'; }
hsm() { suite hsm env CGO_ENABLED=1 go test -race -tags pkcs11 -v ./internal/signer/... ./internal/keystore/sshagent; }
mutations() { suite mutations go test -v -count=1 -timeout 15m -parallel 2 -tags mutations ./test/mutations; }
e2e() { suite e2e go test -v -count=1 -timeout 25m -tags e2e ./test/e2e/... ./test/operations/... ./internal/lab/...; }
fresh() { suite fresh test/fresh.sh; }

case "${1:-all}" in
  all) vet; clibs; unit; mutations; hsm; race; e2e; fresh ;;
  unit) vet; unit; hsm ;;
  c) clibs ;;
  mutations) mutations ;;
  e2e) e2e ;;
  fresh) fresh ;;
  *) echo "usage: test/run.sh all|unit|c|mutations|e2e|fresh" >&2; exit 2 ;;
esac

cat "$logs"/* 2>/dev/null | grep -E '^ *--- SKIP' | sed -E 's/^ *--- SKIP: ([^ ]+).*/\1/' | sort -u >"$logs/.skips"
grep -vE '^(#|$)' test/skips.txt 2>/dev/null | awk '{print $1}' | sort -u >"$logs/.known"
new=$(comm -23 "$logs/.skips" "$logs/.known")
skipped=$(wc -l <"$logs/.skips")
if [ -n "$new" ]; then
  echo "skipped without a reason in test/skips.txt: $new"
  failed+=(skips)
fi
tests=$(cat "$logs"/* 2>/dev/null | grep -cE '^ *--- PASS')
bad=$(cat "$logs"/* 2>/dev/null | grep -cE '^ *--- FAIL')
echo
[ ${#failed[@]} -eq 0 ] || { echo "failed suites: ${failed[*]}"; [ "$bad" -gt 0 ] || bad=${#failed[@]}; }
echo "$tests passed, $bad failed, $skipped skipped"
[ ${#failed[@]} -eq 0 ]
