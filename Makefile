# Antiphon's verbs. `make` or `make help` lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export ANTIPHON_DATA_DIR ?= $(CURDIR)/.antiphon
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install --quiet --require-hashes --no-deps --only-binary :all:
LOCK := $(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-header --no-annotate

.DEFAULT_GOAL := help
.PHONY: help run demo doctor test check fmt bench openapi lock ci clean

help: ## list these verbs
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/run.stamp ## install once, then everything in one process: database, demo data, simulator, server
	@$(BIN)/antiphon up --demo

demo: $(VENV)/run.stamp ## play the demo's day and print its funnel
	@$(BIN)/antiphon demo

doctor: $(VENV)/run.stamp ## check the ledger's invariants
	@$(BIN)/antiphon doctor

test: check ## everything that must hold: `make check`, then every test; says what was left out
	$(BIN)/python -m pytest

check: $(VENV)/dev.stamp ## format, lint, types, floors, locks, generated files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	@if grep -Hn '://' locks/*.txt; then echo "A lock names a host. Run make lock."; exit 1; fi
	$(BIN)/python -m antiphon.entry.openapi --check
	$(BIN)/python -m antiphon.entry.documents --check

fmt: $(VENV)/dev.stamp ## format, and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/dev.stamp ## the figures, each beside its ceiling (QUICK=1 leaves out what takes long)
	$(BIN)/python -m benchmarks $(if $(QUICK),--quick)

openapi: $(VENV)/dev.stamp ## write openapi.json and the generated pages anew
	$(BIN)/python -m antiphon.entry.openapi
	$(BIN)/python -m antiphon.entry.documents

lock: $(VENV)/dev.stamp ## renew locks/ from pyproject.toml
	$(LOCK) --upgrade --extra install -o locks/run.txt
	$(LOCK) --upgrade --extra install --extra dev -c locks/run.txt -o locks/dev.txt

ci: ## what the build machine runs (Debian, as root: it installs packages)
	bash .ci/run

clean: ## remove what was built; data stays in .antiphon
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# One environment; a stamp says which lock was installed. dev.txt contains run.txt.

$(BIN)/python:
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "Install the package python3-venv first (Debian, Ubuntu: sudo apt-get install python3-venv)."; \
	  echo "Python cannot make a virtual environment without it. Then run make again."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Antiphon needs Python 3.11 or newer, this is $$($(PYTHON) -V). Run: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/run.stamp: locks/run.txt pyproject.toml | $(BIN)/python
	@echo "Installing the locked dependencies into $(VENV) ..."
	@$(INSTALL) -r locks/run.txt
	@$(PIP) install --quiet --no-deps --no-build-isolation --no-index -e .
	@touch $@

$(VENV)/dev.stamp: locks/dev.txt $(VENV)/run.stamp
	@$(INSTALL) -r locks/dev.txt
	@touch $@
