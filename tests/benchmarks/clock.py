"""Seconds of the processor that a step takes, and those of two steps in turn."""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


def timed(step: Callable[[], object]) -> float:
    """Seconds of CPU time of this process: other processes on the same cores do not count."""
    begun = time.process_time()
    step()
    return time.process_time() - begun


def seconds_with_children() -> float:
    """Of CPU so far: of all threads, and of compilers that were called, which are processes of their own."""
    return sum(os.times()[:4])


@dataclass(frozen=True, kw_only=True)
class InTurn:
    """Medians of two steps in seconds, and quartiles of the first over the second, pair by pair."""

    first: float
    second: float
    low: float
    ratio: float
    high: float

    @classmethod
    def of(cls, first: Callable[[], object], second: Callable[[], object], *, pairs: int, warmup: int) -> "InTurn":
        seconds = [(timed(first), timed(second)) for _ in range(warmup + pairs)][warmup:]
        low, ratio, high = statistics.quantiles([a / b for a, b in seconds], n=4)
        a, b = (statistics.median(times) for times in zip(*seconds, strict=True))
        return cls(first=a, second=b, low=low, ratio=ratio, high=high)
