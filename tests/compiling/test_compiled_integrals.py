"""Integrals along compiled steps, against those along the same steps one operation at a time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ode_runner.errors import CannotCompile
from ode_runner.field import VectorField
from ode_runner.fields.counted_field import CountedField
from ode_runner.fields.ledger import Ledger
from ode_runner.gradients.adjoint import Adjoint
from ode_runner.gradients.backprop import Backprop
from ode_runner.gradients.base import GradientMode
from ode_runner.gradients.checkpoint import Checkpoint
from ode_runner.gradients.seminorm import Seminorm
from ode_runner.integral import Integral
from ode_runner.integrator import Integrator
from ode_runner.models.density import exact_trace
from ode_runner.networks.dense import MLPField
from ode_runner.problem import Problem, Solution
from ode_runner.regularizers.rnode import RNODE
from ode_runner.solvers.base import AdaptiveSolver, Solver
from ode_runner.solvers.explicit.dopri5 import Dopri5
from tests.compiling.test_c_code import compiler
from tests.fields.test_integrals import Price, divergence, kinetic
from tests.helpers import TINY, record_of, rows_of, run_folder, typed
from tests.pairs import Conditioned
from tests.problems import Compose, SmallNet, build
from tests.resuming import check_resumed

DOPRI5 = Dopri5(rtol=1e-5, atol=1e-7, max_steps=1000)
SPANS = ((0.0, 1.0), (0.0, 0.1, 0.13, 0.5, 1.0), (1.0, 0.4, 0.0), (0.5, 0.5))
FLOW = ("task=density2d", *TINY, "network.depth=2", "trainer.epochs=2", "trainer.device=cpu", "logger=none")


def given() -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.randn(4, 2).requires_grad_(), torch.rand(4, 3) + 0.5, torch.ones(4)]


def counted(
    mode: GradientMode, field: VectorField, integrals: Mapping[str, Integral], given: Sequence[Tensor] = ()
) -> CountedField:
    every = [*given, *(z for integral in integrals.values() for z in integral.given)]
    return CountedField.around(field, Ledger(), attached=mode.through_autograd, given=every, integrals=integrals)


def loose(solver: Solver) -> Solver:
    """Enough steps to see some rejected, and few."""
    return replace(solver, rtol=1e-4, atol=1e-4) if isinstance(solver, AdaptiveSolver) else solver


def found(solve: Callable[[Problem], Solution], field: CountedField, ts: tuple[float, ...]) -> tuple[list[Tensor], Any]:
    """States, integrals and the derivatives of both, and what they took."""
    y0 = torch.linspace(-1, 1, 12).view(4, 3).requires_grad_()
    solution = solve(Problem(field=field, y0=y0, ts=torch.tensor(ts)))
    parts = [solution.ys, *solution.integrals.values()]
    loss = sum((torch.linspace(1, 2, x.numel()).view_as(x) * x).sin().sum() for x in parts)
    learned = [*field.field.parameters(), *torch.nn.ModuleList(field.integrals).parameters()]
    wanted = [y0, *learned, *(z for z in field.given if z.requires_grad)]
    gradients = torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)
    return [*(x.detach() for x in parts), *gradients], field.ledger.tally


def compiled(mode: GradientMode, solver: Solver, field: CountedField) -> Callable[[Problem], Solution]:
    return mode.compiled(solver, Problem(field=field, y0=torch.linspace(-1, 1, 12).view(4, 3), ts=torch.zeros(1)))


def check_same(
    solver: Solver, field: Callable[[GradientMode], CountedField], spans: Sequence[tuple[float, ...]]
) -> None:
    """Compiled, as checkpoint finds it, at its cost."""
    solve = compiled(Backprop(), solver, field(Backprop()))
    for ts in spans:
        ours, tally = found(solve, field(Backprop()), ts)
        theirs, spent = found(partial(Checkpoint().solve, solver), field(Checkpoint()), ts)
        for one, other in zip(ours, theirs, strict=True):
            assert float((one - other).norm()) <= 1e-10 * max(float(other.norm()), 1.0)  # step sizes are rounded
        assert tally == spent


@pytest.mark.sampled(2)
@pytest.mark.usefixtures("uncompiled", "float64")
@pytest.mark.parametrize("judged", [False, True])
@pytest.mark.parametrize("name", ["dopri5", "fehlberg2", "rk4"])
def test_they_are_those_of_the_steps_and_cost_what_checkpoint_does(composed: Compose, name: str, judged: bool) -> None:
    """With an integrand that learns, and reads what is given."""
    field, integrands = Conditioned(), {"kinetic": kinetic, "price": Price(), "divergence": divergence}
    integrals, conditions = {name: Integral(g, judged) for name, g in integrands.items()}, given()
    solver = loose(build(composed, "solver", name))
    check_same(solver, lambda mode: counted(mode, field, integrals, conditions), SPANS)


@pytest.mark.slow
@compiler
@pytest.mark.usefixtures("float64")
def test_in_machine_code_they_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exact trace of layers that push tangents, and an estimated price."""
    rnode = RNODE(weight=1.0, noise="rademacher").integral(torch.zeros(4, 3), training=True)
    integrals = {"trace": Integral(exact_trace, True), "rnode": rnode}
    monkeypatch.setattr(
        "ode_runner.compiling.c_code.graph._by_inductor", lambda *_: pytest.fail("an operation has no C code")
    )
    field = MLPField([3, 5, 3], time=True)
    check_same(DOPRI5, lambda mode: counted(mode, field, integrals), SPANS[:2])


