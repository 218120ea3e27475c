# `make demo` runs the whole pipeline on this machine; CI runs `make test-all`.
# The newest that is supported and can make an environment; a shim that runs nothing is passed over.
SUPPORTED := import sys, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3; do \
  $$python -c '$(SUPPORTED)' 2>/dev/null && echo $$python && break; done)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# These processes share the test files, of which those with slow tests come first.
TEST_PROCESSES ?= 2
IN_PARALLEL := --numprocesses=$(TEST_PROCESSES) --dist=loadfile --no-loadscope-reorder
FAST_TESTS := tests/test_arrows.py tests/pipeline/cli tests/pipeline/publish tests/preprocessing/records \
  tests/preprocessing/sources tests/training/config tests/training/models

AUDIT := .audit
AUDIT_TOOLS := $(AUDIT)/.installed
# What the images install; `worker` has what `ingest` has.
AUDITED := ingest train train-gpu registry

.PHONY: check demo test test-all test-cluster test-kubelet docs lint format lock sbom audit clean
.PHONY: cluster-runs cluster-disturbances cluster-gke
.DELETE_ON_ERROR:

demo: $(INSTALLED)
	$(BIN)/mobilenet demo

# Run lint, types and every test that runs no whole stage, in about ten minutes.
test: lint
	$(BIN)/python -m tests.k8s.tools
	$(BIN)/pytest $(IN_PARALLEL) -m "not slow" --ignore=tests/cluster

# Run the tests of whole stages in real processes, and those on the cluster, too.
test-all: test
	$(BIN)/pytest $(IN_PARALLEL) -m slow --ignore=tests/cluster
	$(MAKE) --no-print-directory test-cluster

# Run lint, types and the tests that need neither training nor conversion, in under two minutes.
check: lint
	$(BIN)/pytest -m "not slow" $(FAST_TESTS)

# Test on a real Kubernetes on this machine, which the first run builds from source; this needs root.
# Each group of tests has a cluster of its own, and two groups run at a time, because most of the time
# is waiting. With KUBECONFIG, test on that cluster, which must have the Training Operator; this needs
# administrator rights, and the groups that need a cluster of their own are skipped.
test-cluster: $(INSTALLED)
	$(BIN)/python -m tests.cluster.binaries
	$(MAKE) --no-print-directory --keep-going --jobs=2 cluster-runs cluster-disturbances cluster-gke

DISTURBANCES := tests/cluster/test_existing.py tests/cluster/test_disturbances.py
GKE := tests/cluster/test_gke.py

cluster-runs:
	$(BIN)/pytest tests/cluster $(addprefix --ignore=,$(DISTURBANCES) $(GKE))

cluster-disturbances:
	$(BIN)/pytest $(DISTURBANCES)

cluster-gke:
	$(BIN)/pytest $(GKE)

# Run the whole pipeline in the project's images under a real kubelet. IMAGES are the archives of the
# images (CONTRIBUTING.md).
test-kubelet: $(INSTALLED)
	$(BIN)/python -m tests.cluster.kubelet $(IMAGES)

# Build the documentation into site/; open site/index.html.
docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Write what each image installs from PyPI into .audit/, as CycloneDX.
sbom: $(AUDIT_TOOLS)
	for role in $(AUDITED); do \
	  $(AUDIT)/bin/cyclonedx-py requirements --output-reproducible --of JSON \
	    -o $(AUDIT)/$$role.cdx.json constraints/$$role.txt || exit; \
	done

# Look for known vulnerabilities of what the images install; this needs PyPI's advisories.
audit: sbom
	$(AUDIT)/bin/pip-audit --strict --disable-pip --require-hashes --progress-spinner off \
	  $(AUDITED:%=-r constraints/%.txt)

$(AUDIT_TOOLS): constraints/audit.txt
	$(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	touch $@

# Install exact versions with hashes. Install the project itself as editable, without resolving.
$(INSTALLED): constraints/all.txt pyproject.toml
	@[ -n "$(PYTHON)" ] || { echo "no Python 3.11, 3.12 or 3.13 with venv found: install one (on Debian and Ubuntu, apt-get install python3 python3-venv), or run make PYTHON=/path/to/python3" >&2; exit 2; }
	@$(PYTHON) -c '$(SUPPORTED)' || { echo "$(PYTHON) is not Python 3.11, 3.12 or 3.13 with venv" >&2; exit 2; }
	$(PYTHON) -m venv --clear $(VENV)
	@echo "installing $$(grep -c == constraints/all.txt) pinned packages into $(VENV), about two minutes the first time"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r constraints/all.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

# Pin the requirements of pyproject.toml again; this needs uv.
COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-annotate --no-header pyproject.toml
lock:
	$(COMPILE) --extra ingest --extra train --extra launch --extra demo --extra build --extra docs --extra dev \
	  -o constraints/all.txt
	$(COMPILE) --extra ingest --extra launch --extra build -c constraints/all.txt \
	  -o constraints/ingest.txt
	$(COMPILE) --extra train --extra build -c constraints/all.txt -o constraints/train.txt
	$(COMPILE) --extra train-gpu --extra build -c constraints/all.txt \
	  -o constraints/train-gpu.txt
	$(COMPILE) --extra registry -c constraints/all.txt -o constraints/registry.txt
	$(COMPILE:pyproject.toml=--group audit) -o constraints/audit.txt

clean:
	rm -rf $(VENV) $(AUDIT) demo site
