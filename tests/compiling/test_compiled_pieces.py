"""Compiled solves of fields with breaks, from break to break, against the same solves step by step."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ode_runner as ode
from ode_runner.errors import RefusedInput
from ode_runner.field import VectorField
from ode_runner.fields.ledger import Tally
from ode_runner.gradients.adjoint import Adjoint
from ode_runner.gradients.backprop import Backprop
from ode_runner.gradients.base import GradientMode
from ode_runner.gradients.checkpoint import Checkpoint
from ode_runner.gradients.seminorm import Seminorm
from ode_runner.integral import Integral
from ode_runner.integrator import Integrator
from ode_runner.solvers.base import Solver
from ode_runner.solvers.explicit.dopri5 import Dopri5
from ode_runner.solvers.explicit.rk4 import RK4
from ode_runner.types import State, Time
from tests.helpers import typed

pytestmark = [
    pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="needs a C++ compiler"),
]

BREAKS = [0.75, 0.25, 0.5, 3.0]
MODES = {
    "backprop": Backprop(),
    "checkpoint": Checkpoint(),
    "adjoint": Adjoint(rtol=None, atol=None),
    "seminorm": Seminorm(rtol=None, atol=None),
}
DOPRI5, RK = Dopri5(rtol=1e-5, atol=1e-7, max_steps=1000), RK4(num_steps=None, step_size=0.1)
SPANS = {"end": (0.0, 1.0), "several": (0.0, 0.1, 0.25, 0.3, 0.6, 1.0), "back": (1.0, 0.5, 0.0), "none": (0.3, 0.45)}


class Jumping(VectorField):
    """y' = tanh(A y + b_i) with another bias in each quarter of the time, closed on the left or on the right."""

    def __init__(self, *, right: bool) -> None:
        super().__init__()
        self.right = right
        self.layer = nn.Linear(3, 3)
        self.register_buffer("edges", torch.tensor([0.25, 0.5, 0.75]))

    def forward(self, t: Time, y: State, biases: Tensor) -> State:
        after = t >= self.edges if self.right else t > self.edges
        return torch.tanh(self.layer(y) + biases[:, 0] + (after * 1.0) @ biases.mean(dim=0)[1:])


def found(integrate: Integrator, field: VectorField, ts: Sequence[float]) -> tuple[list[Tensor], Tally]:
    """The solution and its derivatives, and what they took."""
    y0 = torch.linspace(-1, 1, 12).view(4, 3).requires_grad_()
    biases = torch.linspace(2, -3, 48).view(4, 4, 3).sin().requires_grad_()
    ys = integrate(field, y0, torch.tensor(ts), given=[biases], breaks=BREAKS).ys
    loss = (torch.linspace(1, 2, ys.numel()).view_as(ys) * ys).sin().sum()
    return [ys.detach(), *torch.autograd.grad(loss, [y0, biases, *field.parameters()])], integrate.ledger.tally


def prepared(mode: GradientMode, solver: Solver, field: VectorField) -> Integrator:
    """An integrator that has compiled pieces of solves of the field."""
    integrate, biases = Integrator(solver=solver, gradient=mode), torch.ones(4, 4, 3).requires_grad_()
    integrate.compile(field, torch.ones(4, 3), given=[biases], breaks=True)
    return integrate


