"""The right-hand side of an ODE, and the ledger in which every evaluation of it is entered."""

import abc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, final

import torch
from torch import Tensor, nn

from ode_runner.random_state import RandomState
from ode_runner.types import State, Time


class VectorField(nn.Module, abc.ABC):
    """The right-hand side of dy/dt = f(t, y)."""

    @abc.abstractmethod
    def forward(self, t: Time, y: State) -> State:
        """Derivative at time `t`, in the shape of `y`."""


class StackedField(VectorField):
    """A field on a flat state: `copies` of a batch of `shape`, and after them quadratures, on which nothing depends."""

    shape: torch.Size  # (batch, *state)
    copies: int


class KnownJacobian(VectorField):
    """A field that gives its own derivative by the state, which implicit solvers then use; samples do not interact."""

    @abc.abstractmethod
    def jacobian(self, t: Time, y: State) -> Tensor:
        """df/dy of every sample, (batch, element, element), without a graph."""


class SeparableField(VectorField):
    """dq/dt = drift(t, p), dp/dt = kick(t, q), where y = (q, p): the halves of the state's first axis after the batch.

    What a separable Hamiltonian makes, H = T(p) + V(q), and any other field neither half of which asks for itself.

    Hairer, Lubich, Wanner. Geometric Numerical Integration. Springer 2006, I.1.
    """

    @abc.abstractmethod
    def drift(self, t: Time, p: State) -> State:
        """dq/dt."""

    @abc.abstractmethod
    def kick(self, t: Time, q: State) -> State:
        """dp/dt."""

    def forward(self, t: Time, y: State) -> State:
        q, p = y.chunk(2, dim=1)
        return torch.cat([self.drift(t, p), self.kick(t, q)], dim=1)


class Phase(StrEnum):
    """What an evaluation was made for."""

    FORWARD = "forward"
    BACKWARD = "backward"
    EVALUATION = "evaluation"
    DIAGNOSTICS = "diagnostics"


@dataclass
class Tally:
    """Evaluations of the field, attempted steps, and products with its Jacobian that implicit stages take."""

    evaluations: float = 0  # whole, unless a solver asks for the halves of a separable field one by one
    accepted: int = 0
    rejected: int = 0
    products: int = 0
    smallest_step: float | None = None  # accepted, where step control chooses and tells

    def add(self, other: "Tally") -> None:
        self.evaluations += other.evaluations
        self.products += other.products
        self.enter(other.accepted, other.rejected, other.smallest_step)

    def enter(self, accepted: int, rejected: int, smallest_step: float | None) -> None:
        """The steps of a solve."""
        self.accepted += accepted
        self.rejected += rejected
        known = [size for size in (self.smallest_step, smallest_step) if size is not None]
        self.smallest_step = min(known, default=None)


@dataclass(frozen=True, kw_only=True)
class EachSample:
    """What a solve took of every sample, where each has steps of its own: int64 (batch,), on the CPU."""

    evaluations: Tensor  # as many as the sample would take by itself
    accepted: Tensor
    rejected: Tensor
    failures: Mapping[int, str]  # by sample: why it did not reach the end of its span; it has no values from there on


class Ledger:
    """Every evaluation of a run, entered where it happens, under the phase it was made for.

    One evaluation is one call of the field on a whole batch; half of a separable field is half an evaluation.
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

    def put_back(self, phase: Phase, total: Tally) -> None:
        """As if nothing had been entered since the phase's total was this."""
        vars(self.totals[phase]).update(vars(total))

    def enter(self, each: EachSample) -> None:
        """Note what a solve took of each sample, for whoever is looking."""
        if self.watched is not None:
            self.watched.append(each)

    def state_dict(self) -> dict[str, dict[str, float]]:
        return {phase.value: dict(vars(tally)) for phase, tally in self.totals.items()}

    def load_state_dict(self, state: dict[str, dict[str, Any]]) -> None:
        for phase, tally in state.items():
            self.totals[Phase(phase)] = Tally(**tally)


Evaluated = Callable[[Any, State], State]  # a time, or one for each sample, and a state to a derivative


class Observer(abc.ABC):
    """Makes the evaluations of a field, and sees what happens in them."""

    random = False  # an evaluation has drawn random numbers

    def __init__(self) -> None:
        self.draws: list[tuple[float, RandomState]] = []  # times of evaluations, and the generators before each

    @abc.abstractmethod
    def evaluate(self, function: Evaluated, t: Tensor, y: State) -> State:
        """function(t, y)."""


class CountedField(VectorField):
    """Forwards to another field, under the eyes of an observer if there is one, and enters each call in the ledger."""

    def __init__(self, field: VectorField, ledger: Ledger) -> None:
        super().__init__()
        self.field = field
        self.ledger = ledger
        self.observer: Observer | None = None

    @staticmethod
    def around(field: VectorField, ledger: Ledger) -> "CountedField":
        """The field counted, and separable if it is."""
        return _CountedHalves(field, ledger) if isinstance(field, SeparableField) else CountedField(field, ledger)

    def forward(self, t: Time, y: State) -> State:
        return self._evaluated(self.field, t, y, count=1)

    def _evaluated(self, function: Evaluated, t: Time, y: State, *, count: float) -> State:
        self.ledger.tally.evaluations += count
        return function(t, y) if self.observer is None else self.observer.evaluate(function, t, y)


@final
class _CountedHalves(CountedField, SeparableField):
    def __init__(self, field: SeparableField, ledger: Ledger) -> None:
        super().__init__(field, ledger)
        self.halves = field.drift, field.kick

    def drift(self, t: Time, p: State) -> State:
        return self._evaluated(self.halves[0], t, p, count=0.5)

    def kick(self, t: Time, q: State) -> State:
        return self._evaluated(self.halves[1], t, q, count=0.5)


class AutocastField(VectorField):
    """Evaluates another field in `dtype` where autocast deems it safe; time and state keep their own."""

    def __init__(self, field: VectorField, dtype: torch.dtype) -> None:
        super().__init__()
        self.field = field
        self.dtype = dtype

    @staticmethod
    def around(field: VectorField, dtype: torch.dtype) -> "AutocastField":
        """The field in lower precision, and separable if it is."""
        return _AutocastHalves(field, dtype) if isinstance(field, SeparableField) else AutocastField(field, dtype)

    def forward(self, t: Time, y: State) -> State:
        return self._lowered(self.field, t, y)

    def _lowered(self, function: Callable[[Time, State], State], t: Time, y: State) -> State:
        with torch.autocast(y.device.type, dtype=self.dtype):
            dy = function(t, y)
        return dy.to(y.dtype)


@final
class _AutocastHalves(AutocastField, SeparableField):
    def __init__(self, field: SeparableField, dtype: torch.dtype) -> None:
        super().__init__(field, dtype)
        self.halves = field.drift, field.kick

    def drift(self, t: Time, p: State) -> State:
        return self._lowered(self.halves[0], t, p)

    def kick(self, t: Time, q: State) -> State:
        return self._lowered(self.halves[1], t, q)


def name_of(field: VectorField) -> str:
    """The class of a field, whatever it is wrapped in."""
    while isinstance(field, CountedField | AutocastField):
        field = field.field
    return type(field).__name__
