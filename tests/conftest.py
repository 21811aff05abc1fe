"""Fixtures common to all tests."""

import gc
import hashlib
import itertools
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests import shape_checks
from tests.composition import Compose, composition

collect_ignore: list[str] = []  # pytest reads it

finished = itertools.count(1)
torch.set_num_threads(1)  # pytest-xdist runs as many workers as there are cores; more threads would only spin


@pytest.hookimpl(tryfirst=True)  # before `-m "not slow"` is applied
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a test marked `sampled(count)`, `count` of its parameters stay quick, the same ones every time."""
    drawn: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if item.get_closest_marker("sampled") is not None:
            drawn[item.nodeid.partition("[")[0]].append(item)
    for alike in drawn.values():
        alike.sort(key=lambda item: hashlib.sha256(item.nodeid.encode()).digest())
        [count] = alike[0].get_closest_marker("sampled").args
        for item in alike[count:]:
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish() -> None:
    """Each run collects garbage to measure its memory: it need not walk through all modules and all tests for that."""
    gc.freeze()
    gc.get_freeze_count = lambda: 1  # each run asks whether there are any; counting them takes 50 ms


def pytest_runtest_logfinish() -> None:
    """What tests import and keep is passed over, too, from time to time."""
    if next(finished) % 50 == 0:
        gc.collect()
        gc.freeze()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--shapes", action="store_true", help="check types and shapes of arrays in every call; slower")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--shapes"):
        shape_checks.install()  # before a test module imports what is checked
    else:
        collect_ignore.append("test_shapes.py")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.default_generator.manual_seed(0)  # torch.manual_seed also walks the stack, for GPUs: 3 ms a test


@pytest.fixture
def float64() -> Iterator[None]:
    """Numerical claims are tested in double precision."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The functions that would be compiled, as they are: the mathematics without the compiler."""
    for module in ("steps", "runs"):
        monkeypatch.setattr(f"ode_runner.compiling.{module}.compile_graph", lambda function, examples: function)
    for module in ("one_call", "whole_runs"):
        monkeypatch.setattr(f"ode_runner.compiling.{module}.compile_library", lambda functions, driver: None)


@pytest.fixture
def composed() -> Compose:
    """`composed("task=digits", "model=resnet")` is the configuration that ode-run would use."""
    return composition


@pytest.fixture
def mnist_dir() -> Path:
    """The folder of real MNIST files, where there is one."""
    root = Path(os.environ.get("ODE_RUN_DATA", "data"))
    if not (root / "MNIST" / "raw" / "train-images-idx3-ubyte").is_file():
        pytest.skip("needs MNIST: set ODE_RUN_DATA to a folder that holds MNIST/raw")
    return root
