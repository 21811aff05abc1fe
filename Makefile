# `make help` lists the targets. Everything runs in .venv, which is made when it is missing or outdated;
# PYTHON=python3.13 has one of its own, .venv-python3.13.
PYTHON ?= python3
VENV := $(if $(filter python3,$(notdir $(PYTHON))),.venv,.venv-$(notdir $(PYTHON)))
BIN := $(VENV)/bin
CHECK_SHAPES := $(BIN)/pytest -m "not slow" -n 2 --shapes $(addprefix tests/,$(addsuffix .py,project/test_shapes fields/test_given networks/test_networks))

unexport PYTHONDONTWRITEBYTECODE  # or each of the programs that tests start compiles all modules anew

.PHONY: help install run test test-full simulated-gpu lint format generated docs bench bench-peers bench-compare recipes clean

help:  ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## */\t/' | expand -t 14

install: $(VENV)/installed  ## Install into .venv, which `. .venv/bin/activate` switches on

run: $(VENV)/installed  ## Train an ODE-Net on scikit-learn's handwritten digits: under two minutes
	$(BIN)/ode-run task=digits model=odenet solver=dopri5

test: $(VENV)/installed-dev  ## Quick tests, then some of them once more with types and shapes of arrays checked
	$(BIN)/pytest -m "not slow" -n 2
	$(CHECK_SHAPES)

test-full: $(VENV)/installed-dev  ## All tests; among them a stranger's first day, whose screens are in outputs/journey
	$(BIN)/pytest -n 2
	$(CHECK_SHAPES)

simulated-gpu: $(VENV)/installed-dev  ## Tests of code for a GPU on a simulated one: minutes, and no numbers of speed
	$(BIN)/python -m tests.gpu.simulated_gpu -m pytest -n 2 -p tests.gpu.simulated_gpu.plugin \
	  tests/gpu/test_simulated_gpu.py tests/gpu/test_captured.py \
	  -k "not fp16 and not does_not_fit"

lint: $(VENV)/installed-dev  ## Style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy tests/gpu  # which no test without a GPU calls
	$(BIN)/mypy --platform win32 --cache-dir .mypy_cache/win32  # of its own: 3 seconds, but for the first time

format: $(VENV)/installed-dev  ## Rewrite to style
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

generated: $(VENV)/installed-dev  ## Write the parts of docs/ that are made from the program
	$(BIN)/python -m tests.documentation

docs: $(VENV)/installed-docs  ## Build docs/ as a site in site/; a dead link fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: $(VENV)/installed-dev  ## Our engine against torchdiffeq's and torchsde's, a flow, whole training steps (needs MNIST), the start
	$(BIN)/python -m tests.benchmarks.solving
	$(BIN)/python -m tests.benchmarks.operations
	$(BIN)/python -m tests.benchmarks.density
	$(BIN)/python -m tests.benchmarks.regularizers
	$(BIN)/python -m tests.benchmarks.path_models
	$(BIN)/python -m tests.benchmarks.stochastic
	$(BIN)/python -m tests.benchmarks.training
	$(BIN)/python -m tests.benchmarks.start

bench-peers: $(VENV)/installed-dev .venv-peers/installed  ## Beside torchcfm's training loop, torchcde and diffrax, in an environment of its own
	.venv-peers/bin/python -m tests.benchmarks.peers
	.venv-peers/bin/python -m tests.benchmarks.controls
	.venv-peers/bin/python -m tests.benchmarks.diffrax_solves
	.venv-peers/bin/python -m tests.benchmarks.ensembles

bench-compare: $(VENV)/installed-dev  ## This tree against another revision, step by step in turn (BASE=revision)
	$(BIN)/python -m tests.benchmarks.compare $(BASE)

recipes: $(VENV)/installed  ## Experiments from the literature: run what is missing, write the table (ONLY=name: that one)
	$(BIN)/python -m ode_runner.recipes $(ONLY)

clean:  ## Remove the virtual environment and caches; outputs stay
	rm -rf .venv .venv-* site .mypy_cache .ruff_cache .pytest_cache

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

.venv-peers/installed: tests/benchmarks/peers.txt
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet --requirement tests/benchmarks/peers.txt --editable .
	touch $@

$(VENV)/installed-docs: $(VENV)/installed
	$(BIN)/pip install --quiet --editable '.[docs]'
	touch $@