def check_same_adjoint(mode: GradientMode, solver: Solver, field: CountedField, *, within: float) -> None:
    """Compiled, as the mode finds it, at its cost."""
    solve = compiled(mode, solver, field)
    for ts in SPANS[:3]:
        pairs = []
        for one in (solve, partial(mode.solve, solver)):
            before = replace(field.ledger.tally)
            values, tally = found(one, field, ts)
            pairs.append((values, tally.evaluations - before.evaluations, tally.products - before.products))
        for one, other in zip(pairs[0][0], pairs[1][0], strict=True):
            assert float((one - other).norm()) <= within * max(float(other.norm()), 1.0)
        assert pairs[0][1:] == pairs[1][1:]


@pytest.mark.sampled(3)
@pytest.mark.usefixtures("uncompiled", "float64")
@pytest.mark.parametrize("mode", [Adjoint(rtol=None, atol=None), Seminorm(rtol=None, atol=None)])
@pytest.mark.parametrize("name", ["dopri5", "fehlberg2", "rk4"])
def test_an_adjoint_equation_along_integrals_is_the_one_that_the_mode_solves(
    composed: Compose, name: str, mode: GradientMode
) -> None:
    solver = loose(build(composed, "solver", name))
    if not mode.takes(type(solver)):
        pytest.skip("the two do not go together")
    integrals = {"kinetic": Integral(kinetic, False), "price": Integral(Price(), True)}
    if name == "rk4":  # of which Python takes the steps: an integrand sees the state without the integrals behind it
        integrals["divergence"] = Integral(divergence, False)
    check_same_adjoint(mode, solver, counted(mode, Conditioned(), integrals, given()), within=1e-9)


@compiler
@pytest.mark.usefixtures("float64")
def test_an_adjoint_equation_along_integrals_in_machine_code_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    mode, integrals = Adjoint(rtol=None, atol=None), {"price": Integral(Price(), True)}
    field = counted(mode, Conditioned(), integrals, given())
    monkeypatch.setattr(
        "ode_runner.compiling.c_code.graph._by_inductor", lambda *_: pytest.fail("an operation has no C code")
    )
    check_same_adjoint(mode, DOPRI5, field, within=1e-9)


def test_an_integrand_of_one_solve_has_no_compiled_form() -> None:
    mode, integrals = Backprop(), {"q": Integral(lambda t, y, dy, vjp: dy.sum(dim=1), False)}
    with pytest.raises(CannotCompile, match="integrand of q is neither a module nor a method nor"):
        compiled(mode, DOPRI5, counted(mode, SmallNet(), integrals))


@pytest.mark.usefixtures("uncompiled")
def test_only_solves_with_these_integrals_judged_alike_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    integrate, field, y0 = Integrator(solver=DOPRI5, gradient=Backprop()), SmallNet(), torch.ones(2, 3)
    integrate.compile(field, y0, integrals={"q": Integral(kinetic, True)})
    taken: list[bool] = []
    monkeypatch.setattr(
        "ode_runner.compiling.steps.CompiledSteps.enter_backward", lambda *_: taken.append(True), raising=True
    )
    for integrals in (
        {"q": Integral(kinetic, True)},
        {"q": Integral(kinetic, False)},
        {"q": Integral(divergence, True)},
    ):
        integrate(field, y0, torch.tensor([0.0, 1.0]), integrals=integrals).ys.sum().backward()
    assert taken == [True], "the first alone"


@pytest.mark.slow
@pytest.mark.usefixtures("uncompiled")
def test_a_flow_with_a_price_learns_compiled_what_it_learns_without(tmp_path: Path) -> None:
    ended = {}
    for wish in ("on", "off"):
        (tmp_path / wish).mkdir()
        run = typed(*FLOW, "regularizer=rnode", f"trainer.compile={wish}", cwd=tmp_path / wish)
        assert run.returncode == 0, run.stderr
        ended[wish] = record_of(tmp_path / wish), rows_of(run_folder(tmp_path / wish))
    for on, off in zip(
        *([row for row in ended[wish][1] if "train/loss" in row] for wish in ("on", "off")), strict=True
    ):
        assert on["nfe/forward"] == off["nfe/forward"]
        assert on["train/loss"] == pytest.approx(off["train/loss"], rel=1e-4)
    assert ended["on"][0]["cost"]["nfe_backward"] > ended["off"][0]["cost"]["nfe_backward"] == 0


@pytest.mark.slow
@pytest.mark.usefixtures("uncompiled")
def test_a_compiled_flow_is_resumed_bit_for_bit(tmp_path: Path) -> None:
    command = (*FLOW, "trainer.compile=on", "trainer.log_every=1", "trainer.save_every_seconds=0")
    check_resumed(command, tmp_path)
