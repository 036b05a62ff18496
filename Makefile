# Everything here needs git, make and python3 (3.11 or newer) only; the first target that needs it sets up .venv.

VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EXTRAS := train editors serve ray dev
LINT_PATHS := src tests $(wildcard benchmarks scripts)

.DEFAULT_GOAL := help
.PHONY: help install demo curate-demo test test-all lint fmt docs bench lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## Set up .venv from requirements.lock (once, and again when it changes)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "editr1 needs Python 3.11 or newer, and '$(PYTHON)' is not: try  make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) \
	  || { echo "python3 cannot make virtual environments: install its venv package (Debian: apt install python3-venv)"; exit 1; }
	@test -x $(BIN)/uv || $(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --requirement requirements.lock
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --no-deps --editable .
	@touch $@

demo: install ## Score fresh sticker edits, then let an editor learn from the scores; writes runs/demo/report.html
	$(BIN)/editr1 demo

curate-demo: install ## Curate sticker traces, and fine-tune a small verifier on them
	$(BIN)/editr1 curate recipes/sticker/curate.toml --out runs/curate-demo \
	  --set select.random=100 --set select.hard=100 --set export.holdout=0.05
	$(BIN)/editr1 train sft recipes/sticker/sft-small.toml --out runs/sft-demo \
	  --set 'data=["runs/curate-demo"]' --set steps=300 --set held_out.every=100

test: install ## Run the quick tests
	$(BIN)/python -m pytest

test-all: install ## Run all tests, the slow ones too
	$(BIN)/python -m pytest -m ''

lint: install ## Check style, types and the import rules
	$(BIN)/ruff check $(LINT_PATHS)
	$(BIN)/ruff format --check $(LINT_PATHS)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

fmt: install ## Format the code and fix what can be fixed
	$(BIN)/ruff check --fix-only $(LINT_PATHS)
	$(BIN)/ruff format $(LINT_PATHS)

docs: install ## Run the code blocks of README.md and docs/
	$(BIN)/python -m pytest -m '' tests/unit/test_docs.py

bench: install ## Run every benchmark
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

# vllm pins its own torch and cannot share an environment with the rest: it is left out of the lock.
lock: install ## Compile requirements.lock anew; UPGRADE=--upgrade takes newer versions
	$(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 $(EXTRAS:%=--extra %) \
	  --no-header $(UPGRADE) --output-file requirements.lock

clean: ## Remove caches (not .venv, not runs/)
	rm -rf .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
	find src tests -name __pycache__ -type d -exec rm -rf {} +
