# What a developer types. `make help` lists it; CI runs `.ci/run`.
CARGO ?= cargo
KUBECTL ?= kubectl
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
IMAGE ?= leadergroup/leadergroup:$(VERSION)
RUNS ?= 5
DURATIONS ?= quick
MINUTES ?= 30
SECONDS ?= 40
ALL ?= 300
PROFILE ?= release
# What `make bench` measures, one after the other. BENCH: further arguments, as in BENCH='--samples 50'.
PARTS = failover size many fleet strangers restart rest endurance
BENCH ?= --write
# The tests that need no control plane.
PURE = command_line decisions docs elector::fuzz elector::handover elector::hostile elector::losing elector::proving elector::simulation elector::upstream histories interop::account interop::verdict layering manifests
# Tests wait for a control plane more than they compute.
TEST_THREADS ?= 6

BUILT = $(or $(CARGO_TARGET_DIR),target)
# Where the tests on real nodes leave what they measured.
RESULTS = $(BUILT)/tmp/e2e

.DEFAULT_GOAL := help
.PHONY: help demo test e2e check run control-plane manifests install uninstall image bench $(PARTS:%=bench-%) bench-large bench-electors attacks weaknesses soak fmt

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

##@ Try it
demo: programs ## See a leader elected, replaced and kept (KEEP=1: leave it running; NODES=2: on real nodes, with clients; CLUSTER=current: in your own cluster)
	$(CARGO) build --locked --bin leadergroup-operator --example local
	@$(if $(NODES),tests/tools/build nodes >/dev/null && tests/tools/static >/dev/null)
	$(BUILT)/debug/examples/local demo $(if $(KEEP),--keep) $(if $(NODES),--nodes $(NODES)) $(if $(CLUSTER),--cluster $(CLUSTER))

control-plane: programs ## Run a local control plane to work against (NODES=2: real nodes, for Linux as root; else kwok plays four)
	$(CARGO) run --locked --example local -- control-plane $(if $(NODES),--real --nodes $(NODES))

run: ## Run the operator against the cluster of the current kubeconfig (ARGS='--health-probe-bind-address=0': more flags)
	$(CARGO) run --locked --bin leadergroup-operator -- --leader-elect=false $(ARGS)

##@ Work on it
test: programs candidates ## Run every test but those of `make e2e`: pure ones, and the operator on a real control plane
	$(CARGO) test --locked --bins --lib
	$(CARGO) build --locked --examples
	$(CARGO) test --locked --test tests -- --test-threads=$(TEST_THREADS)

e2e: programs candidates ## Run the tests on real nodes: pods that are processes, Services that route (Linux, root)
	@tests/tools/build nodes >/dev/null
	@tests/tools/static >/dev/null
	@rm -rf $(RESULTS)
	$(CARGO) test --locked --test e2e -- --skip scenarios:: --test-threads=3
	@# One at a time, because these are measured.
	$(CARGO) test --locked --test e2e -- scenarios:: --test-threads=1 --nocapture; ended=$$?; cat $(RESULTS)/*.md; exit $$ended

check: ## Formatting, lints, dependencies and the tests that need no control plane
	$(CARGO) fmt --check
	@tests/tools/deny bans licenses sources
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) clippy --locked --test e2e -- -D warnings
	$(CARGO) check --locked --lib --no-default-features --quiet
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --quiet
	$(CARGO) test --locked --lib --quiet
	$(CARGO) test --locked --test tests --quiet -- $(PURE)

fmt: ## Format the code
	$(CARGO) fmt

manifests: ## Generate crds/ from src/api, and the tables of docs/ from the code
	@# One after another: two tables are in one file.
	UPDATE=1 $(CARGO) test --locked --test tests --quiet -- manifests docs --test-threads=1

bench: ## Measure all of PARTS, beside a controller on controller-runtime and the bare writes; several hours. Writes docs/measurements.md
	@for part in $(PARTS); do $(MAKE) bench-$$part || exit 1; done

$(PARTS:%=bench-%): bench-%: programs ## One part
	@tests/tools/build peer >/dev/null
	$(CARGO) build --locked --release --bin leadergroup-operator --example local
	$(BUILT)/release/examples/local bench $* --operator $(BUILT)/release/leadergroup-operator $(BENCH)

bench-large: programs ## Measure the operator's memory among objects of more than a megabyte
	$(CARGO) build --locked --release --bin leadergroup-operator --example local
	$(BUILT)/release/examples/local bench-large --operator $(BUILT)/release/leadergroup-operator

bench-electors: programs candidates ## Measure what an election costs at rest, beside the same on client-go (5 minutes)
	$(CARGO) build --locked --release --bin leadergroup-elector --example local
	$(BUILT)/release/examples/local electors --elector $(BUILT)/release/leadergroup-elector

attacks: programs ## Measure another tenant's failovers and the operator's memory and writes under attacks (SECONDS=40 each, ALL=300 at once; PROFILE=e2e for a quicker build)
	$(CARGO) build --locked --profile $(PROFILE) --bin leadergroup-operator --example local
	$(BUILT)/$(PROFILE)/examples/local attacks --seconds $(SECONDS) --all $(ALL) --write docs/under-attack.md

weaknesses: programs candidates ## Compare client-go's elections and ours where client-go lets two act at once (RUNS=5, DURATIONS=quick or usual)
	$(CARGO) run --locked --example local -- weaknesses --runs $(RUNS) --durations $(DURATIONS)

soak: programs ## Let random things happen to the operator and its groups, and judge every version of everything (MINUTES=30, SEED=...)
	$(CARGO) build --locked --bin leadergroup-operator --example local
	$(BUILT)/debug/examples/local soak --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

histories: ## Follow a million random histories, and every history of a small world, with optimizations (half an hour)
	HISTORIES=1000000 $(CARGO) test --locked --profile histories --test tests -- histories::walks::no_random
	FAULTS=1 TAKEOVERS=2 $(CARGO) test --locked --profile histories --test tests -- histories::exhaustive::no_history_with_a_fault --nocapture

##@ Ship it
image: ## Build the container image with docker, podman or buildah (IMAGE=...)
	@for builder in docker podman buildah; do $$builder info >/dev/null 2>&1 && break; builder=; done; \
	[ -n "$$builder" ] || { echo "image: docker (with its daemon running), podman or buildah is needed" >&2; exit 1; }; \
	$$builder build --build-arg VERSION=$(VERSION) --build-arg REVISION=$$(git rev-parse HEAD 2>/dev/null || echo unknown) -t $(IMAGE) . && \
	$$builder images $(IMAGE)

install: ## Install the CRD and the operator into the cluster of the current kubeconfig
	$(KUBECTL) apply -k config/

uninstall: ## Remove them again, in order: says what goes, asks, gives everything back (YES=1: asks nothing; KEEP=1: nor that, and keeps owned Deployments; FLAGS=--no-check: and others of config/uninstall.sh)
	@KUBECTL="$(KUBECTL)" config/uninstall.sh $(if $(KEEP),--keep-deployments,$(if $(YES),--yes)) $(FLAGS)

# The control plane's programs, built once per version outside the clone.
.PHONY: programs
programs:
	@tests/tools/build >/dev/null

# client-go's leader election, which only tests need.
.PHONY: candidates
candidates:
	@tests/tools/build candidates >/dev/null
