"""The steps of a solve up to an event; the last step is recomputed so that it ends at the event."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from ode_runner.field import VectorField
from ode_runner.solvers.base import Solver
from ode_runner.solvers.dense_output import HermiteBirkhoffCurve, Quartic
from ode_runner.solvers.event_search import EventSearch
from ode_runner.solvers.one_step import ExplicitRungeKutta, Step
from ode_runner.solvers.tableau import time_tensor

ONE = torch.zeros(1, dtype=torch.int64)  # the only sample


def without_event(solver: Solver) -> Solver:
    """The solver without an event to find, for a backward pass."""
    return replace(solver, sought=None) if isinstance(solver, ExplicitRungeKutta) else solver


def up_to_event(solver: ExplicitRungeKutta, field: VectorField, steps: Iterator[Step]) -> Iterator[Step]:
    """The steps of one sample up to the event that the solver looks for, if any; f1 of the steps must be known."""
    return steps if solver.sought is None else _up_to_event(solver, EventSearch(solver.sought), field, steps)


def _up_to_event(
    solver: ExplicitRungeKutta, search: EventSearch, field: VectorField, steps: Iterator[Step]
) -> Iterator[Step]:
    for taken in steps:
        if not taken.ks:  # of length 0
            yield taken
            continue
        step = solver.detailed(field, taken)
        t0, t1 = (torch.tensor([t], dtype=torch.float64) for t in (step.t0, step.t1))
        root = search.find(_curve(solver, step), ONE, t0, t1)
        if not bool(root.isnan()):
            yield _cut(solver, search, field, step, t0 + root * (t1 - t0))
            return
        yield step


@torch.no_grad()
def _curve(solver: ExplicitRungeKutta, step: Step) -> Quartic | HermiteBirkhoffCurve:
    assert step.f1 is not None
    return solver.tableau.dense.curve(
        step.t1 - step.t0,
        ends=(step.y0, step.y1),
        slopes=(step.ks[0], step.f1),
        middle=solver.middle(step),
        inner=step.inner,
    )


def _cut(solver: ExplicitRungeKutta, search: EventSearch, field: VectorField, step: Step, root: Tensor) -> Step:
    """The step recomputed up to the event, whose time is the root of the dense output improved by one Newton step."""
    t0, y0, f0, sign = step.t0, step.y0, step.ks[0], search.sought.sign
    with torch.no_grad():
        y, _ = solver.step(field, t0, float(root), y0, f0)
        dy = field(time_tensor(float(root), y), y)
        ends = (torch.tensor([t], dtype=torch.float64) for t in (t0, step.t1))
        t1 = float(search.sought.corrected(root, y, dy, ONE, (next(ends), next(ends))))
    y1, ks = solver.step(field, t0, t1, y0, f0)
    due = [*(t for t in step.due if sign * t <= sign * t1), t1]
    cut = replace(step, t1=t1, due=due, y1=y1, ks=ks, f1=None, inner=(), curve=None, rates=(), stops=True)
    return solver.detailed(field, replace(cut, f1=field(time_tensor(t1, y1), y1))) if cut.dense else cut
