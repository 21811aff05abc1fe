"""Timing contenders in turn: A B A B ..., so that a slow minute of a shared machine hits them alike."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ode_runner.training.trainer import Trainer
from tests.benchmarks.ours import endless
from tests.benchmarks.plain import PlainLoop, PlainODENet


class BenchmarkFailed(Exception):
    """The contenders do not compute the same thing, so their times mean nothing."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One training step: making the batch, everything after that, and evaluations of the field on the way forward.

    `cpu_seconds` are those of all threads: what is left to compare when others keep the processor busy.
    """

    data_seconds: float
    compute_seconds: float
    cpu_seconds: float
    evaluations: int

    @property
    def seconds(self) -> float:
        return self.data_seconds + self.compute_seconds


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A source of batches and a training step that returns its evaluations of the field."""

    batches: Iterator[Any]
    step: Callable[[Any], int]
    device: torch.device

    def sample(self) -> Sample:
        begun, cpu_begun = now(self.device), time.process_time()
        batch = next(self.batches)
        ready = now(self.device)
        evaluations = self.step(batch)
        ended = now(self.device)
        return Sample(
            data_seconds=ready - begun,
            compute_seconds=ended - ready,
            cpu_seconds=time.process_time() - cpu_begun,
            evaluations=evaluations,
        )


@dataclass(frozen=True)
class Spread:
    """A median and what it is the median of."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(statistics.median(values), min(values), max(values))


def our_contender(trainer: Trainer) -> Contender:
    """The task's batches and `Trainer.train_step`, as `fit` calls it on a step that is not logged."""

    def step(batch: Any) -> int:
        return int(trainer.train_step(batch, measure_memory=False)["nfe/forward"])

    return Contender(batches=endless(trainer), step=step, device=trainer.device)


def plain_contender(loop: PlainLoop) -> Contender:
    """The DataLoader's batches and the plain loop's step."""

    def step(batch: Any) -> int:
        field = loop.model.field if isinstance(loop.model, PlainODENet) else None
        before = field.evaluations if field else 0
        loop.step(*batch)
        return field.evaluations - before if field else 0

    return Contender(batches=loop.batches(), step=step, device=loop.device)


def alternate(contenders: dict[str, Contender], *, pairs: int, warmup: int) -> dict[str, list[Sample]]:
    """`pairs` samples of each contender, taken in turn, after `warmup` that are thrown away."""
    taken: dict[str, list[Sample]] = {name: [] for name in contenders}
    for turn in range(warmup + pairs):
        for name, contender in contenders.items():
            sample = contender.sample()
            if turn >= warmup:
                taken[name].append(sample)
    return taken


def ratio(ours: Sequence[Sample], theirs: Sequence[Sample]) -> Spread:
    """Seconds of the first over seconds of the second, pair by pair."""
    return Spread.of([a.seconds / b.seconds for a, b in zip(ours, theirs, strict=True)])


def cpu_ratio(ours: Sequence[Sample], theirs: Sequence[Sample]) -> Spread:
    """The same in CPU seconds."""
    return Spread.of([a.cpu_seconds / b.cpu_seconds for a, b in zip(ours, theirs, strict=True)])


def seconds(samples: Sequence[Sample]) -> Spread:
    """Whole steps."""
    return Spread.of([sample.seconds for sample in samples])


def data_share(samples: Sequence[Sample]) -> Spread:
    """The part of a step that goes into making its batch."""
    return Spread.of([sample.data_seconds / sample.seconds for sample in samples])


def evaluations(samples: Sequence[Sample]) -> float:
    """Of the field, on the way forward, in the median step."""
    return statistics.median(sample.evaluations for sample in samples)


def now(device: torch.device) -> float:
    """Seconds, once everything queued on the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
