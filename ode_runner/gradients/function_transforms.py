"""Refusals of solves within torch.func and forward-mode differentiation, in place of PyTorch's errors."""

from collections.abc import Iterator
from contextlib import contextmanager

from ode_runner.errors import IncompatibleChoice
from ode_runner.gradients.base import GradientMode

OWN_DERIVATIVES = {  # by what PyTorch's error contains
    "functorch transforms": "torch.func (grad, vmap, jacrev, ...)",
    "implement the jvp function": "forward-mode differentiation",
}
HIDDEN = "vmap over calling .item()"


@contextmanager
def told_of_transforms(mode: GradientMode) -> Iterator[None]:
    """Raises IncompatibleChoice if PyTorch refuses a solve for such a reason."""
    try:
        yield
    except RuntimeError as error:
        for sign, transform in OWN_DERIVATIVES.items():
            if sign in str(error) and not mode.through_autograd:
                raise IncompatibleChoice(
                    f"{mode.shown_name} defines a derivative of its own, and {transform} takes PyTorch's operations "
                    "only. Use gradient=backprop."
                ) from error
        if HIDDEN in str(error):
            raise IncompatibleChoice(
                "an adaptive solver chooses steps by values, which torch.func.vmap hides. Give all samples to one "
                "solve, y0 (batch, *state), with per_sample=True for steps of their own; or use a solver of fixed "
                "step, such as solver=rk4."
            ) from error
        raise
