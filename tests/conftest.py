"""Fixtures common to all tests."""

import gc
import hashlib
import itertools
import os
import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from ode_runner.config.garbage_collection import pass_over_imported
from tests import shape_checks
from tests.composition import Compose, composition

collect_ignore: list[str] = []  # pytest reads it

finished = itertools.count(1)
BEGUN = pytest.StashKey[float]()
MOST_SECONDS = 5  # processor time of one quick test
MOST_SLOW_SECONDS = 1800  # wall time of a slow test that sets no other limit; the machine may be shared
if (
    signal.getsignal(signal.SIGINT) == signal.SIG_IGN
):  # as in a background job of a shell; programs that tests start would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.fsync = lambda file: None  # what is written is read by processes of the same machine, which nobody switches off
torch.set_num_threads(1)  # pytest-xdist runs as many workers as there are cores; more threads would only spin


@pytest.hookimpl(tryfirst=True)  # before `-m "not slow"` is applied
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep `count` quick parameters of a test marked `sampled(count)`, and mark the others slow; set slow timeouts."""
    drawn: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if item.get_closest_marker("sampled") is not None and item.get_closest_marker("slow") is None:
            drawn[item.nodeid.partition("[")[0]].append(item)
    for alike in drawn.values():
        alike.sort(key=lambda item: hashlib.sha256(item.name.encode()).digest())
        [count] = alike[0].get_closest_marker("sampled").args
        for item in alike[count:]:
            item.add_marker(pytest.mark.slow)
    for item in items:
        if item.get_closest_marker("slow") is not None and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(MOST_SLOW_SECONDS))


def pytest_collection_finish() -> None:
    """Freeze modules and tests: each run collects garbage to measure memory, and would traverse all of them."""
    pass_over_imported()


def pytest_runtest_logfinish() -> None:
    """Freeze what tests have imported and kept, from time to time."""
    if next(finished) % 50 == 0:
        gc.collect()
        gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    item.stash[BEGUN] = time.process_time()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    try:
        return (yield)
    finally:
        item.user_properties.append(("processor_seconds", time.process_time() - item.stash[BEGUN]))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """List the quick tests that take most processor time, which does not depend on other processes."""
    if terminalreporter.config.option.markexpr != "not slow":
        return
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    spent = [
        (dict(report.user_properties).get("processor_seconds", 0.0), report.nodeid)
        for report in reports
        if getattr(report, "when", "") == "call"
    ]
    terminalreporter.section(f"{sum(seconds for seconds, _ in spent):.0f} s of the processor, most of them in")
    for seconds, name in sorted(spent, reverse=True)[:10]:
        warning = f"  more than {MOST_SECONDS} s: make it smaller, or slow" if seconds > MOST_SECONDS else ""
        terminalreporter.line(f"{seconds:6.1f} s  {name}{warning}")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--shapes", action="store_true", help="check types and shapes of arrays in every call; slower")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--shapes"):
        shape_checks.install()  # before a test module imports what is checked
    else:
        collect_ignore.append("project/test_shapes.py")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.default_generator.manual_seed(0)  # torch.manual_seed also walks the stack, for GPUs: 3 ms a test


@pytest.fixture
def float64() -> Iterator[None]:
    """Makes float64 the default type, in which numerical claims are tested."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves functions uncompiled, to test the mathematics without the compiler."""
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
    """The folder of real MNIST files; skips the test if there is none."""
    root = Path(os.environ.get("ODE_RUN_DATA", "data"))
    if not (root / "MNIST" / "raw" / "train-images-idx3-ubyte").is_file():
        pytest.skip("needs MNIST: set ODE_RUN_DATA to a folder that holds MNIST/raw")
    return root
