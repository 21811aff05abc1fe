# `make help` lists the targets. Everything runs in .venv, which is made when it is missing or outdated.
PYTHON ?= python3
BIN := .venv/bin
CHECK_SHAPES := $(BIN)/pytest -m "not slow" -n 2 --shapes $(addprefix tests/test_,$(addsuffix .py,shapes given networks))

.PHONY: help install run test test-full lint format generated docs bench bench-peers bench-compare recipes clean

help:  ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## */\t/' | expand -t 14

install: .venv/installed  ## Install into .venv, which `. .venv/bin/activate` switches on

run: .venv/installed  ## Train an ODE-Net on scikit-learn's handwritten digits: under two minutes
	$(BIN)/ode-run task=digits model=odenet solver=dopri5

test: .venv/installed-dev  ## Quick tests, then some of them once more with types and shapes of arrays checked
	$(BIN)/pytest -m "not slow" -n 2
	$(CHECK_SHAPES)

test-full: .venv/installed-dev  ## All tests
	$(BIN)/pytest -n 2
	$(CHECK_SHAPES)

lint: .venv/installed-dev  ## Style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: .venv/installed-dev  ## Rewrite to style
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

generated: .venv/installed-dev  ## Write the parts of docs/ that are made from the program
	$(BIN)/python -m tests.documentation

docs: .venv/installed-docs  ## Build docs/ as a site in site/; a dead link fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: .venv/installed-dev  ## Our engine against torchdiffeq's, a flow, then whole training steps (needs MNIST)
	$(BIN)/python -m tests.benchmarks.solving
	$(BIN)/python -m tests.benchmarks.density
	$(BIN)/python -m tests.benchmarks.regularizers
	$(BIN)/python -m tests.benchmarks.path_models
	$(BIN)/python -m tests.benchmarks.training

bench-peers: .venv/installed-dev .venv-peers/installed  ## Beside torchcfm's training loop and torchcde, in an environment of its own
	$(BIN)/python -m tests.benchmarks.peers .venv-peers/bin/python
	.venv-peers/bin/python -m tests.benchmarks.controls

bench-compare: .venv/installed-dev  ## This tree against another revision, step by step in turn (BASE=revision)
	$(BIN)/python -m tests.benchmarks.compare $(BASE)

recipes: .venv/installed  ## Experiments from the literature: run what is missing, write the table (ONLY=name: that one)
	$(BIN)/python -m ode_runner.recipes $(ONLY)

clean:  ## Remove the virtual environment and caches; outputs stay
	rm -rf .venv .venv-peers site .mypy_cache .ruff_cache .pytest_cache

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

.venv-peers/installed: tests/benchmarks/peers.txt
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet --requirement tests/benchmarks/peers.txt --editable .
	touch $@

.venv/installed-docs: .venv/installed
	$(BIN)/pip install --quiet --editable '.[docs]'
	touch $@
