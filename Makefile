# Changeover. `make help` lists what there is; `make demo` and `make test` do all their own set-up.
# Written for GNU make 3.81 and bash 3.2, which is what macOS has.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.NOTPARALLEL:

# scripts/setup writes where it found or installed Go, PostgreSQL and Node to .cache/env; every recipe begins with that.
ENV   := set -euo pipefail; [ ! -f .cache/env ] || . .cache/env;
CACHE := .cache

# Tools come by the Go module proxy at exactly these versions, outside of go.mod: their dependencies are none of the service's. The go
# command keeps what it built. (sqlc and oapi-codegen: scripts/generate.)
GOLANGCI_LINT := CGO_ENABLED=0 go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
BENCHSTAT     := CGO_ENABLED=0 go run golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da

HELM          := helm.sh/helm/v3/cmd/helm@v3.22.0

PKG      ?= ./...
BENCH    ?= .
COUNT    ?= 1
FUZZTIME ?= 20s
POSTGRES ?= 16 17 18
AGENTS   ?= 50000
CONTACTS ?= 0
CONSOLE_AGENTS ?= 50000
QUOTAS   ?= raised
NEMESIS  ?= 1m
SOAK     ?= 1h
IMAGE    ?= changeover:local
PLATFORMS ?= linux/amd64,linux/arm64
VERSION  ?= development

.PHONY: help
help: ## This list
	@awk -F':.*## ' '/^[a-z0-9\/-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## A simulated contact centre, the service and its database; SHIFT=1 shifts the floor by itself
	@scripts/setup demo
	@$(ENV) mkdir -p $(CACHE)/bin; go build -o $(CACHE)/bin/ ./cmd/demo ./cmd/connectsim ./cmd/server; \
	exec $(CACHE)/bin/demo $(if $(SHIFT),--shift) $(DEMO_FLAGS)

.PHONY: test
test: setup verify client console ## Everything: set-up, verify, all tests with the race detector; a minute of the nemesis (NEMESIS=1m)
	@$(ENV) BROWSER_TESTS=1 NEMESIS=$(NEMESIS) go test -race -timeout=20m $(PKG) # hours of virtual time cost minutes of two slow cores

.PHONY: test/faults
test/faults: ## Every fault of replicas and of PostgreSQL, on real ones: leaders lost, outages, failing over, full disks, upgrades, a pooler
	@scripts/setup faults
	@$(ENV) FAULTS=1 go test -race -count=1 -timeout=20m ./internal/resilience

.PHONY: test/postgres
test/postgres: setup ## The store and the whole service on other versions of PostgreSQL (POSTGRES="16 17 18"); Linux on x86-64
	@scripts/setup faults
	@$(ENV) scripts/postgres-versions $(POSTGRES)

.PHONY: test/alerts
test/alerts: ## Every alert of deploy/prometheus firing and resolving, by promtool; missing scrapes included; and rules that are a little wrong caught
	@scripts/setup alerts
	@$(ENV) promtool check rules deploy/prometheus/rules.yaml; promtool test rules deploy/prometheus/rules_test.yaml; \
	PROMTOOL=promtool go test -count=1 ./deploy/prometheus

.PHONY: e2e-prometheus
e2e-prometheus: setup ## A real Prometheus on two replicas: each alert firing on its fault and resolving after; every query of the dashboard has data; 6 minutes
	@scripts/setup alerts
	@$(ENV) PROMETHEUS=prometheus go test -count=1 -timeout=20m -v -run='^(TestAlerts|TestDashboard)$$' ./internal/resilience

.PHONY: test/helm
test/helm: setup ## The Helm chart: linted, rendered, read by Kubernetes' types and kubeconform, its configuration read by the service, bad values refused (HELM_FLAGS=-update)
	@$(ENV) mkdir -p $(CACHE)/bin; GOBIN=$$PWD/$(CACHE)/bin CGO_ENABLED=0 go install $(HELM); \
	export HELM=$$PWD/$(CACHE)/bin/helm; go test -count=1 ./deploy/helm $(HELM_FLAGS); cd deploy/helm/strict; go test -count=1 .

.PHONY: e2e-kubernetes
e2e-kubernetes: ## The Helm chart on a real Kubernetes of one node, in namespaces of its own: installed, upgraded, rolled back; Linux, root, ten minutes the first time
	@scripts/setup kubernetes
	@$(ENV) scripts/kubernetes; mkdir -p $(CACHE)/bin; GOBIN=$$PWD/$(CACHE)/bin CGO_ENABLED=0 go install $(HELM); \
	CGO_ENABLED=0 go build -trimpath -o $(CACHE)/kubernetes/image/server ./cmd/server; go test -c -o $(CACHE)/kubernetes/e2e.test ./deploy/helm/e2e; \
	cd deploy/helm/e2e; exec $$([ "$$(id -u)" -eq 0 ] || echo sudo -E) unshare --mount --net --pid --fork --kill-child --mount-proc \
	env E2E_KUBERNETES=$(CURDIR)/$(CACHE) "$(CURDIR)/$(CACHE)/kubernetes/e2e.test" -test.v -test.failfast -test.timeout=20m

