# Sallyport. `make help` lists what there is.
SHELL := /bin/bash
.DEFAULT_GOAL := help

OUT     := out
CACHE   ?= /var/cache/sallyport
VERSION := $(shell cat VERSION)
export CGO_ENABLED := 0
export SALLY_CACHE := $(CACHE)

.PHONY: help
help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

.PHONY: deps
deps: ## install the Debian packages that building and testing need (root)
	@packaging/deps.sh

.PHONY: deps-tests
deps-tests:
	@packaging/deps.sh tests

.PHONY: build
build: ## build out/sally, out/sally-signer and the C libraries
	@mkdir -p $(OUT)
	go build -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION)' -o $(OUT)/sally ./cmd/sally
	@$(MAKE) --no-print-directory signer
	@$(MAKE) --no-print-directory -C shim all

# A program of its own: PKCS#11 libraries need cgo, and sally is without.
.PHONY: signer
signer: ## build out/sally-signer, which holds CA keys in a PKCS#11 token
	@mkdir -p $(OUT)
	CGO_ENABLED=1 go build -tags pkcs11 -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION)' -o $(OUT)/sally-signer ./cmd/sally-signer

# In out/packages; what they are made of is in out/packages/build.
.PHONY: packages
packages: ## deb and rpm packages for amd64 and arm64, in out/packages
	@packaging/deps.sh packages
	@packaging/packages.sh build $(OUT)/packages/build
	@rm -f $(OUT)/packages/*.deb $(OUT)/packages/*.rpm
	@packaging/packages.sh pack $(CURDIR)/$(OUT)/packages/build $(OUT)/packages $(VERSION)
	@ls $(OUT)/packages/*.deb $(OUT)/packages/*.rpm

.PHONY: rootfs
rootfs: ## prepare the lab's root filesystems in $(CACHE)
	@for suite in bullseye bookworm trixie; do packaging/rootfs/prepare.sh $(CACHE) $$suite || exit 1; done

.PHONY: demo
demo: demo-check deps build ## set up everything and run the main job; leaves the server running
	@demo/run.sh

# Says what is in the way before anything is installed or built.
.PHONY: demo-check
demo-check:
	@demo/run.sh check

.PHONY: demo-stop
demo-stop: ## remove every trace of the demo
	@demo/stop.sh

.PHONY: test
test: deps-tests build ## set up and pass all tests
	@test/run.sh all

.PHONY: test-unit
test-unit: ## unit and conformance tests only
	@test/run.sh unit

.PHONY: test-c
test-c: ## the C libraries under ASan, UBSan, TSan and clang's analyser, for amd64 and arm64
	@test/run.sh c

.PHONY: test-e2e
test-e2e: build ## end to end on lab machines (root)
	@test/run.sh e2e

.PHONY: mutations
mutations: ## take each guard of test/mutations/list.txt out: its test must fail
	@test/run.sh mutations

.PHONY: test-fresh
test-fresh: ## the README's demo in a fresh minimal root filesystem (root; SALLY_FRESH_COLD=1 compiles everything anew)
	@test/run.sh fresh

.PHONY: lint
lint: ## gofmt, vet, staticcheck, govulncheck
	@test/lint.sh

.PHONY: fuzz
fuzz: ## every fuzz target, Go and C, for FUZZTIME (default 60s)
	@test/fuzz.sh
	@$(MAKE) --no-print-directory -C shim fuzz

.PHONY: bench
bench: deps build ## measure the bars of docs/performance.md, side by side in one run (root)
	@test/bench/run.sh

.PHONY: clean
clean: ## remove what building made in the checkout
	rm -rf $(OUT) shim/out
