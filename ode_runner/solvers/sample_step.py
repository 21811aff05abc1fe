"""A step with a different length for each sample, as a pure function of times and states at its beginning."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ode_runner.solvers.dense_output import HermiteBirkhoffCurve, Quartic
from ode_runner.solvers.mapped_field import MappedField
from ode_runner.solvers.tableau import EmbeddedTableau, advance, explicit_step, stage_time
from ode_runner.types import Rows, State


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """A step for every row of a state, from `t0` to `t1`, float64 (rows,) on the CPU."""

    t0: Tensor
    t1: Tensor

    def of(self, rows: Tensor) -> "Attempt":
        """The steps of some rows."""
        return Attempt(t0=self.t0[rows], t1=self.t1[rows])


class Rescaled:
    """The field in one attempt, rescaled: every step has length 1, and slopes are multiplied by the true length.

    So the same `explicit_step` serves common and separate steps.
    """

    def __init__(self, field: MappedField, attempt: Attempt, like: State, *, nodes: tuple[float, ...]) -> None:
        times = [stage_time(attempt.t0, attempt.t1, c) for c in nodes]
        self.field = field
        self.times = dict(zip(nodes, torch.stack(times).to(like).unbind(), strict=True))  # in one transfer
        self.length = along_rows(attempt.t1 - attempt.t0, like)

    def __call__(self, c: float, y: State) -> State:
        """The slope of y at a node."""
        return self.length * self.field(self.times[c], y)


class Stepped(NamedTuple):
    """The result of an attempted step of several rows."""

    y0: State
    y1: State
    ks: list[Tensor]  # the stages' derivatives, times the length of each row's step
    length: Tensor  # lengths of the steps, shaped to broadcast against states
    f1: State | None  # f(t1, y1), if it was evaluated

    def of(self, rows: Tensor) -> "Stepped":
        """The result of some rows."""
        ks = [k[rows] for k in self.ks]
        f1 = None if self.f1 is None else self.f1[rows]
        return Stepped(self.y0[rows], self.y1[rows], ks, self.length[rows], f1)

    def with_rows(self, rows: Tensor, others: "Stepped") -> "Stepped":
        """The result with some rows replaced by `others`; f1 must be known in both."""
        assert self.f1 is not None
        assert others.f1 is not None
        rows = rows.to(self.y1.device)
        ks = [k.index_put((rows,), other) for k, other in zip(self.ks, others.ks, strict=True)]
        y1, f1 = self.y1.index_put((rows,), others.y1), self.f1.index_put((rows,), others.f1)
        return Stepped(self.y0, y1, ks, self.length.index_put((rows,), others.length), f1)

    def slopes(self) -> list[Tensor]:
        """The stages' derivatives, followed by that at (t1, y1) if it is known, all times the length of the step."""
        return self.ks if self.f1 is None else [*self.ks, self.length * self.f1]


@dataclass(frozen=True, kw_only=True)
class Due:
    """The output times within the steps of an attempt; those at the end of a step come first."""

    rows: Tensor  # row of the attempt
    samples: Tensor
    time_indices: Tensor  # of the output times
    fraction: Tensor  # fraction of the step, float64
    ends: int  # how many are at the end of their step

    @property
    def dense(self) -> bool:
        """Whether an output time lies within a step rather than at its end."""
        return self.ends < len(self.rows)

    @staticmethod
    def none() -> "Due":
        """No output times at all."""
        nothing = torch.zeros(0, dtype=torch.int64)
        return Due(rows=nothing, samples=nothing, time_indices=nothing, fraction=nothing.double(), ends=0)


@dataclass(frozen=True, kw_only=True)
class Round:
    """The steps that were accepted in one round of attempts, without their states."""

    attempt: Attempt
    due: Due
    samples: Tensor  # the samples of the steps

    @staticmethod
    def of_accepted(attempt: Attempt, due: Due, samples: Tensor, accepted: Tensor) -> "Round":
        """The `accepted` rows of an attempt, whose rows are `samples`."""
        if bool(accepted.all()):
            return Round(attempt=attempt, due=due, samples=samples)
        rows, position = accepted.nonzero().flatten(), accepted.cumsum(0) - 1
        due = Due(
            rows=position[due.rows],
            samples=due.samples,
            time_indices=due.time_indices,
            fraction=due.fraction,
            ends=due.ends,
        )
        return Round(attempt=attempt.of(rows), due=due, samples=samples[rows])

    def recompute(self, field: MappedField, tableau: EmbeddedTableau, y0: State) -> tuple[State, Rows]:
        """The states at the end of the steps, and those at the output times due, from `y0`."""
        step = take(field, tableau, self.attempt, y0, field(self.attempt.t0.to(y0), y0), last=self.due.dense)
        return step.y1, outputs(field, tableau, self.attempt, self.due, step)


Journal = list[tuple[Round, Rows]]  # rounds, and the states at the beginning of their steps


def take(
    field: MappedField, tableau: EmbeddedTableau, attempt: Attempt, y0: State, f0: State, *, last: bool
) -> Stepped:
    """An attempt from `y0`, where f0 = f(t0, y0); `last`: f(t1, y1) is evaluated, too."""
    unit = Rescaled(field, attempt, y0, nodes=(*tableau.c, 1.0))
    y1, ks = explicit_step(tableau, unit, 1.0, y0, unit.length * f0, rows=tableau.stages)
    return Stepped(y0, y1, ks, unit.length, field(unit.times[1.0], y1) if last else None)


def outputs(field: MappedField, tableau: EmbeddedTableau, attempt: Attempt, due: Due, step: Stepped) -> Rows:
    """States at the output times due, those within a step by its dense output."""
    at_end = step.y1[due.rows[: due.ends].to(step.y1.device)]
    if not due.dense:
        return at_end
    rows, position = due.rows[due.ends :].unique(return_inverse=True)  # a step may serve several
    curve = curve_of(field.of(rows), tableau, attempt.of(rows), step.of(rows.to(step.y1.device)))
    return torch.cat([at_end, curve.of_rows(position.to(at_end.device), due.fraction[due.ends :])])


def curve_of(
    field: MappedField, tableau: EmbeddedTableau, attempt: Attempt, step: Stepped
) -> Quartic | HermiteBirkhoffCurve:
    """The dense output of every row; the tableau's extra stages are evaluated for it."""
    ks, inner, middle, y0 = step.slopes(), list[Tensor](), None, step.y0
    if tableau.extra_stages:
        nodes = tuple(map(sum, tableau.extra_stages))
        unit = Rescaled(field, attempt, y0, nodes=nodes)
        for c, row in zip(nodes, tableau.extra_stages, strict=True):
            middle = advance(y0, 1.0, row, [*ks, *inner])
            inner.append(unit(c, middle))
    elif tableau.middle is not None:
        middle = advance(y0, 1.0, tableau.middle, ks[: len(tableau.b)])
    return tableau.dense.curve(1.0, ends=(y0, step.y1), slopes=(ks[0], ks[-1]), middle=middle, inner=inner)


def along_rows(values: Tensor, like: State) -> Tensor:
    """One number per row, in the dtype of the state `like` and shaped to broadcast against it."""
    return values.to(like).view(-1, *[1] * (like.dim() - 1))
