"""Separate steps of each sample, shortened to an event if they meet one."""

import torch
from torch import Tensor

from ode_runner.solvers.event_search import EventSearch
from ode_runner.solvers.mapped_field import MappedField
from ode_runner.solvers.sample_step import Attempt, Stepped, curve_of, take
from ode_runner.solvers.tableau import EmbeddedTableau
from ode_runner.types import State


def met_event(
    search: EventSearch,
    field: MappedField,
    tableau: EmbeddedTableau,
    attempt: Attempt,
    step: Stepped,
    f0: State,
    *,
    rows: Tensor,
    samples: Tensor,
) -> tuple[Tensor, Tensor, Stepped] | None:
    """Which of the accepted `rows` meet the event, when, and their steps recomputed up to that time.

    A step is first recomputed up to the root of its dense output. One Newton step from there gives the time of the
    event, to which the step is recomputed again. None: no row meets the event.

    Args:
        search: the search for the event.
        field: the field at the rows of the attempt.
        tableau: the tableau of the method.
        attempt: the times of all rows.
        step: the result of the attempt, with the slopes at its end.
        f0: the slopes at its beginning.
        rows: the accepted rows.
        samples: the samples of all rows.
    """
    there, steps = rows.to(f0.device), attempt.of(rows)
    with torch.no_grad():
        curve = curve_of(field.of(rows), tableau, steps, step.of(there))
    root = search.find(curve, samples[rows], steps.t0, steps.t1)
    met = root.isnan().logical_not()
    if not bool(met.any()):
        return None
    rows, steps, root = rows[met], steps.of(met), root[met]
    there, some = rows.to(f0.device), field.of(rows)
    y0, f0, t = step.y0[there], f0[there], steps.t0 + root * (steps.t1 - steps.t0)
    with torch.no_grad():
        y = take(some, tableau, Attempt(t0=steps.t0, t1=t), y0, f0, last=False).y1
        t = search.sought.corrected(t, y, some(t.to(y), y), samples[rows], (steps.t0, steps.t1))
    return rows, t, take(some, tableau, Attempt(t0=steps.t0, t1=t), y0, f0, last=True)
