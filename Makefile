# Every target that needs the environment makes it first; when it is up to date this takes well
# under a second. `make PYTHON=/path/to/python ...` chooses the interpreter (3.9 to 3.11).

VENV ?= .venv
PYTHON ?=
RUN := $(VENV)/bin/python

# TensorFlow's start-up notices hide what matters; set to 0 to see them.
export TF_CPP_MIN_LOG_LEVEL ?= 3

# ==== make demo, make demo-procgen: what they run ==============================================
DEMO_ROOT ?= runs/demo
DEMO_FLAGS ?=
DEMO_PROCGEN_ROOT ?= runs/demo-procgen
DEMO_PROCGEN_FLAGS ?= --gin_file=demo_procgen.gin --root_dir=$(DEMO_PROCGEN_ROOT)
# ================================================================================================

# For example: make test PYTEST_FLAGS="-k genotype"; make lock LOCK_FLAGS=--upgrade
PYTEST_FLAGS ?=
# Each takes up to 3 GB. A file's tests stay together: they share what they have trained. The order of
# the files is tests/conftest.py's.
TEST_PROCESSES ?= 2
FAULTS_FLAGS ?=
FUZZ_FLAGS ?=
LOCK_FLAGS ?=

.DEFAULT_GOAL := help
.PHONY: help env demo demo-procgen test test-acme-tf28 faults fuzz lint format lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

env: ## make or update the environment
	@PYTHON="$(PYTHON)" bash scripts/make_env.sh "$(VENV)"

demo: env ## search on MinAtar, then the cell beside IMPALA-CNN and random cells (8 minutes on 2 cores)
	@bash scripts/demo.sh "$(RUN)" "$(DEMO_ROOT)" $(DEMO_FLAGS)

demo-procgen: env ## search, discretize and evaluate on a game of Procgen (about ten minutes)
	@$(RUN) launchers/ppo_procgen.py $(DEMO_PROCGEN_FLAGS)

test: env ## run the tests
	@$(RUN) -m pytest -q -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder $(PYTEST_FLAGS)

test-acme-tf28: ## run the torso's tests beside dm-acme 0.4 on TensorFlow 2.8 (Python 3.9 or 3.10)
	@bash scripts/test_acme_tf28.sh

faults: env ## do to real runs what machines do, 100 kills included (about an hour)
	@$(RUN) tests/faults/faults.py $(FAULTS_FLAGS)

fuzz: env ## fuzz everything that reads files, a minute each (Linux, x86-64)
	@$(RUN) tests/fuzz/fuzz.py $(FUZZ_FLAGS)

lint: env ## check style and types
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy

format: env ## rewrite the sources in the project's style
	@$(RUN) -m ruff check --fix .
	@$(RUN) -m ruff format .

lock: env ## renew requirements.lock from requirements.in and setup.py
	@UV_PYTHON_DOWNLOADS=never $(RUN) -m uv pip compile --quiet --python $(RUN) --universal \
		--python-version 3.9 --no-emit-package rldarts-tf --custom-compile-command "make lock" \
		$(LOCK_FLAGS) requirements.in --output-file requirements.lock

clean: ## remove the environment, caches and build products (keeps runs/)
	@if [ -e "$(VENV)/.rldarts-ready" ] || [ -e "$(VENV)/.rldarts-building" ]; then rm -rf "$(VENV)"; fi
	@rm -rf .venv-acme-tf28 build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	@find . -name __pycache__ -type d -not -path "./.*" -prune -exec rm -rf {} +
