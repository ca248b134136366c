# Targets of Weir. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
.DEFAULT_GOAL := help

GO        ?= go
DEMO_DIR  ?= ./demo-data
FUZZTIME  ?= 10s
BENCH_DIR ?= bin/bench
JOBS      := bronze baskets revenue
PACKS     := $(JOBS:%=bin/%.wj)
SOURCES   := $(shell git ls-files '*.go' '*.html' '*.json' go.mod go.sum 2>/dev/null)

export CGO_ENABLED = 1
export GOFLAGS = -trimpath # one build cache for the binary, its plugins and the tests

.PHONY: help build packs demo test race lint fuzz sim faults test-real test-interop bench examples cover tidy ci clean tools

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

tools:
	@command -v $(GO) >/dev/null || { echo "weir needs Go 1.26 to build: install it from your package manager or go.dev and put it on the PATH"; exit 1; }
	@command -v $${CC:-cc} >/dev/null || command -v gcc >/dev/null || { echo "weir needs a C compiler to build (Go plugins use cgo): install gcc or clang"; exit 1; }

build: tools bin/weir ## build bin/weir (needs Go and a C compiler; 2 min the first time)

bin/weir: $(SOURCES)
	@mkdir -p bin
	$(GO) build -o $@ ./cmd/weir

bin/%.wj: bin/weir $(SOURCES)
	@bin/weir build ./examples/retail/$* -o $@

packs: tools $(PACKS) ## build the example jobs as plugins

demo: build packs ## run the retail jobs on real records in one process (90 s after the build)
	@bin/weir dev --dir "$(DEMO_DIR)" --fresh --retail --until-done $(PACKS)

test: tools ## all tests of the tree (5 min on 2 cores; the outside readers join in if python3 is there)
	@deploy/real/py.sh || echo "SKIPPED: the checks by delta-rs and DuckDB: python3 with venv is missing"
	$(GO) test -timeout 30m ./...

race: tools ## the concurrent packages under the race detector (6 min)
	$(GO) test -race -short -timeout 30m ./actors/... ./state/... ./stream/... ./jobmanager/... ./taskmanager/... ./local/... ./checkpoint/... \
		./connectors/... ./internal/clock/... ./internal/codec/... ./internal/objstore/... ./internal/minicluster/... ./internal/queue/... ./cluster/...
	$(GO) test -race -short -timeout 30m -run 'Race$$|Racing|BesideWriters|IdentityBeside|Stores$$|LogShapes' ./deltalake # what has goroutines there

lint: tools ## formatting, vet, staticcheck and the house's rules (2 min)
	@deploy/real/lint.sh

fuzz: tools ## every fuzz target for FUZZTIME (default 10s) each (7 min; what fails is kept under testdata/fuzz)
	@failed=; for p in $$(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n 1 dirname | sort -u); do \
		targets=$$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz') || exit 1; \
		for f in $$targets; do echo "== $$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$p || failed="$$failed $$p.$$f"; done; \
	done; test -z "$$failed" || { echo "failed:$$failed"; exit 1; }

sim: tools ## 20,000 seeds of the tier-1 simulation (5 min)
	WEIR_SIM_SEEDS=20000 $(GO) test -timeout 90m -run 'Simulation' -v ./internal/minicluster/...

faults: tools ## 100 kills of the Weir process, judged by delta-rs, DuckDB and a read_committed consumer (25 min)
	deploy/real/py.sh
	WEIR_NO_SKIP=1 WEIR_FAULTS=full $(GO) test -timeout 120m -count=1 -v ./internal/faults/...

test-real: tools ## the kills on a real Kafka, killed too, and connectors on real S3, GCS and Azure servers (needs java, mvn, python3, npm; 30 min)
	deploy/real/py.sh
	deploy/real/spark.sh
	WEIR_REAL=1 WEIR_SPARK=1 $(GO) test -timeout 90m -count=1 -v -run 'OnRealParts' ./internal/faults
	@deploy/real/kafka.sh start && deploy/real/s3.sh start && deploy/real/gcs.sh start && deploy/real/azure.sh start
	for s in s3 gcs azure kafka; do eval "$$(deploy/real/$$s.sh env)"; done && \
		WEIR_KAFKA_SCRIPT=$(CURDIR)/deploy/real/kafka.sh $(GO) test -timeout 30m -count=1 ./connectors/kafka/driver ./connectors/delta/driver ./deltalake/cloud ./internal/objstore/...; \
		code=$$?; for s in s3 gcs azure kafka; do deploy/real/$$s.sh stop; done; exit $$code

INTEROP ?= Histories|Spark
test-interop: tools ## 200 random histories written in turn by Weir, delta-rs and Spark (needs java, mvn, python3; an hour)
	deploy/real/py.sh
	deploy/real/spark.sh
	WEIR_NO_SKIP=1 WEIR_SPARK=$(CURDIR)/.real/spark WEIR_INTEROP_HISTORIES=$${WEIR_INTEROP_HISTORIES:-200} \
		$(GO) test -timeout 300m -count=1 -v -run '$(INTEROP)' ./deltalake

bench: build ## what README's figures come from, on a quiet machine, to BENCH_DIR (default bin/bench; 10 min)
	@mkdir -p $(BENCH_DIR)
	bin/weir bench nexmark -q all -o json | tee $(BENCH_DIR)/nexmark.json
	bin/weir bench mainjob -o json | tee $(BENCH_DIR)/mainjob.json
	bin/weir bench mainjob -w latency --guarantee none -o json | tee $(BENCH_DIR)/latency.json
	bin/weir bench state --state-budget 512MiB -o json | tee $(BENCH_DIR)/state.json

examples: packs ## the examples' own tests, each job as a plugin, and what a job links (1 min after the build)
	$(GO) test ./examples/...
	@for j in $(JOBS); do bin/weir inspect pack bin/$$j.wj | head -1; done
	@echo "what the baskets job links besides std:"
	@$(GO) list -deps -f '{{if not .Standard}}{{.ImportPath}}{{end}}' ./examples/retail/baskets

cover: tools ## statements that the short tests reach, by package; bin/cover.html shows them (8 min)
	@mkdir -p bin
	$(GO) test -short -timeout 30m -coverprofile bin/cover.out ./...
	@$(GO) tool cover -html bin/cover.out -o bin/cover.html
	@$(GO) tool cover -func bin/cover.out | tail -1

tidy: tools ## go.mod, go.sum and formatting as they must be (seconds; fetches modules)
	$(GO) mod tidy
	gofmt -l -w $$(git ls-files '*.go')

clean: ## remove what the build made
	rm -rf bin demo-data

ci: ## what .ci/run runs: lint, test, packs, race, 10 histories of test-interop (12 min)
	.ci/run
