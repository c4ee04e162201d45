# Needs GNU make and Python 3.11 or newer; `make vectors` needs Node.js as well.

.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# The first of these that is new enough makes the virtual environment; PYTHON=/path chooses one.
PYTHON ?=
PYTHONS := $(if $(PYTHON),$(PYTHON),python3 python3.13 python3.12 python3.11 python)
# More arguments for `make test`, `make demo`, `make bench` and the like.
ARGS ?=

.PHONY: help demo up test check vectors generate bench chaos clean

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(INSTALLED) ## Run the whole system on this machine and show it at work
	@$(BIN)/sluice demo $(ARGS)

up: $(INSTALLED) ## Run the whole system on this machine until Ctrl-C
	@$(BIN)/sluice up $(ARGS)

test: $(INSTALLED) ## Run all tests, on a real Kafka and a real Postgres
	$(BIN)/pytest -n 2 --dist loadgroup $(ARGS)

check: $(INSTALLED) ## Check format, lint, types, import rules and generated files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m sluice_schemas.generate --check

vectors: ## Check the published test vectors with an independent program (Node.js)
	node schemas/vectors/check.mjs

generate: $(INSTALLED) ## Write the generated schemas anew
	$(BIN)/python -m sluice_schemas.generate

bench: $(INSTALLED) ## Measure CPU per job and latency
	@$(BIN)/python -m tests.bench $(ARGS)

chaos: $(INSTALLED) ## Kill, freeze and restart processes under load and count every job
	@$(BIN)/python -m tests.chaos $(ARGS)

clean: ## Remove the virtual environment and all caches; the data in .sluice stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
	find schemas services migrations tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The lock names every package with its hashes, the build tools of the editable install included.
$(INSTALLED): requirements.lock pyproject.toml
	@set -e; \
	if [ ! -x $(BIN)/python ]; then \
	  for name in $(PYTHONS); do \
	    if "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	      python="$$name"; break; \
	    fi; \
	  done; \
	  if [ -z "$${python:-}" ]; then \
	    echo "Sluicegate needs Python 3.11 or newer; none of these is one: $(PYTHONS)." >&2; \
	    echo "Install it, or name it: make PYTHON=/path/to/python3" >&2; \
	    exit 1; \
	  fi; \
	  echo "Making $(VENV) with $$("$$python" --version)"; \
	  "$$python" -m venv $(VENV); \
	fi; \
	if [ -x $(BIN)/uv ]; then \
	  pip="$(BIN)/uv pip"; python_option="--python $(BIN)/python"; \
	else \
	  pip="$(BIN)/python -m pip"; python_option=""; \
	fi; \
	echo "Installing the packages of requirements.lock (once; a few hundred megabytes)"; \
	$$pip install $$python_option --require-hashes -r requirements.lock; \
	$$pip install $$python_option --no-deps --no-build-isolation -e .; \
	touch $@
