#!/bin/bash
# gofmt, vet, go.mod, staticcheck, dead code and govulncheck, the tools at
# pinned versions. govulncheck needs its database from the network; where that
# cannot be reached it says so and the run goes on.
set -uo pipefail
cd "$(dirname "$0")/.."
staticcheck=honnef.co/go/tools/cmd/staticcheck@v0.7.0
deadcode=golang.org/x/tools/cmd/deadcode@v0.46.0
govulncheck=golang.org/x/vuln/cmd/govulncheck@v1.1.4
failed=0

check() { # name, command...
  local name=$1 out; shift
  if out=$("$@" 2>&1) && [ -z "$out" ]; then
    echo "ok      $name"
  else
    echo "FAILED  $name"
    echo "$out"
    failed=1
  fi
}

# tool fetches and builds a tool, so that what it prints later is its own.
tool() { go run "$1" -h >/dev/null 2>&1; }

# The reader of the name service file is what tests hold the writer and the C
# module to; String is how a format is named in test output; the list of audit
# events is what tests hold the code and its document to; only tests read the
# list of mutations.
dead() {
  CGO_ENABLED=1 go run "$deadcode" -tags pkcs11 -f '{{range .Funcs}}{{println .Position .Name}}{{end}}' ./cmd/... ./test/... |
    grep -vE '^$|/agent/shim/nss(file|read)\.go|Format\.String$|/audit/kind\.go|test/mutations/list\.go'
  return 0
}

# vulnerabilities says "not run" where the database cannot be asked. Only the
# line by which the tool itself says so counts: a finding may speak of time-outs
# and refused connections too.
vulnerabilities() {
  local out unreachable
  if out=$(go run "$govulncheck" ./... 2>&1); then
    echo "ok      govulncheck"
  elif unreachable=$(grep -E '^govulncheck: fetching vulnerabilities: ' <<<"$out"); then
    echo "not run govulncheck: ${unreachable#govulncheck: }"
  else
    echo "FAILED  govulncheck"
    echo "$out"
    failed=1
  fi
}

check gofmt gofmt -l cmd internal test
check vet go vet ./...
check "vet, end to end tests" go vet -tags e2e ./...
check "vet, signer" env CGO_ENABLED=1 go vet -tags pkcs11 ./internal/signer/... ./cmd/sally-signer
check "go.mod is tidy" go mod tidy -diff
tool "$staticcheck"; check staticcheck go run "$staticcheck" -tags e2e ./...
check "staticcheck, signer" env CGO_ENABLED=1 go run "$staticcheck" -tags pkcs11 ./internal/signer/... ./cmd/sally-signer
tool "$deadcode"; check "dead code" dead
tool "$govulncheck"; vulnerabilities
exit "$failed"
