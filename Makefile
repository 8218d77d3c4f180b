# What a developer types. `make help` lists it; CI runs `make test`.
CARGO ?= cargo
KUBECTL ?= kubectl
IMAGE ?= leadergroup/leadergroup:0.1.0
NODES ?= 4
# Tests wait for a control plane more than they compute.
TEST_THREADS ?= 6

.DEFAULT_GOAL := help
.PHONY: help demo test check run control-plane manifests install uninstall image bench fmt

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

##@ Try it
demo: programs ## See a leader elected, replaced and kept (KEEP=1: leave it running; CLUSTER=current: in your own cluster)
	$(CARGO) build --locked --bin leadergroup-operator --example local
	target/debug/examples/local demo $(if $(KEEP),--keep) $(if $(CLUSTER),--cluster $(CLUSTER))

control-plane: programs ## Run a local control plane to work against (NODES=4)
	$(CARGO) run --locked --example local -- control-plane --nodes $(NODES)

run: ## Run the operator against the cluster of the current kubeconfig
	$(CARGO) run --locked --bin leadergroup-operator

##@ Work on it
test: programs ## Run every test: pure ones, and the operator on a real control plane
	$(CARGO) test --locked --bin leadergroup-operator --lib
	$(CARGO) test --locked --test tests -- --test-threads=$(TEST_THREADS)

check: ## Formatting, lints and the tests that need no control plane
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --quiet
	$(CARGO) test --locked --lib --quiet
	$(CARGO) test --locked --test tests --quiet -- choices histories layering manifests elector::fuzz elector::handover elector::losing elector::simulation elector::upstream

fmt: ## Format the code
	$(CARGO) fmt

manifests: ## Generate crds/ from src/api
	UPDATE=1 $(CARGO) test --locked --test tests --quiet -- manifests

bench: programs ## Measure failovers and memory on this machine, beside the bare two writes
	$(CARGO) build --locked --release --bin leadergroup-operator --example local
	target/release/examples/local bench --operator target/release/leadergroup-operator

##@ Ship it
image: ## Build the container image with docker, podman or buildah (IMAGE=...)
	@builder=$$(command -v docker || command -v podman || command -v buildah) || { echo "image: docker, podman or buildah is needed" >&2; exit 1; }; \
	$$builder build -t $(IMAGE) .

install: ## Install the CRD and the operator into the cluster of the current kubeconfig
	$(KUBECTL) apply -k config/

uninstall: ## Remove them again, and with the CRD every LeaderGroup
	$(KUBECTL) delete --ignore-not-found -k config/

# The control plane's programs, built once per version outside the clone.
.PHONY: programs
programs:
	@tests/tools/build >/dev/null
