# `make compare` and `make test` need Python >= 3.11 and make, and nothing else: they install into .venv.

PYTHON ?= python3
# Threads that wait should sleep: spinning ones slow a busy machine down tenfold.
export OMP_WAIT_POLICY ?= PASSIVE
VENV   := .venv
BIN    := $(VENV)/bin

# One stamp an installed set of dependencies, so that a second `make` installs nothing.
INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable
DECLARED := setup.cfg pyproject.toml constraints.txt

.PHONY: compare test conformance soak coverage lint format docs mutation clean

compare: $(VENV)/.installed
	$(BIN)/bounds compare

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n auto

# Drawn tests with other draws: `make soak SEEDS=5 EXAMPLES=200`; CONTRIBUTING.md says what it costs.
SEEDS    ?= 1
FIRST    ?= 0
EXAMPLES ?= 1000
soak: $(VENV)/.installed-test
	$(BIN)/python -m tests.soak --seeds $(SEEDS) --first $(FIRST) --examples $(EXAMPLES)

# The suite of the VNN-LIB standard; about 5 minutes on a core, most of it starting processes.
conformance: $(VENV)/.installed-conformance
	$(BIN)/python -m tests.conformance

coverage: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n auto --cov

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The pages are in docs/_build/index.html; any warning is an error.
docs: $(VENV)/.installed-docs
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs docs/_build

# About an hour on two cores; goes on where it was stopped.
mutation: $(VENV)/.installed-mutation
	$(BIN)/python -m tests.mutation

clean:
	rm -rf $(VENV) .mutation build dist docs/_build *.egg-info .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(DECLARED) | $(BIN)/python
	$(INSTALL) .
	touch $@

$(VENV)/.installed-test: $(DECLARED) | $(BIN)/python
	$(INSTALL) ".[test]"
	touch $@

$(VENV)/.installed-dev: $(DECLARED) | $(BIN)/python
	$(INSTALL) ".[dev]"
	touch $@

$(VENV)/.installed-docs: $(DECLARED) | $(BIN)/python
	$(INSTALL) ".[docs]"
	touch $@

$(VENV)/.installed-conformance: $(DECLARED) | $(BIN)/python
	$(INSTALL) ".[conformance]"
	touch $@

$(VENV)/.installed-mutation: $(DECLARED) | $(BIN)/python
	$(INSTALL) ".[test,mutation]"
	touch $@
