"""Implicit solvers on states too large to factorise: GMRES, on products with the Jacobian and its transpose."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from ode_runner.errors import SolverFailed
from ode_runner.field import VectorField
from ode_runner.fields.counted_field import CountedField
from ode_runner.fields.ledger import Ledger, Phase
from ode_runner.gradients.backprop import Backprop
from ode_runner.gradients.checkpoint import Checkpoint
from ode_runner.integrator import Integrator
from ode_runner.solvers.explicit.dopri5 import Dopri5
from ode_runner.solvers.implicit import linearised
from ode_runner.solvers.implicit.implicit import ImplicitSolver
from ode_runner.solvers.implicit.implicit_midpoint import ImplicitMidpoint
from ode_runner.solvers.implicit.krylov import SPACE, gmres
from ode_runner.solvers.implicit.kvaerno3 import Kvaerno3
from ode_runner.solvers.implicit.linearised import LARGEST
from tests.problems import Compose, Formula, SmallNet, build, offering
from tests.solvers.test_implicit import solve_stage

pytestmark = pytest.mark.usefixtures("float64")

FINAL = torch.tensor([0.0, 1.0], dtype=torch.float64)
each_implicit = pytest.mark.parametrize("name", offering(ImplicitSolver))


@pytest.fixture
def solver(composed: Compose, name: str) -> ImplicitSolver:
    return build(composed, "solver", name)


class Reaction(VectorField):
    """Diffusion on a square grid without flux through its sides, and the reaction u (1 - u)."""

    def __init__(self) -> None:
        super().__init__()
        self.diffusion, self.rate = nn.Parameter(torch.tensor(20.0)), nn.Parameter(torch.tensor(2.0))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        padded = nn.functional.pad(y, (1, 1, 1, 1), mode="replicate")
        sides = padded[..., 2:, 1:-1] + padded[..., :-2, 1:-1] + padded[..., 1:-1, 2:] + padded[..., 1:-1, :-2]
        return self.diffusion * (sides - 4 * y) + self.rate * y * (1 - y) * (1 + 0.3 * torch.sin(t))


def spots(side: int = 48) -> Tensor:
    """Two samples of one channel: (2, 1, side, side)."""
    x = torch.linspace(-1, 1, side)
    square = x[:, None].square() + (x[None] - 0.2).square()
    return torch.stack([torch.exp(-8 * square), 0.5 * torch.exp(-3 * square)])[:, None]


@pytest.mark.parametrize("size", [5, SPACE, 3 * SPACE])
def test_gmres_solves_each_samples_system(size: int) -> None:
    matrices = torch.eye(size) + 0.3 * torch.randn(4, size, size) / size**0.5
    matrices[1] = torch.eye(size)  # done after one product, while the others go on
    b = torch.randn(4, size)
    b[2] = 0
    x = gmres(lambda v: torch.einsum("bmn,bn->bm", matrices, v), b, rtol=1e-12)
    torch.testing.assert_close(x, torch.linalg.solve(matrices, b), rtol=1e-10, atol=1e-10)


def test_gmres_goes_on_after_a_restart() -> None:
    spectrum = torch.linspace(1, 1000, 400)
    b = torch.randn(1, 400)
    torch.testing.assert_close(gmres(lambda v: spectrum * v, b, rtol=1e-10), b / spectrum, rtol=0, atol=1e-9)


@pytest.mark.slow
def test_gmres_says_when_it_does_not_come_to_an_end() -> None:
    spectrum = torch.logspace(-8, 8, 1200)
    assert gmres(lambda v: spectrum * v, torch.randn(1, 1200), rtol=1e-12).isnan().all()


@each_implicit
def test_products_give_what_factors_give(solver: ImplicitSolver, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same solve and the same gradients, whatever the size at which factorising ends."""
    found = []
    for largest in (LARGEST, 0):
        monkeypatch.setattr(linearised, "LARGEST", largest)
        torch.manual_seed(0)
        net, y0 = SmallNet(), torch.randn(4, 3, requires_grad=True)
        integrate = Integrator(solver=solver, gradient=Backprop())
        ys = integrate(net, y0, torch.tensor([0.0, 0.4, 1.0])).ys
        wanted = [y0, *net.parameters()]
        gradients = torch.autograd.grad(ys.sin().sum(), wanted, allow_unused=True, materialize_grads=True)
        found.append([ys, *gradients])
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    "solver",
    [
        ImplicitMidpoint(num_steps=40, step_size=None),
        pytest.param(Kvaerno3(rtol=1e-5, atol=1e-5, max_steps=200), marks=pytest.mark.slow),
    ],
)
def test_thousands_of_equations_agree_with_a_tight_explicit_solve(solver: ImplicitSolver) -> None:
    """An explicit method is held to 2.8 / (8 * 20) of a unit by stability."""
    y0, ts = spots(), torch.tensor([0.0, 0.5])
    assert y0[0].numel() > 4 * LARGEST
    with torch.no_grad():
        expected = Dopri5(rtol=1e-9, atol=1e-9, max_steps=10_000).solve(Reaction(), y0, ts).ys[-1]
        found = solver.solve(Reaction(), y0, ts).ys[-1]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("gradient", [Backprop(), Checkpoint()], ids=["backprop", "checkpoint"])
