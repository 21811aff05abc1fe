"""Solves within torch.func and forward-mode differentiation: backprop is as outside, other modes are refused."""

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

import ode_runner as ode
from ode_runner.errors import RefusedInput

TIMES = torch.tensor([0.0, 1.0])
Y0 = torch.linspace(-1, 1, 6).reshape(3, 2)


def end(y: Tensor, gradient: str, solver: str = "rk4") -> Tensor:
    return ode.integrate(lambda t, y: -y.sin(), y, TIMES, gradient=gradient, solver=solver).ys[-1]


def of_torch_func(gradient: str) -> Tensor:
    return torch.func.grad(lambda y: end(y, gradient).sum())(Y0)


def of_samples(gradient: str) -> Tensor:
    return torch.func.vmap(torch.func.grad(lambda y: end(y[None], gradient).sum()))(Y0)


def forward(gradient: str) -> Tensor:
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(end(forward_ad.make_dual(Y0, torch.ones(3, 2)), gradient)).tangent


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # by torch, in forward mode
@pytest.mark.parametrize("differentiate", [of_torch_func, of_samples, forward])
@pytest.mark.parametrize("gradient", ["backprop", "checkpoint", "adjoint"])
def test_backprop_is_differentiated_and_other_modes_are_refused(differentiate: object, gradient: str) -> None:
    if gradient != "backprop":
        with pytest.raises(RefusedInput, match=f"gradient={gradient} defines a derivative of its own, and .* only."):
            differentiate(gradient)  # type: ignore[operator]
        return
    y = Y0.clone().requires_grad_()
    [expected] = torch.autograd.grad(end(y, "backprop").sum(), y)  # of a diagonal Jacobian
    torch.testing.assert_close(differentiate(gradient), expected)  # type: ignore[operator]


def test_adaptive_steps_are_not_mapped() -> None:
    with pytest.raises(RefusedInput, match="chooses steps by values, which torch.func.vmap hides"):
        torch.func.vmap(lambda y: end(y[None], "backprop", "dopri5"))(Y0)


def test_an_error_of_the_field_stays_what_it_is() -> None:
    class Own(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, y: Tensor) -> Tensor:
            return y.clone()

    with pytest.raises(RuntimeError, match="setup_context"):
        torch.func.grad(lambda y: ode.integrate(lambda t, y: Own.apply(y), y, TIMES, solver="rk4").ys.sum())(Y0)


@pytest.mark.parametrize("gradient", ["backprop", "checkpoint", "symplectic", "interpolated", "adjoint"])
def test_a_solve_is_made_again_by_torchs_checkpointing(gradient: str) -> None:
    """Saved tensors may be read only once in a backward pass."""
    layer = nn.Linear(2, 2)
    expected, found = (
        torch.autograd.grad(solved.square().sum(), layer.parameters())
        for solved in (
            end(layer(Y0), gradient, "dopri5"),
            checkpoint(lambda y: end(layer(y), gradient, "dopri5"), Y0, use_reentrant=False),
        )
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