def check_pieces(
    mode: Any, solver: Solver, ts: Sequence[float], *, right: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    field = Jumping(right=right)
    recomputing = Checkpoint() if mode.exact else mode  # compiled steps are repeated in the backward pass
    theirs, spent = found(Integrator(solver=solver, gradient=recomputing), field, ts)
    integrate = prepared(mode, solver, field)
    with monkeypatch.context() as patched:
        patched.setattr(type(mode), "solve", None)  # nothing is solved without compiled code
        ours, tally = found(integrate, field, ts)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert tally == spent


PAIRED = [(name, solver) for name, mode in MODES.items() for solver in (DOPRI5, RK) if mode.takes(type(solver))]


@pytest.mark.sampled(6)
@pytest.mark.usefixtures("float64", "uncompiled")
@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("ts", SPANS.values(), ids=SPANS)
@pytest.mark.parametrize(("name", "solver"), PAIRED)
def test_pieces_are_those_of_the_mode(
    name: str, solver: Solver, ts: Sequence[float], right: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_pieces(MODES[name], solver, ts, right=right, monkeypatch=monkeypatch)


@pytest.mark.sampled(2)
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("ts", [SPANS["several"], SPANS["back"]], ids=["several", "back"])
@pytest.mark.parametrize(("name", "solver"), PAIRED)
def test_pieces_in_c_are_those_of_the_mode(
    name: str, solver: Solver, ts: Sequence[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    check_pieces(MODES[name], solver, ts, right=True, monkeypatch=monkeypatch)


@pytest.mark.usefixtures("float64", "uncompiled")
def test_times_beside_compiled_pieces_have_their_gradients() -> None:
    field, y0, biases = Jumping(right=True), torch.ones(4, 3), torch.ones(4, 4, 3).requires_grad_()
    gradients = []
    for integrate in (Integrator(solver=DOPRI5, gradient=Checkpoint()), prepared(Checkpoint(), DOPRI5, field)):
        ts = torch.tensor([0.1, 0.6, 0.9], requires_grad=True)
        ys = integrate(field, y0, ts, given=[biases], breaks=BREAKS).ys
        gradients += torch.autograd.grad(ys.sin().sum(), ts)
    torch.testing.assert_close(gradients[1], gradients[0])


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["solver.per_sample=true"], "the solve has breaks, and each sample has its own steps"),
        (["solver=kvaerno3"], "the solve has breaks, and implicit steps are not compiled from one to the next"),
        (["regularizer=kinetic"], "the solve has breaks, and something is integrated along it"),
    ],
)
def test_solves_that_are_not_compiled_from_break_to_break_are_refused(
    words: list[str], reason: str, tmp_path: Path
) -> None:
    sizes = ("task.train=4", "task.validation=4", "task.test=4", "trainer.batch_size=4")
    ended = typed("task=area", "model=cde", "solver=dopri5", "trainer.compile=on", *sizes, *words, cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr == f"ode-run: trainer.compile=on: {reason}. Use trainer.compile=off.\n"


@pytest.mark.usefixtures("float64", "uncompiled")
@pytest.mark.parametrize("solver", [DOPRI5, RK], ids=["dopri5", "rk4"])
def test_a_function_with_breaks_is_compiled(solver: Solver, monkeypatch: pytest.MonkeyPatch) -> None:
    field, y0, ts = Jumping(right=True), torch.ones(4, 3).requires_grad_(), torch.tensor([0.0, 0.6, 1.0])
    biases = torch.linspace(2, -3, 48).view(4, 4, 3).sin()
    wanted = ode.integrate(field, y0, ts, solver=solver, given=[biases], breaks=BREAKS).ys
    solve = ode.compile(field, y0, ts, solver=solver, given=[biases], breaks=BREAKS)
    monkeypatch.setattr(Backprop, "solve", None)  # nothing is solved without compiled code
    torch.testing.assert_close(solve(y0, ts, given=[biases], breaks=BREAKS).ys, wanted)
    with torch.no_grad():
        torch.testing.assert_close(solve(y0, ts, given=[biases], breaks=BREAKS).ys, wanted)


def test_integrals_beside_breaks_are_not_compiled() -> None:
    with pytest.raises(RefusedInput, match="cannot be compiled: the solve has breaks, and something is integrated"):
        ode.compile(
            lambda t, y: -y,
            torch.ones(2, 1),
            torch.tensor([0.0, 1.0]),
            integrals={"length": Integral(lambda t, y, dy, vjp: dy.norm(dim=1), judged=False)},
            breaks=[0.5],
        )
