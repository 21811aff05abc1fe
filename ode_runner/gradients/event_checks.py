"""Checks that solver and gradient mode take a solve with events."""

from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.event import Event
from ode_runner.gradients.base import GradientMode
from ode_runner.solvers.base import Solver
from ode_runner.solvers.one_step import ExplicitRungeKutta
from ode_runner.solvers.per_sample import PerSampleStepping


def steps_each(solver: Solver) -> bool:
    """Whether every sample has its own steps."""
    return isinstance(solver, PerSampleStepping) and solver.per_sample


def check_takes_events(solver: Solver, gradient: GradientMode | None, *, batch: int) -> None:
    """Raises IncompatibleChoice if solver or gradient mode do not take solves with events for this batch size.

    `gradient` is None if nothing is differentiated.
    """
    name = solver.shown_name
    if not isinstance(solver, ExplicitRungeKutta):
        instead = "Use solver=dopri5." if solver.of_ordinary_equations else "Those of other equations are not found."
        raise IncompatibleChoice(
            f"{name} finds no events: that takes an explicit Runge-Kutta solver of ordinary equations. {instead}"
        )
    if gradient is not None and not gradient.to_events:
        raise IncompatibleChoice(
            f"{gradient.shown_name} takes no solves with events. Use gradient=backprop or "
            "checkpoint; or adjoint, for batches of one sample."
        )
    if batch > 1 and not steps_each(solver):
        raise IncompatibleChoice(
            f"{name} takes steps common to the whole batch, here of {batch} samples, and an event is at another time "
            "in each of them. Use solver=dopri5 solver.per_sample=true, or batches of one: trainer.batch_size=1 "
            "trainer.eval_batch_size=1."
        )


def check_event(event: Event, *, times: bool, integrals: bool, breaks: bool) -> None:
    """Raises RefusedInput unless `event` is an Event; IncompatibleChoice if it is combined with what has no rule.

    Args:
        event: the event of a solve.
        times: whether output times require gradients.
        integrals: whether there are integrals along the solve.
        breaks: whether the field has breaks.
    """
    if not isinstance(event, Event):
        raise RefusedInput(
            f"an event is ode_runner.event.Event(function, direction=...), and this is a {type(event).__name__}."
        )
    others = {"times that ask for gradients": times, "integrals along it": integrals, "breaks": breaks}
    if also := [name for name, there in others.items() if there]:
        raise IncompatibleChoice(f"a solve with an event takes no {' and no '.join(also)}. Leave one of them out.")
