# The everyday commands. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup-stamp
TEST_WORKERS ?= 2

.PHONY: help setup demo bench fuzz test test-faults coverage mutants fault-coverage limit-coverage spec-coverage lint format clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + ": set PYTHON=/path/to/python3.11")'
	@$(PYTHON) -c 'import venv, ensurepip' || { echo "Python's venv module is missing: on Debian, apt-get install python3-venv"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@# A path entry, not an import hook: the hook costs every start of the client 15 ms.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --config-settings editable_mode=compat -e '.[dev]'
	@touch $@

setup: $(STAMP)  ## make .venv with rchctl, rchd and rch-worker

demo: $(STAMP)  ## verify a demo end to end in a throw-away home (.demo/)
	@scripts/demo

bench: $(STAMP)  ## measure against what people use today, and under load (benchmarks/README.md)
	@$(BIN)/python benchmarks/bench.py $(or $(BENCH_ARGS),all)

# What was compiled is kept, whatever the environment says: the next collection takes a third of the time.
test: $(STAMP)  ## run the tests
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(TEST_WORKERS) --dist worksteal $(PYTEST_ARGS)

test-faults: $(STAMP)  ## run every case of the long matrices of faults
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(TEST_WORKERS) --dist worksteal -m faults_long $(PYTEST_ARGS)

fuzz: $(STAMP)  ## look for bytes that break a reader, FUZZ_SECONDS=60 in all (docs/decoders.md)
	@$(BIN)/python -c 'import atheris' 2>/dev/null \
	  || $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --config-settings editable_mode=compat -e '.[fuzz]' 2>/dev/null \
	  || echo "no atheris for this Python: hypothesis changes the seeds instead"
	@$(BIN)/python tests/fuzz/run_all.py $(FUZZ_ARGS)

# No daemon, no worker, no socket (docs/testing.md).
PURE_TESTS := tests/contract tests/core tests/replay/test_transcript.py
coverage: $(STAMP)  ## branch coverage of rch/contract and rchd/core by their own tests, 95 % of each
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -q -n $(TEST_WORKERS) --dist worksteal --cov --cov-report= --cov-fail-under=0 $(PURE_TESTS)
	@$(BIN)/coverage report --include='rch/contract/*'
	@$(BIN)/coverage report --include='rchd/core/*'

MUTANTS_MINUTES ?= 20
mutants: $(STAMP)  ## change the two rooms in small ways and see whether their tests notice (docs/testing.md)
	@$(BIN)/python -c 'import mutmut' 2>/dev/null \
	  || $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --config-settings editable_mode=compat -e '.[mutants]'
	@$(BIN)/python scripts/mutants --minutes $(MUTANTS_MINUTES) $(MUTANTS_ARGS)

fault-coverage: $(STAMP)  ## compare docs/reliability.md with the tests
	@$(BIN)/python scripts/fault-coverage

limit-coverage: $(STAMP)  ## compare docs/limits.md with the code and the tests
	@$(BIN)/python scripts/limit-coverage

spec-coverage: $(STAMP)  ## name the tests behind each section of the contract
	@$(BIN)/python scripts/spec-coverage

lint: $(STAMP)  ## ruff, mypy --strict, import contracts, dependencies, spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry rch rch_conformance rchd rchctl worker_agent
	$(BIN)/codespell

format: $(STAMP)  ## let ruff format and mend what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## remove .venv and .demo
	rm -rf $(VENV) .demo
