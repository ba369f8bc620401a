# The everyday commands. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup-stamp
DOCS_STAMP := $(VENV)/.docs-stamp
TEST_WORKERS ?= 2

# Every target that `help` lists.
.PHONY: $(shell awk -F: '/^[a-z-]+:.*\#\# /{print $$1}' $(MAKEFILE_LIST))
.DEFAULT_GOAL := help

help:  ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s  %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + ": set PYTHON=/path/to/python3.11")'
	@$(PYTHON) -c 'import venv, ensurepip' || { echo "Python's venv module is missing: on Debian, apt-get install python3-venv"; exit 1; }
	@test -x $(BIN)/python || { echo "making $(VENV) with $$($(PYTHON) --version)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing rch and what it is developed with into $(VENV): some minutes the first time, then seconds"
	@# A path entry, not an import hook: the hook costs every start of the client 15 ms.
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --config-settings editable_mode=compat -e '.[dev]'
	@touch $@
	@echo "done: $(BIN)/rchctl --help; make help lists the checks"

setup: $(STAMP)  ## make .venv with rchctl, rchd and rch-worker

check: lint docs test  ## all that a change must pass

demo: $(STAMP)  ## verify a demo end to end in a throw-away home (.demo/)
	@scripts/demo

bench: $(STAMP)  ## measure against what people use today, and under load (benchmarks/README.md)
	@$(BIN)/python benchmarks/bench.py $(or $(BENCH_ARGS),all)

# What was compiled is kept, whatever the environment says: the next collection takes a third of the time.
test: $(STAMP)  ## run the tests
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(TEST_WORKERS) --dist worksteal $(PYTEST_ARGS)

test-faults: $(STAMP)  ## run every case of the long matrices of faults
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(TEST_WORKERS) --dist worksteal -m faults_long $(PYTEST_ARGS)

test-pythons: $(STAMP)  ## the wheel and a quick part of the tests on each Python of this machine
	@$(BIN)/python -m building.pythons $(PYTHONS)

fuzz: $(STAMP)  ## look for bytes that break a reader, FUZZ_SECONDS=60 in all (docs/decoders.md)
	@$(BIN)/python -c 'import atheris' 2>/dev/null \
	  || $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --config-settings editable_mode=compat -e '.[fuzz]' 2>/dev/null \
	  || echo "no atheris for this Python: hypothesis changes the seeds instead"
	@$(BIN)/python tests/fuzz/run_all.py $(FUZZ_ARGS)

# No daemon, no worker, no socket (docs/testing.md).
PURE_TESTS := tests/contract tests/core $(addprefix tests/replay/test_,transcript.py slices.py sharing.py standing.py real_transcripts.py)
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

schemas: $(STAMP)  ## write docs/schemas and docs/examples
	@$(BIN)/python scripts/schemas

$(DOCS_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --config-settings editable_mode=compat -e '.[docs]'
	@touch $@

# -E: the reference is made of the programs' own tables, which Sphinx does not watch. -n: every link must lead somewhere.
docs: $(DOCS_STAMP)  ## build the documentation, without a warning, into build/docs
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m sphinx -b html -E -W -n --keep-going -q -j $(TEST_WORKERS) -d build/doctrees docs build/docs
	@echo "build/docs/index.html"

picture: $(STAMP)  ## renew docs/pictures/demo.svg from a real run of the demo
	@$(BIN)/python scripts/picture

spec-coverage: $(STAMP)  ## name the tests behind each section of the contract
	@$(BIN)/python scripts/spec-coverage

lint: $(STAMP)  ## ruff, mypy --strict, import contracts, dependencies, spelling, licences, changelog, schemas
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry rch rch_conformance rchd rchctl worker_agent
	$(BIN)/codespell
	$(BIN)/python -m building.licences
	$(BIN)/python -m building.fragments
	$(BIN)/python scripts/schemas --check

format: $(STAMP)  ## let ruff format and mend what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

dist: $(STAMP)  ## sdist and wheel in dist/, the same bytes from the same commit
	@$(BIN)/python -m building.dist

sbom: dist  ## what the wheel installs, as CycloneDX beside it
	@$(BIN)/python -m building.bom

changelog: $(STAMP)  ## the section of the version of rch/__init__.py in CHANGELOG.md, out of changes/
	@$(BIN)/python -m building.changelog

# What the fuzzer has learned (.fuzz) took hours: it stays.
CLEAN := $(VENV) .demo .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .coverage dist build docs/reference rch_xcode.egg-info
clean:  ## remove .venv, .demo, dist, build, every cache; all but what git tracks and .fuzz
	rm -rf $(CLEAN)
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@echo "and every __pycache__; make setup makes .venv again, from the package index"
