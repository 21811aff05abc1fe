"""Seconds of the processor that a step takes, and those of two steps in turn."""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

LEAST_PAIRS = 2  # that have quartiles


def add_pairs(parser: argparse.ArgumentParser, *, default: int, of: str) -> None:
    """Let `parser` take --pairs, how many `of` something each contender makes; fewer than two are refused."""
    what = f"{of} (default {default}, at least {LEAST_PAIRS})"
    parser.add_argument("--pairs", type=_pairs, default=default, metavar="PAIRS", help=what)


def _pairs(text: str) -> int:
    if not text.isdecimal() or int(text) < LEAST_PAIRS:
        raise argparse.ArgumentTypeError(f"{text} is no number of pairs. Type {LEAST_PAIRS} or more.")
    return int(text)


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
