"""Checks that a gradient mode differentiates the fields that it is given."""

from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ode_runner.devices.side_effects import without_side_effects
from ode_runner.errors import IncompatibleChoice
from ode_runner.fields.counted_field import name_of
from ode_runner.fields.structured_field import slope_of
from ode_runner.gradients.base import GradientMode
from ode_runner.problem import Problem

HOLD_REAL = "Hold torch.view_as_real(w) as the parameter, and use torch.view_as_complex of it in the field"
_effects: "WeakKeyDictionary[nn.Module, dict[bool, _Effects]]" = WeakKeyDictionary()  # by field, and by its mode


class _Effects(NamedTuple):
    """What a call of a field changes."""

    buffers: bool  # whether it changes its buffers
    difference: float  # relative, between its values and those of the next call, at the same place


def check_differentiable(mode: GradientMode, problem: Problem) -> None:
    """Check the field of a solve that is differentiated, by a mode that does not leave it to autograd.

    Raises:
        IncompatibleChoice: parameters are complex and the mode takes real ones only; or the mode evaluates the field
            again in the backward pass, and calls of the field change what it computes.
    """
    field = problem.field.field
    if not mode.takes_complex and any(p.is_complex() for p in problem.field.leaves()):
        raise IncompatibleChoice(
            f"{mode.shown_name} takes real parameters, and {name_of(field)} has complex ones. {HOLD_REAL}, or use "
            "gradient=checkpoint."
        )
    if not isinstance(field, nn.Module) or next(field.buffers(), None) is None or not problem.y0.is_floating_point():
        return
    rounding = torch.finfo(problem.y0.dtype).eps
    if _effects_of(problem).difference > (100 * rounding if mode.exact else rounding**0.5):
        raise IncompatibleChoice(
            f"{mode.shown_name} evaluates the field again in the backward pass, and calls of {name_of(field)} change "
            "its buffers and with them its values, as spectral normalisation does in training. Use gradient=backprop, "
            "or change the buffers outside of the solve."
        )


def fixed_buffers(field: nn.Module) -> list[Tensor]:
    """The buffers on which a solve's derivative depends: those on a CPU, of a field whose calls do not change them."""
    effects = _effects.get(field, {}).get(field.training)
    return [] if effects is None or effects.buffers else [x for x in field.buffers() if x.device.type == "cpu"]


def _effects_of(problem: Problem) -> _Effects:
    field = problem.field.field
    known = _effects.setdefault(field, {})
    if field.training not in known:
        known[field.training] = _found(problem)
    return known[field.training]


@torch.no_grad()
def _found(problem: Problem) -> _Effects:
    """By two evaluations at the initial state, which are not counted."""
    field, t, y = problem.field.field, problem.ts[0], problem.y0
    given = problem.field.of_field(problem.field.given)
    with without_side_effects(field, y.device) as (random, buffers):

        def evaluated() -> Tensor:
            with random.again():
                return slope_of(field)(t, y, *given)

        one = evaluated()
        if not buffers.changed():
            return _Effects(buffers=False, difference=0.0)
        difference = (evaluated() - one).norm() / one.norm().clamp(min=torch.finfo(y.dtype).tiny)
        return _Effects(buffers=True, difference=float(difference))
