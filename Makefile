# SPDX-License-Identifier: Apache-2.0

# `make help` lists the targets. Every tool comes from a go.mod in tools/, built by `go tool`; nothing else is installed,
# except Debian packages for the local cluster (test/cluster says which).

SHELL       := /bin/bash -o pipefail
REGISTRY    ?=
TAG         ?= dev
CLUSTER     ?= local
FUZZTIME    ?= 10s
DURATION    ?= 30m

VERSION     := $(shell git describe --tags --always --dirty 2>/dev/null || cat VERSION)
LDFLAGS     := -s -w -X main.version=$(VERSION)
CONTROLLER_GEN := go tool -modfile=tools/go.mod controller-gen
PROTOGEN    := go run -C tools/proto -exec 'env -C $(CURDIR)' ./protogen
GOLANGCI    := go tool -modfile=$(CURDIR)/tools/lint/go.mod golangci-lint
CLUSTER_CMD := bin/cluster -provider $(CLUSTER)
# The packages whose tests need a real API server.
API_SERVER_TESTS := test/envtest|controllers|cmd/operator|internal/issue|webhook
# The packages with tests of what a request allocates: the race detector allocates, too, and makes pools forget.
ALLOC_TESTS := ./proxy/forward ./proxy/http1 ./proxy/http2
MODULES     := . tools/proto tools/images tools/olm tools/conformance test/cluster

export CGO_ENABLED ?= 0
export GOFLAGS ?= -buildvcs=false

.DEFAULT_GOAL := help

##@ Start here

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: images bin/cluster ## A real cluster, cert-manager, Heddle, a small shop under load, and a canary that moves
	go run ./test/demo -cluster bin/cluster -provider $(CLUSTER)