def test_thousands_of_equations_are_differentiated_as_solved(gradient: Backprop | Checkpoint) -> None:
    """Against central differences of the same steps, in the parameters and along a direction of the beginning."""
    solver, y0, ts = ImplicitMidpoint(num_steps=8, step_size=None), spots(), torch.tensor([0.0, 0.25])
    direction = torch.linspace(-1, 1, y0.numel()).view_as(y0)

    def end(shift: float, along: str) -> tuple[Tensor, list[Tensor]]:
        field, start = Reaction(), (y0 + shift * direction if along == "y0" else y0.clone()).requires_grad_()
        with torch.no_grad():
            for name, parameter in field.named_parameters():
                parameter += shift if name == along else 0.0
        ys = Integrator(solver=solver, gradient=gradient)(field, start, ts).ys
        return ys[-1].square().sum(), [start, field.diffusion, field.rate]

    loss, wanted = end(0.0, "")
    dy0, *rest = torch.autograd.grad(loss, wanted)
    exact = {"y0": (dy0 * direction).sum(), "diffusion": rest[0], "rate": rest[1]}
    for along, derivative in exact.items():
        above, below = (float(end(shift, along)[0].detach()) for shift in (1e-4, -1e-4))
        assert float(derivative) == pytest.approx((above - below) / 2e-4, rel=1e-6)  # the differences' own error


def test_products_are_entered_in_the_ledger_where_they_are_made() -> None:
    integrate = Integrator(solver=ImplicitMidpoint(num_steps=4, step_size=None), gradient=Backprop())
    y0 = spots(24).requires_grad_()
    with integrate.ledger.phase(Phase.FORWARD) as forward:
        loss = integrate(Reaction(), y0, torch.tensor([0.0, 0.25])).ys[-1].sum()
    with integrate.ledger.phase(Phase.BACKWARD) as backward:
        loss.backward()
    assert forward.products > 0
    assert backward.products > 0
    assert (backward.evaluations, backward.accepted) == (0, 0)


def test_a_factorised_jacobian_is_a_product_for_each_element() -> None:
    ledger, known = Ledger(), torch.randn(2, 3)
    field = CountedField.around(Formula(lambda t, y: -y), ledger)
    with torch.no_grad():
        solve_stage(field, torch.tensor(0.0), known, 0.1, guess=known)
    assert (ledger.tally.evaluations, ledger.tally.products) == (3, 3)  # two iterations with one Jacobian


def test_a_field_of_time_alone_has_no_jacobian_to_multiply_with() -> None:
    y0 = torch.zeros(1, LARGEST + 1)
    ys = (
        replace(ImplicitMidpoint(num_steps=4, step_size=None)).solve(Formula(lambda t, y: t.expand_as(y)), y0, FINAL).ys
    )
    torch.testing.assert_close(ys[-1], torch.full_like(y0, 0.5))


@pytest.mark.slow
def test_a_system_too_stiff_for_products_is_a_solver_failure() -> None:
    spectrum = torch.logspace(0, 10, 2000)
    solver = ImplicitMidpoint(num_steps=1, step_size=None)
    with pytest.raises(SolverFailed, match="Newton's method found no solution"):
        solver.solve(Formula(lambda t, y: -spectrum * y), torch.ones(1, 2000), FINAL)
