"""A step whose length differs from sample to sample, as a pure function of where each begins."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ode_runner.solvers.birkhoff import Curve
from ode_runner.solvers.mapped_field import MappedField
from ode_runner.solvers.one_step import Polynomial
from ode_runner.solvers.tableau import EmbeddedTableau
from ode_runner.types import State


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """A step for every row of a state, from `t0` to `t1`, float64 (rows,) on the CPU."""

    t0: Tensor
    t1: Tensor

    def times(self, nodes: tuple[float, ...], like: State) -> list[Tensor]:
        """The stages' times (rows,) as the field takes them; those of node 1 are `t1` itself, whatever its rounding."""
        t0, t1, c = self.t0[:, None], self.t1[:, None], torch.tensor(nodes, dtype=torch.float64)
        return list(torch.where(c > 1 - 1e-9, t1, t0 + c * (t1 - t0)).to(like).unbind(1))

    def length(self, like: State) -> Tensor:
        """t1 - t0, to multiply states with."""
        return along_rows(self.t1 - self.t0, like)


@dataclass(frozen=True, kw_only=True)
class Due:
    """Output times that an attempt serves; those at the end of its steps come first."""

    rows: Tensor  # of the attempt
    samples: Tensor
    places: Tensor  # among the output times
    fraction: Tensor  # of the step, float64
    ends: int  # how many are at the end


@dataclass(frozen=True, kw_only=True)
class Round:
    """The steps that were accepted in one round of attempts, without their states."""

    attempt: Attempt
    due: Due
    samples: Tensor  # whose steps they are

    @staticmethod
    def of_accepted(attempt: Attempt, due: Due, samples: Tensor, accepted: Tensor) -> "Round":
        """The `accepted` rows of an attempt, whose rows are `samples`."""
        rows, position = accepted.nonzero().flatten(), accepted.cumsum(0) - 1
        return Round(
            attempt=Attempt(t0=attempt.t0[rows], t1=attempt.t1[rows]),
            due=Due(
                rows=position[due.rows],
                samples=due.samples,
                places=due.places,
                fraction=due.fraction,
                ends=due.ends,
            ),
            samples=samples[rows],
        )

    def retake(self, field: MappedField, tableau: EmbeddedTableau, y0: State) -> tuple[State, State]:
        """The states at the end of the steps, and those at the output times due, from `y0`."""
        f0 = field(self.attempt.t0.to(y0), y0)
        y1, ks = stages(field, tableau, self.attempt, y0, f0)
        dense = self.due.ends < len(self.due.rows)
        f1 = field(self.attempt.t1.to(y1), y1) if dense else f0
        ks = [*ks, f1] if tableau.first_same_as_last else ks
        return y1, outputs(field, tableau, self.attempt, self.due, ends=(y0, y1), slopes=(f0, f1), ks=ks)


Journal = list[tuple[Round, State]]  # with the states from which the steps were taken


def stages(
    field: MappedField, tableau: EmbeddedTableau, attempt: Attempt, y0: State, f0: State
) -> tuple[State, list[Tensor]]:
    """The states at the end of the attempt, and the derivatives they are made of."""
    dt, times, ks = attempt.length(y0), attempt.times(tableau.c, y0), [f0]
    for t, row in zip(times[1 : tableau.stages], tableau.a[1 : tableau.stages], strict=True):
        ks.append(field(t, advance_rows(y0, dt, row, ks)))
    return advance_rows(y0, dt, tableau.b[: tableau.stages], ks), ks


def outputs(
    field: MappedField,
    tableau: EmbeddedTableau,
    attempt: Attempt,
    due: Due,
    *,
    ends: tuple[State, State],
    slopes: tuple[State, State],
    ks: list[Tensor],
) -> State:
    """States at the output times due; those within a step by its dense output. `ks` are those of `tableau.middle`."""
    y0, y1 = ends
    rows = due.rows.to(y1.device)
    at_end = y1[rows[: due.ends]]
    if due.ends == len(rows):
        return at_end
    if tableau.places:
        return torch.cat([at_end, _in_detail(field, tableau, attempt, due, ends=ends, ks=ks)])
    dt = attempt.length(y0)
    middle = None if tableau.middle is None else advance_rows(y0, dt, tableau.middle, ks)
    curve = Polynomial.through(0.0, dt, ends=ends, slopes=slopes, middle=middle)
    return torch.cat([at_end, curve.of_rows(rows[due.ends :], along_rows(due.fraction[due.ends :], y0))])


def _in_detail(
    field: MappedField,
    tableau: EmbeddedTableau,
    attempt: Attempt,
    due: Due,
    *,
    ends: tuple[State, State],
    ks: list[Tensor],
) -> State:
    """States within their steps, by a dense output with places of its own, evaluated for the rows that ask for it."""
    rows, position = due.rows[due.ends :].unique(return_inverse=True)
    attempt = Attempt(t0=attempt.t0[rows], t1=attempt.t1[rows])
    field, rows = field.of(rows), rows.to(ks[0].device)
    y0, y1, *ks = (x[rows] for x in (*ends, *ks))
    dt, middle = attempt.length(y0), y0
    for t, row in zip(attempt.times(tableau.birkhoff.nodes, y0), tableau.places, strict=True):
        middle = advance_rows(y0, dt, row, ks)
        ks = [*ks, field(t, middle)]
    slopes = (ks[0], *ks[tableau.stages :])
    curve = Curve.through(tableau.birkhoff, 0.0, dt, ends=(y0, y1), slopes=slopes, middle=middle)
    return curve.of_rows(position.to(y0.device), due.fraction[due.ends :])


def advance_rows(y: State, dt: Tensor, weights: Iterable[float], ks: Iterable[Tensor]) -> State:
    """`tableau.advance` by a step for each row; autograd keeps nothing but the steps."""
    for weight, k in zip(weights, ks, strict=True):
        if weight:
            y = torch.addcmul(y, dt, k, value=weight)
    return y


def along_rows(values: Tensor, like: State) -> Tensor:
    """One number for each row, in the type of a state and shaped to be multiplied with it."""
    return values.to(like).view(-1, *[1] * (like.dim() - 1))
