"""The ledger in which every evaluation of a field is entered, by phase."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from torch import Tensor


class Phase(StrEnum):
    """What an evaluation was made for."""

    FORWARD = "forward"
    BACKWARD = "backward"
    EVALUATION = "evaluation"
    SAMPLING = "sampling"
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
        if other.accepted or other.rejected:
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

    def most_attempts(self) -> tuple[int, int]:
        """Accepted and rejected steps of the sample with the most attempts, which count as those of the solve."""
        attempts = self.accepted + self.rejected
        hardest = int(attempts.argmax()) if len(attempts) else None
        return (0, 0) if hardest is None else (int(self.accepted[hardest]), int(self.rejected[hardest]))


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
        """Set a phase's total back to an earlier one, as if nothing had been entered since."""
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
