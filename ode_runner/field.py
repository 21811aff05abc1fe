"""The right-hand side of an ODE, and the ledger in which every evaluation of it is entered."""

import abc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import final

import torch
from torch import Tensor, nn

from ode_runner.types import State, Time


class VectorField(nn.Module, abc.ABC):
    """The right-hand side of dy/dt = f(t, y)."""

    @abc.abstractmethod
    def forward(self, t: Time, y: State) -> State:
        """Derivative at time `t`, in the shape of `y`."""


class Phase(StrEnum):
    """What an evaluation was made for."""

    FORWARD = "forward"
    BACKWARD = "backward"
    EVALUATION = "evaluation"
    DIAGNOSTICS = "diagnostics"


@dataclass
class Tally:
    """Evaluations of the field and attempted steps."""

    evaluations: int = 0
    accepted: int = 0
    rejected: int = 0

    def add(self, other: "Tally") -> None:
        self.evaluations += other.evaluations
        self.accepted += other.accepted
        self.rejected += other.rejected


@dataclass(frozen=True, kw_only=True)
class EachSample:
    """What a solve took of every sample, where each has steps of its own: int64 (batch,), on the CPU."""

    evaluations: Tensor  # as many as the sample would take by itself
    accepted: Tensor
    rejected: Tensor
    failures: Mapping[int, str]  # by sample: why it did not reach the end of its span; it has no values from there on


class Ledger:
    """Every evaluation of a run, entered where it happens, under the phase it was made for.

    One evaluation is one call of the field on a whole batch.
    """

    def __init__(self) -> None:
        self.totals = {phase: Tally() for phase in Phase}
        self.tally = self.totals[Phase.DIAGNOSTICS]  # outside any phase somebody is looking around
        self.watched: list[EachSample] | None = None

    @contextmanager
    def phase(self, phase: Phase) -> Iterator[Tally]:
        """Enter what happens inside under `phase`; yields the tally of this block alone."""
        outer, self.tally = self.tally, Tally()
        try:
            yield self.tally
        finally:
            self.totals[phase].add(self.tally)
            self.tally = outer

    @contextmanager
    def each_sample(self) -> Iterator[list[EachSample]]:
        """Yields a list to which every solve inside adds what it took of each sample, if it steps them one by one."""
        outer, self.watched = self.watched, []
        try:
            yield self.watched
        finally:
            self.watched = outer

    def enter(self, each: EachSample) -> None:
        """Note what a solve took of each sample, for whoever is looking."""
        if self.watched is not None:
            self.watched.append(each)

    def state_dict(self) -> dict[str, dict[str, int]]:
        return {phase.value: dict(vars(tally)) for phase, tally in self.totals.items()}

    def load_state_dict(self, state: dict[str, dict[str, int]]) -> None:
        for phase, tally in state.items():
            self.totals[Phase(phase)] = Tally(**tally)


@final
class CountedField(VectorField):
    """Forwards to another field and enters each call in the ledger."""

    def __init__(self, field: VectorField, ledger: Ledger) -> None:
        super().__init__()
        self.field = field
        self.ledger = ledger

    def forward(self, t: Time, y: State) -> State:
        self.ledger.tally.evaluations += 1
        return self.field(t, y)


@final
class AutocastField(VectorField):
    """Evaluates another field in `dtype` where autocast deems it safe; time and state keep their own."""

    def __init__(self, field: VectorField, dtype: torch.dtype) -> None:
        super().__init__()
        self.field = field
        self.dtype = dtype

    def forward(self, t: Time, y: State) -> State:
        with torch.autocast(y.device.type, dtype=self.dtype):
            dy = self.field(t, y)
        return dy.to(y.dtype)
