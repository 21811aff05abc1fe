"""Training steps on a GPU by the clock, and where their time goes: what the other modules here share."""

import statistics
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from tests.benchmarks.measure import now

ROWS = 5  # of which the median is taken, after one that warms up


def seconds_a_step(step: Callable[[Any], object], batches: Sequence[Any], device: torch.device) -> float:
    """Where steps follow each other as in training: the median of rows of as many steps as there are batches."""
    rows = []
    for _ in range(1 + ROWS):
        begun = now(device)
        for batch in batches:
            step(batch)
        rows.append((now(device) - begun) / len(batches))
    return statistics.median(rows[1:])


def kernels(step: Callable[[Any], object], batches: Sequence[Any], device: torch.device) -> tuple[float, float]:
    """Milliseconds of a step in which kernels run, and how many there are; none on a CPU."""
    if device.type != "cuda":
        return 0.0, 0.0
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        for batch in batches:
            step(batch)
        torch.cuda.synchronize()
    events = [event for event in seen.events() if event.device_type.name == "CUDA"]
    return sum(event.device_time for event in events) / 1000 / len(batches), len(events) / len(batches)


def synchronisations(step: Callable[[], object]) -> float:
    """How often a step waits for the GPU, as torch warns of it."""
    if not torch.cuda.is_available():
        return 0.0
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return float(sum("synchroniz" in str(warning.message) for warning in caught))
