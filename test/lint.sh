#!/bin/bash
# gofmt, vet, staticcheck and govulncheck at pinned versions. govulncheck needs
# its database from the network; where that cannot be reached it says so and
# does not fail the run.
set -uo pipefail
cd "$(dirname "$0")/.."
out=$(gofmt -l cmd internal test); [ -z "$out" ] || { echo "gofmt: $out"; exit 1; }
go vet ./... && go vet -tags e2e ./... || exit 1
go run honnef.co/go/tools/cmd/staticcheck@v0.7.0 -tags e2e ./... || exit 1
go run golang.org/x/vuln/cmd/govulncheck@v1.1.4 ./... || echo "govulncheck did not finish; its answer above says whether it found something or could not reach its database"
