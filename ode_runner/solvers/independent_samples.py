"""A check that samples of a batch do not interact, for solvers that treat each sample alone."""

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ode_runner.devices.buffers import Buffers
from ode_runner.devices.random_state import RandomState
from ode_runner.errors import IncompatibleChoice
from ode_runner.field import VectorField
from ode_runner.fields.counted_field import name_of
from ode_runner.fields.structured_field import kind_of
from ode_runner.problem import Problem
from ode_runner.solvers.base import Solver

_checked: WeakKeyDictionary[nn.Module, set[bool]] = WeakKeyDictionary()  # modes, training or not, by field


def check_independent(solver: Solver, problem: Problem) -> None:
    """For a solver that treats each sample alone: check it for the field, once in each mode; this is not counted.

    Raises:
        IncompatibleChoice: the derivative of a sample depends on other samples.
    """
    field = problem.field.field
    if not solver.treats_samples_alone or len(problem.y0) < 2 or not problem.y0.is_floating_point():
        return
    modes = _checked.setdefault(field, set())
    if field.training in modes:
        return
    if _interact(problem):
        raise IncompatibleChoice(
            f"{solver.shown_name} treats each sample alone, and samples of {name_of(field)} interact: the derivative "
            "of one depends on others, as by batch normalisation. Use an explicit solver (solver.per_sample=false), or "
            "make samples that interact one sample, of shape (1, samples, ...)."
        )
    modes.add(field.training)


def _interact(problem: Problem) -> bool:
    """Whether the derivative of the first sample depends on another one; False if autograd does not tell."""
    field, given = problem.field.field, problem.field.of_field(problem.field.given)
    buffers, random = Buffers.now(field), RandomState.now(problem.y0.device)
    try:
        with torch.enable_grad():
            y = problem.y0.detach().requires_grad_()
            first = _slope(field, problem.ts.detach()[0], y, given)[0]
            weights = torch.linspace(1, 2, first.numel()).to(first).view_as(first)  # a plain sum may be constant
            [found] = torch.autograd.grad((first * weights).sum(), y, allow_unused=True)
    except RuntimeError:  # it has no derivative, or the solve's own call says more
        return False
    finally:
        buffers.restore()
        random.restore()
    return found is not None and bool((found[1:].nan_to_num() != 0).any())


def _slope(field: VectorField, t: Tensor, y: Tensor, given: Sequence[Tensor]) -> Tensor:
    call = "forward" if "forward" in kind_of(field).call_weights else "drift"
    slope: Tensor = getattr(field, call)(t, y, *given)
    return slope