.PHONY: demo-faults
demo-faults: images bin/cluster bin/e2e.test ## On the demo's cluster: users on a canary, an injected fault, a frozen pod, and what callers notice
	$(CLUSTER_CMD) up
	$(CLUSTER_CMD) load dist/images/*.tar
	$(CLUSTER_CMD) in bin/e2e.test -test.run TestCallersNoticeNoFault -root $(CURDIR)

.PHONY: demo-down
demo-down: bin/cluster ## End the demo's cluster and everything in it
	$(CLUSTER_CMD) down

##@ Develop

.PHONY: build
build: ## Static binaries of this machine's architecture in bin/
	@mkdir -p bin
	go build -trimpath -ldflags '$(LDFLAGS)' -o bin/heddle-operator ./cmd/operator
	go build -trimpath -ldflags '$(LDFLAGS)' -o bin/heddle-proxy ./cmd/proxy
	go build -trimpath -ldflags '$(LDFLAGS)' -o bin/heddle ./cmd/heddle

.PHONY: bin/cluster bin/shop bin/e2e.test
bin/cluster:
	go build -C test/cluster -o $(CURDIR)/bin/cluster .
bin/shop:
	go build -trimpath -ldflags '-s -w' -o bin/shop ./test/shop
bin/e2e.test:
	go test -c -tags e2e -o bin/e2e.test ./test/e2e

.PHONY: images
images: build bin/shop ## Images without Docker: into dist/images, or with REGISTRY=... TAG=... pushed and written into config/default
ifeq ($(REGISTRY),)
	go run -C tools/images . -save $(CURDIR)/dist/images \
		localhost/heddle-operator:dev=$(CURDIR)/bin/heddle-operator localhost/heddle-proxy:dev=$(CURDIR)/bin/heddle-proxy \
		localhost/shop:dev=$(CURDIR)/bin/shop
else
	go run -C tools/images . -push -kustomization $(CURDIR)/config/default/kustomization.yaml \
		$(REGISTRY)/heddle-operator:$(TAG)=$(CURDIR)/bin/heddle-operator $(REGISTRY)/heddle-proxy:$(TAG)=$(CURDIR)/bin/heddle-proxy
endif

.PHONY: generate
generate: ## Deep copies, apply configurations, protobuf
	$(CONTROLLER_GEN) object:headerFile=hack/boilerplate.go.txt applyconfiguration:headerFile=hack/boilerplate.go.txt paths=./api/...
	$(PROTOGEN) internal/meshconfig/meshconfig.proto internal/signedconfig/signedconfig.proto
	$(PROTOGEN) -connect internal/controlapi/controlapi.proto

.PHONY: manifests
manifests: ## CRDs and RBAC from the markers in the code
	$(CONTROLLER_GEN) crd paths=./api/... output:crd:dir=config/crd/bases
	$(CONTROLLER_GEN) rbac:roleName=heddle-operator paths='{./controllers/...,./internal/issue/...,./webhook/...,./cmd/operator/...}' output:rbac:dir=config/rbac

.PHONY: fmt
fmt: ## Format the code
	$(GOLANGCI) fmt ./...

##@ Check

.PHONY: lint
lint: ## golangci-lint on every module
	@for m in $(MODULES); do echo "lint $$m"; (cd $$m && $(GOLANGCI) run --config $(CURDIR)/.golangci.yml ./...) || exit 1; done

.PHONY: verify
verify: ## Generated files, go.mod files and kustomizations are what the sources say
	hack/verify.sh

.PHONY: test
test: test-unit test-envtest test-e2e ## All tests, the real cluster's included

.PHONY: test-unit
test-unit: ## Unit, golden, property, pipeline and architecture tests, with the race detector; what allocates, without
	CGO_ENABLED=1 go test -race -timeout 10m $$(go list ./... | grep -vE '/($(API_SERVER_TESTS)|test/e2e)(/|$$)')
	go test -run Alloc $(ALLOC_TESTS) | awk '{print} /no tests to run|no test files/ {none = 1} END {exit none}'
	@for m in tools/images tools/olm test/cluster; do (cd $$m && go test ./...) || exit 1; done

.PHONY: test-envtest
test-envtest: bin/cluster ## Tests against a real API server, with cert-manager's own controllers
	$(CLUSTER_CMD) build
	KUBEBUILDER_ASSETS=$$($(CLUSTER_CMD) envtest-assets) KUBE_CACHE_MUTATION_DETECTOR=true CGO_ENABLED=1 \
		go test -race -timeout 15m $$(go list ./... | grep -E '/($(API_SERVER_TESTS))(/|$$)')

.PHONY: test-e2e
test-e2e: images bin/cluster bin/e2e.test ## End to end on the local cluster
	test/e2e/run.sh

.PHONY: fuzz
fuzz: ## Every fuzz target for FUZZTIME each, or FUZZTIME=60s/all for all together
	hack/fuzz.sh $(FUZZTIME)

.PHONY: bin/conformance
bin/conformance:
	go build -C tools/conformance -o $(CURDIR)/bin/conformance/ ./interopserver $$(cd tools/conformance && go list tool)

.PHONY: conformance
conformance: build bin/conformance ## The suites of others (h2spec, gRPC, Connect, slowhttptest) and WebSocket, against a pair of proxies
	go test -c -tags conformance -o bin/conformance.test ./test/conformance
	cd test/conformance && $(CURDIR)/bin/conformance.test -test.timeout 20m $(CONFORMANCE_FLAGS)

.PHONY: soak
soak: build ## DURATION of mixed load while config and endpoints change: nothing fails, nothing grows
	go test -c -tags soak -o bin/soak.test ./test/soak
	cd test/soak && $(CURDIR)/bin/soak.test -test.timeout 0 -duration $(DURATION)

.PHONY: bench
bench: ## Heddle beside HAProxy, nginx, Envoy and net/http, about an hour and a half; writes docs/performance.md (BENCH="-quick -only http1")
	go run ./test/bench $(or $(BENCH),-write -profile $(CURDIR)/bin/profiles)

.PHONY: microbench
microbench: ## Benchmarks of the compiler and the data path
	go test -run '^$$' -bench . -benchmem ./internal/... ./proxy/...

.PHONY: pgo
pgo: ## The profile that the proxy is built with, from the bench's mix of traffic
	go run ./test/bench -pgo $(CURDIR)/cmd/proxy/default.pgo

##@ Release

.PHONY: bundle
bundle: ## The OLM bundle in bundle/
	go run -C tools/olm . -root $(CURDIR)
