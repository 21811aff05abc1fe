"""The ledger: counts of evaluations of fields, steps and Jacobian products, by phase of the run."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from torch import Tensor


class Phase(StrEnum):
    """The purpose of an evaluation."""

    FORWARD = "forward"
    BACKWARD = "backward"
    EVALUATION = "evaluation"
    SAMPLING = "sampling"
    DIAGNOSTICS = "diagnostics"


@dataclass
class Tally:
    """Counts of evaluations of the field, of attempted steps, and of products with its Jacobian."""

    evaluations: float = 0  # fractional if a solver evaluates the parts of a split field separately
    accepted: int = 0
    rejected: int = 0
    products: int = 0
    smallest_step: float | None = None  # the smallest accepted step under step control; None: not known

    def add(self, other: "Tally") -> None:
        self.evaluations += other.evaluations
        self.products += other.products
        if other.accepted or other.rejected:
            self.enter(other.accepted, other.rejected, other.smallest_step)

    def enter(self, accepted: int, rejected: int, smallest_step: float | None) -> None:
        """Add the steps of a solve."""
        self.accepted += accepted
        self.rejected += rejected
        known = [size for size in (self.smallest_step, smallest_step) if size is not None]
        self.smallest_step = min(known, default=None)


@dataclass(frozen=True, kw_only=True)
class EachSample:
    """Evaluations and steps of each sample, if every sample has its own steps: int64 (batch,), on the CPU."""

    evaluations: Tensor  # as many as a solve of the sample alone would take
    accepted: Tensor
    rejected: Tensor
    failures: Mapping[int, str]  # by sample: why it did not reach its last time; it has no values after the failure
    next_steps: tuple[float, ...] = ()  # the step size of each sample that step control would try next

    def most_attempts(self) -> tuple[int, int]:
        """Accepted and rejected steps of the sample with the most attempts, which represent the whole solve."""
        attempts = self.accepted + self.rejected
        hardest = int(attempts.argmax()) if len(attempts) else None
        return (0, 0) if hardest is None else (int(self.accepted[hardest]), int(self.rejected[hardest]))


class Ledger:
    """Counts every evaluation of a run, under the phase it was made for.

    One evaluation is one call of the field on a whole batch. A call of one part of a split field is half an evaluation.
    """

    def __init__(self) -> None:
        self.totals = {phase: Tally() for phase in Phase}
        self.tally = self.totals[Phase.DIAGNOSTICS]  # calls outside any phase count as diagnostics
        self.watched: list[EachSample] | None = None

    @contextmanager
    def phase(self, phase: Phase) -> Iterator[Tally]:
        """Count what happens inside under `phase`; yields the tally of this block alone."""
        outer, self.tally = self.tally, Tally()
        try:
            yield self.tally
        finally:
            self.totals[phase].add(self.tally)
            self.tally = outer

    @contextmanager
    def each_sample(self) -> Iterator[list[EachSample]]:
        """Yields a list to which every solve inside adds its `EachSample`, if every sample has its own steps."""
        outer, self.watched = self.watched, []
        try:
            yield self.watched
        finally:
            self.watched = outer

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """Restores all totals at the end, as if nothing inside had been counted."""
        totals = {phase: replace(tally) for phase, tally in self.totals.items()}
        try:
            yield
        finally:
            for phase, total in totals.items():
                self.put_back(phase, total)

    def put_back(self, phase: Phase, total: Tally) -> None:
        """Set a phase's total back to an earlier one, as if nothing had been counted since."""
        vars(self.totals[phase]).update(vars(total))

    def enter(self, each: EachSample) -> None:
        """Add the counts of a solve by sample to the list of `each_sample`, if inside one."""
        if self.watched is not None:
            self.watched.append(each)

    def state_dict(self) -> dict[str, dict[str, float]]:
        return {phase.value: dict(vars(tally)) for phase, tally in self.totals.items()}

    def load_state_dict(self, state: dict[str, dict[str, Any]]) -> None:
        for phase, tally in state.items():
            self.totals[Phase(phase)] = Tally(**tally)
