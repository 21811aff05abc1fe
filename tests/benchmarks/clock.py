"""Seconds of the processor that a step takes, and those of two steps in turn."""

import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


def timed(step: Callable[[], object]) -> float:
    """Seconds of CPU time of this process: other processes on the same cores do not count."""
    begun = time.process_time()
    step()
    return time.process_time() - begun


def seconds_with_children() -> float:
    """Of CPU so far: of all threads, and of compilers that were called, which are processes of their own."""
    return sum(os.times()[:4])


def quartiles(first: Sequence[float], second: Sequence[float]) -> list[float]:
    """Of the first over the second, pair by pair: both were taken in turn."""
    return statistics.quantiles([a / b for a, b in zip(first, second, strict=True)], n=4)


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
        ours, theirs = zip(*seconds, strict=True)
        low, ratio, high = quartiles(ours, theirs)
        return cls(first=statistics.median(ours), second=statistics.median(theirs), low=low, ratio=ratio, high=high)
