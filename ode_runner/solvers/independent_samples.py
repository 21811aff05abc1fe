"""A check that samples of a batch do not interact, for solvers that treat each sample alone."""

from weakref import WeakKeyDictionary

import torch
from torch import nn

from ode_runner.devices.side_effects import without_side_effects
from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.fields.counted_field import fitted, name_of
from ode_runner.fields.structured_field import slope_of
from ode_runner.problem import Problem
from ode_runner.solvers.base import Solver
from ode_runner.solvers.one_step import ExplicitRungeKutta

_checked: WeakKeyDictionary[nn.Module, set[bool]] = WeakKeyDictionary()  # modes, training or not, by field


def check_independent(solver: Solver, problem: Problem) -> None:
    """If samples are treated alone: check the field, if it is a module, once in each mode; this is not counted.

    Raises:
        IncompatibleChoice: the derivative of a sample depends on other samples.
    """
    field, y0 = problem.field.field, problem.y0
    because, instead = _reason(solver, problem)
    if not because or len(y0) < 2 or not y0.is_floating_point() or not isinstance(field, nn.Module):
        return
    modes = _checked.setdefault(field, set())
    if field.training in modes:
        return
    if _interact(problem):
        raise IncompatibleChoice(
            f"{because} treats each sample alone, and samples of {name_of(field)} interact: the derivative of one "
            f"depends on others, as by batch normalisation. {instead} samples that interact one sample, of shape (1, "
            "samples, ...)."
        )
    modes.add(field.training)


def _reason(solver: Solver, problem: Problem) -> tuple[str, str]:
    """What treats each sample alone, or "", and the beginning of a sentence on what to do instead."""
    if solver.treats_samples_alone:
        other = "solver.per_sample=false" if isinstance(solver, ExplicitRungeKutta) else "an explicit solver"
        return solver.shown_name, f"Use {other}, or make"
    integrals = zip(problem.field.names, problem.field.integrals, strict=True)
    names = [name for name, integral in integrals if integral.treats_samples_alone]
    return (f"the integral of {', '.join(names)}", "Make") if names else ("", "")


def _interact(problem: Problem) -> bool:
    """Whether the derivative of the first sample depends on another one; False if autograd does not tell."""
    field, y0 = problem.field.field, problem.y0
    given = problem.field.of_field(problem.field.given)
    try:
        with torch.enable_grad(), without_side_effects(field, y0.device):
            y = y0.detach().requires_grad_()
            slope = slope_of(field)(problem.ts.detach()[0], y, *given)
            weights = torch.linspace(1, 2, y0[0].numel()).to(y0).view_as(y0[0])  # a plain sum may be constant
            [found] = torch.autograd.grad((fitted(slope, y, field)[0] * weights).sum(), y, allow_unused=True)
    except (RuntimeError, RefusedInput):  # there is no derivative; or the solve itself will say what is wrong
        return False
    return found is not None and bool((found[1:].nan_to_num() != 0).any())
