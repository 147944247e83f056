# make help lists what there is. Every part of `make test` can be called on its own.

SHELL       := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

GO       ?= go
# The binary is static, and everything but the race detector is built like it, so
# that nothing is compiled twice.
export CGO_ENABLED ?= 0
# Each fuzz target runs this long in `make fuzz`.
FUZZTIME ?= 10s
# How many orders `make soak` sends; 1000000 is a day's worth.
EVENTS   ?= 60000
# What `make load` asks of the machine; see loadtest/README.md.
RATE     ?= 400
DURATION ?= 1m
DATABASE ?= sqlite
SCENARIO ?= steady
# The commit of the release that `make roll` runs beside this tree.
LAST_RELEASE ?= 9a7ea0d
# What the fault suite draws from; 0 draws a new one.
SEED     ?= 0

# How many packages are tested at once: tests mostly wait for leases and for disks.
TESTS    ?= $(shell echo $$(( $$(nproc 2>/dev/null || echo 2) + 1 )))

# How many events `make bench-dedup` remembers.
DEDUP_EVENTS ?= 1000000

# The parts of `make test`, in order: what fails soonest comes first. Those of REST are
# short, and run beside the faults, which wait more than they work.
PARTS := prepare build lint race gate load-short soak-short beside faults-broken
REST  := oracles examples readme judge roll

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Makes parts one after another and says how long each took.
define in-order
@for part in $(1); do \
	echo "== $$part"; start=$$SECONDS; \
	$(MAKE) --no-print-directory $$part || { echo "== $$part failed after $$((SECONDS - start)) s" >&2; exit 1; }; \
	echo "== $$part done in $$((SECONDS - start)) s"; \
done
endef

.PHONY: test
test: ## set up, then everything: lint, tests with -race on real servers, oracles, examples, README, load, soak, faults
	$(call in-order,$(PARTS))

.PHONY: beside rest
beside:
	@$(MAKE) --no-print-directory -j 2 --output-sync=target faults-short rest
rest:
	$(call in-order,$(REST))

.PHONY: setup
setup: ## install what the tests need (redis-server, PostgreSQL, Node, Python), or name what is missing
	@.ci/setup.sh

.PHONY: prepare
prepare: ## setup and tools at the same time
	@$(MAKE) --no-print-directory -j 2 --output-sync=target setup tools

.PHONY: build
build: ## build bin/paybell
	@mkdir -p bin
	$(GO) build -o bin/paybell ./cmd/paybell

.PHONY: clean
clean: ## remove what the targets built; data directories are yours and stay
	rm -rf bin coverage.txt docs/examples/node/node_modules loadtest/results

# Tests.

.PHONY: unit
unit: ## quick tests; those that need a server that is not installed skip
	$(GO) test ./...

.PHONY: race
race: bin/gotestsum ## all tests with -race on real servers; a skipped test fails
	CGO_ENABLED=1 PAYBELL_REQUIRE_SERVERS=1 .ci/gotest.sh -race -p $(TESTS) -timeout 10m ./...

.PHONY: gate
gate: bin/gotestsum ## what a callback and a settled event cost in allocations, Redis commands and SQL statements: untimed, without -race
	PAYBELL_REQUIRE_SERVERS=1 .ci/gotest.sh -count 1 -run 'Allocat|CommandsStayFew|StatementsOf|Forgeries' ./gateway ./streams ./handlers/effects ./workers

.PHONY: oracles
oracles: bin/gotestsum ## check our verifiers and signers against the providers' own SDKs
	cd gateway/provider/oracles && npm ci --silent
	PAYBELL_REQUIRE_SERVERS=1 .ci/gotest.sh -C gateway/provider/oracles ./...

.PHONY: examples
examples: build ## run every subscriber example of docs/subscribing.md against a live stream
	docs/examples/check.sh

.PHONY: readme
readme: ## run the README's commands in a clean copy of the tree
	.ci/readme.sh

.PHONY: fuzz
fuzz: ## run every fuzz target for FUZZTIME each
	.ci/fuzz.sh $(FUZZTIME)

.PHONY: bench
bench: bench-go bench-processes ## Go benchmarks, then S1 to S11 from real processes beside their limits (BENCHFLAGS; docs/performance.md)

.PHONY: bench-go
bench-go: ## the Go benchmarks alone, with allocations
	$(GO) test -run '^$$' -bench . -benchmem ./...

BENCH = cd loadtest && ../bin/bench -paybell ../bin/paybell

.PHONY: bench-processes
bench-processes: build bench-build ## S1 to S11 alone (BENCHFLAGS="-only S1,S5 -rounds 11 -beside PATH")
	$(BENCH) $(BENCHFLAGS)

.PHONY: bench-short
bench-short: build bench-build ## one short round of each: that it runs and nothing is lost; it says nothing of speed
	$(BENCH) -short

.PHONY: bench-kill
bench-kill: build bench-build ## the same with a SIGKILL in the middle of each: lost and twice must be 0
	$(BENCH) -short -kill

.PHONY: bench-build
bench-build:
	cd loadtest && $(GO) build -o ../bin/bench ./bench && $(GO) build -o ../bin/bench-limits ./bench/limits && \
		$(GO) build -o ../bin/bench-noop ./bench/noop

.PHONY: bench-dedup
bench-dedup: ## Redis memory of a dedup mark, at DEDUP_EVENTS events, a million by default
	PAYBELL_DEDUP_EVENTS=$(DEDUP_EVENTS) PAYBELL_REQUIRE_SERVERS=1 $(GO) test -run '^$$' -bench Dedup -benchtime 1x -timeout 30m ./streams