.PHONY: e2e-compose
e2e-compose: ## docker-compose.yml for real: up, sign in, shift, a replica replaced under open streams, down (ENGINE=own IMAGES=own where there is none)
	@scripts/setup $(if $(filter own,$(ENGINE) $(IMAGES)),containers,demo)
	@$(ENV) ENGINE=$(ENGINE) IMAGES=$(IMAGES) deploy/compose/e2e

.PHONY: test/console
test/console: setup ## The console with a floor of CONSOLE_AGENTS (50000), in Chromium: lists, search, a shift; nothing may move
	@$(ENV) CONSOLE_AGENTS=$(CONSOLE_AGENTS) go test -count=1 -timeout=30m -v -run='^TestFleet$$' ./web/console

.PHONY: client
client: setup ## The TypeScript client: its types, its build and its tests (clients/typescript)
	@$(ENV) cd clients/typescript; ../../scripts/npm-ci; npm run --silent check; npm test --silent; CHANGEOVER_CLIENT=1 go test .

.PHONY: console
console: setup ## The console: its types and the tests of what is pure (web/console)
	@$(ENV) cd web/console; ../../scripts/npm-ci; npm run --silent check; npm test --silent

.PHONY: setup
setup: ## Find what this machine lacks and install it (Debian, Ubuntu, macOS)
	@scripts/setup

.PHONY: verify
verify: setup verify/format verify/generated verify/docs lint ## gofmt, stale generated files, documentation, go vet, linter

.PHONY: verify/format
verify/format:
	@$(ENV) files=$$(git ls-files -co --exclude-standard '*.go' | xargs gofmt -l); \
	[ -z "$$files" ] || { printf 'not formatted; run gofmt -w on:\n%s\n' "$$files" >&2; exit 1; }

.PHONY: verify/generated
verify/generated:
	@$(ENV) scripts/generate --check

.PHONY: verify/docs
verify/docs:
	@$(ENV) go test ./docs

.PHONY: lint
lint: setup ## go vet and golangci-lint: style, and which package may import which (.golangci.yml)
	@$(ENV) go vet ./...; $(GOLANGCI_LINT) run

.PHONY: generate
generate: setup ## Write the generated files again: SQL layer, HTTP server, reference pages
	@$(ENV) scripts/generate

.PHONY: bench
bench: setup ## Benchmarks, summed up by benchstat (BENCH=regexp COUNT=6 PKG=./internal/failover)
	@$(ENV) mkdir -p $(CACHE); go test -run='^$$' -bench='$(BENCH)' -benchmem -count=$(COUNT) $(PKG) | tee $(CACHE)/bench.txt; \
	$(BENCHSTAT) $(CACHE)/bench.txt

.PHONY: load
load: setup ## A shift of a whole floor, measured (AGENTS=50000 CONTACTS=0.3 QUOTAS=default); Linux
	@$(ENV) mkdir -p $(CACHE)/bin; go build -o $(CACHE)/bin/ ./cmd/load ./cmd/server ./cmd/connectsim; \
	exec $(CACHE)/bin/load --agents=$(AGENTS) --contacts=$(CONTACTS) --quotas=$(QUOTAS) $(LOAD_FLAGS)

.PHONY: soak
soak: setup ## The nemesis for SOAK (1h): shifts, calls, faults, kills and restarts; every log against every client; what must not grow
	@$(ENV) SOAK=$(SOAK) go test -count=1 -timeout=0 -run='^TestSoak$$' -v ./internal/acceptance/nemesis

.PHONY: soak/week
soak/week: ## A week by the clock of a PostgreSQL, with everything that is stored; it must not grow
	@scripts/setup faults
	@$(ENV) SOAK_WEEK=1 go test -count=1 -timeout=20m -run='^TestSoakOfAWeek$$' -v ./internal/store

.PHONY: herd
herd: setup ## 20,000 desktops that come back within two seconds, with tickets and cursors; counts what the database is asked
	@$(ENV) HERD=20000 go test -count=1 -v -run='^TestHerd$$' ./internal/acceptance

.PHONY: fuzz
fuzz: setup ## Every fuzz target for FUZZTIME (20s) each
	@$(ENV) scripts/fuzz $(FUZZTIME)

.PHONY: build
build: setup ## The programs, into bin/
	@$(ENV) CGO_ENABLED=0 go build -trimpath -o bin/ ./cmd/...

.PHONY: image
image: ## The container image for two platforms, compiled on this one (IMAGE=changeover:local PLATFORMS=linux/amd64,linux/arm64 IMAGE_FLAGS=--push)
	docker buildx build --platform $(PLATFORMS) --build-arg VERSION=$(VERSION) -t $(IMAGE) $(IMAGE_FLAGS) .

.PHONY: sbom
sbom: build ## What the programs in bin/ consist of, in CycloneDX; the image has them too
	@$(ENV) root=$$PWD; cd deploy/sbom; go run . -out "$$root/bin" -version $(VERSION) "$$root/bin/server" "$$root/bin/connectsim"; ls "$$root"/bin/*.cdx.json

.PHONY: clean
clean: ## Remove what was built here; the system's packages stay
	@rm -rf $(CACHE) bin
