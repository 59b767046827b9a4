# Bailiff. `make help` lists what can be made.

GO       ?= go
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
CACHE    := $(or $(BAILIFF_CACHE),$(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME)/bailiff),$(HOME)/.cache/bailiff)
LDFLAGS  := -s -w -X main.version=$(VERSION)
FUZZTIME ?= 10s

# What runs the tests; .ci/run puts a runner here that also refuses skipped tests.
GOTEST   ?= $(GO) test
TIMEOUT  ?= 20m

LINT_VERSION := 2.15.0
LINT_DIR     := $(CACHE)/tools/golangci-lint-$(LINT_VERSION)
LINT         := $(LINT_DIR)/golangci-lint

.DEFAULT_GOAL := help
.PHONY: help build demo servers test race lint vet fmt fmt-check fuzz bench soak check clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/bailiff, one static binary, and bin/bailiff-proof, which checks proofs of the audit trail
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/bailiff ./cmd/bailiff-proof

demo: ## show what Bailiff does, against two real Vaults and a real PostgreSQL; KEEP=1 leaves them running
	$(GO) run ./deploy/demo

servers: ## build or install the real servers that the tests and the demo need
	@$(GO) run ./internal/testenv/cmd/servers ensure vault postgres consul-template sops go-clients kubernetes

test: servers ## run every test
	$(GOTEST) -p 2 -timeout $(TIMEOUT) ./...

race: servers ## run the tests under the race detector, but for those that only drive programs
	$(GO) test -race -p 2 -timeout $(TIMEOUT) $$($(GO) list ./... | grep -v -e /test/e2e -e /deploy/)

lint: $(LINT) ## run the linters, at their pinned version
	$(LINT) run ./...

$(LINT):
	mkdir -p $(LINT_DIR)
	cd $(LINT_DIR) && GOFLAGS= GOWORK=off GOBIN=$(LINT_DIR) $(GO) install -ldflags '-s -w' \
		github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v$(LINT_VERSION)

vet: ## run go vet, with and without the build tag for fault injection
	$(GO) vet ./...
	$(GO) vet -tags faults ./...

fmt: ## format every Go file
	gofmt -s -w .

fmt-check: ## fail if a Go file is not formatted
	@unformatted=$$(gofmt -s -l .); if [ -n "$$unformatted" ]; then echo "not formatted:" $$unformatted; exit 1; fi

fuzz: ## run every fuzz target for FUZZTIME (10s)
	@$(GO) list -f '{{$$p := .}}{{range .TestGoFiles}}{{$$p.ImportPath}} {{$$p.Dir}}/{{.}}{{"\n"}}{{end}}{{range .XTestGoFiles}}{{$$p.ImportPath}} {{$$p.Dir}}/{{.}}{{"\n"}}{{end}}' ./... \
	| while read -r package file; do \
		[ -n "$$file" ] || continue; \
		for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$$file"); do \
			echo "$$package $$target"; \
			$(GO) test "$$package" -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) </dev/null || exit 1; \
		done; \
	done

bench: servers ## measure throughput and latency, and print a table
	$(GO) run ./test/bench

soak: servers ## kill servers at random for SOAK (3m); ask Vault and the policy engine the same 20,000 questions
	SOAK=$(or $(SOAK),3m) $(GO) test ./test/soak -count=1 -v -timeout 20m
	POLICY_CASES=$(or $(POLICY_CASES),20000) $(GO) test ./policy -run TestDecisionsAreVaults -count=1 -v -timeout 20m

check: fmt-check vet lint test ## all that a change must pass

clean: ## remove what was built in the tree
	rm -rf bin dist demo-data