.PHONY: bench-journal
bench-journal: ## the journal beside bbolt and Pebble, on the disk of TMPDIR: speed, bytes, recovery, weight
	cd loadtest/journalbench && $(GO) run .

.PHONY: cover
cover: ## write coverage.txt and print the total
	$(GO) test -covermode atomic -coverpkg ./... -coverprofile coverage.txt ./...
	$(GO) tool cover -func coverage.txt | tail -n 1

# Load.

LOAD = cd loadtest && $(GO) run . -paybell ../bin/paybell -k6 ../bin/k6

.PHONY: load
load: build bin/k6 ## RATE callbacks a second for DURATION as SCENARIO says, a report, every effect counted (DATABASE=postgres, LOADFLAGS)
	$(LOAD) -scenario $(SCENARIO) -html results/$(SCENARIO).html -rate $(RATE) -duration $(DURATION) -database $(DATABASE) $(LOADFLAGS)

.PHONY: load-short
load-short: build bin/k6 ## ten seconds on SQLite and on PostgreSQL, one with a worker killed while it drains
	$(LOAD) -rate 200 -duration 10s -database sqlite
	$(LOAD) -rate 200 -duration 10s -database postgres -drain -kills 2

SOAK = cd loadtest && $(GO) run ./soak -paybell ../bin/paybell

.PHONY: soak
soak: build ## EVENTS orders, one in a thousand poisoned: streams, memory and goroutines must stay flat
	$(SOAK) -events $(EVENTS)

.PHONY: soak-short
soak-short: build ## half a minute of it
	$(SOAK) -events 5000 -rate 400

# Faults.

FAULTS = cd loadtest && $(GO) run ./faults -paybell ../bin/paybell-faults

.PHONY: paybell-faults
paybell-faults:
	@mkdir -p bin
	$(GO) build -tags faults -o bin/paybell-faults ./cmd/paybell

.PHONY: judge
judge: bin/gotestsum ## test the fault suite's proxy, traffic and judge themselves
	PAYBELL_REQUIRE_SERVERS=1 .ci/gotest.sh -C loadtest ./...

.PHONY: faults
faults: paybell-faults ## ten minutes of everything that goes wrong, to 200,000 callbacks and 20 kills at each point (SEED repeats a run)
	$(FAULTS) -duration 10m -rate 380 -callbacks 200000 -kills 200 -least 20 -seed $(SEED)

.PHONY: faults-short
faults-short: paybell-faults ## two minutes of it, by a new seed each time
	$(FAULTS) -duration 2m -rate 250 -callbacks 10000 -kills 50 -least 1 -seed $(SEED)

.PHONY: roll
roll: bin/last-release ## roll a deployment from LAST_RELEASE to this tree and back, under traffic and kills; needs git's history
	PAYBELL_LAST_RELEASE=$(CURDIR)/bin/last-release $(GO) test -tags roll -count 1 -run LastRelease -v ./cmd/paybell

bin/last-release:
	@mkdir -p bin
	tree=$$(mktemp -d) && trap 'rm -rf "$$tree"' EXIT && \
		git archive $(LAST_RELEASE) | tar -x -C "$$tree" && cd "$$tree" && $(GO) build -buildvcs=false -o $(CURDIR)/$@ ./cmd/paybell

.PHONY: faults-broken
faults-broken: paybell-faults ## break each promise on purpose and see that the suite notices
	$(FAULTS) -broken -seed $(SEED)

# Code.

.PHONY: fmt
fmt: bin/golangci-lint ## format every Go file
	bin/golangci-lint fmt

.PHONY: lint
lint: bin/golangci-lint ## golangci-lint and tidy go.mod files
	bin/golangci-lint run --allow-parallel-runners
	bin/golangci-lint run --allow-parallel-runners --build-tags faults ./cmd/...
	cd loadtest && ../bin/golangci-lint run -c ../.golangci.yml
	cd loadtest/journalbench && ../../bin/golangci-lint run -c ../../.golangci.yml
	@for mod in . loadtest loadtest/journalbench docs/examples/go gateway/provider/oracles; do \
		(cd $$mod && $(GO) mod tidy -diff) || { echo "$$mod: go.mod is not tidy, run go mod tidy there" >&2; exit 1; }; \
	done

.PHONY: reference
reference: ## write the configuration reference, configs/paybell.example.yaml
	$(GO) test ./configs -run TestReferenceIsCurrent -update

.PHONY: licenses
licenses: ## write the licences of the binary's modules, cmd/paybell/licenses.txt
	.ci/licenses.sh > cmd/paybell/licenses.tmp && mv cmd/paybell/licenses.tmp cmd/paybell/licenses.txt

# Tools, built once for each version that .ci/tools and loadtest/tools pin.

.PHONY: tools
tools: bin/golangci-lint bin/gotestsum bin/k6 ## build the tools into bin/

bin/golangci-lint: .ci/tools/go.mod .ci/tools/go.sum
	cd .ci/tools && $(GO) build -ldflags '-s -w' -o ../../$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

bin/gotestsum: .ci/tools/go.mod .ci/tools/go.sum
	cd .ci/tools && $(GO) build -ldflags '-s -w' -o ../../$@ gotest.tools/gotestsum

bin/k6: loadtest/tools/go.mod loadtest/tools/go.sum
	cd loadtest/tools && $(GO) build -ldflags '-s -w' -o ../../$@ go.k6.io/k6
