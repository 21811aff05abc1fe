"""Solvers of stochastic equations: orders on common paths, calculi, gradients, integrals, refusals."""

import math
import shutil
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ode_runner.errors import CannotCompile, IncompatibleChoice, RefusedInput
from ode_runner.field import StochasticField, VectorField
from ode_runner.fields.driving_noise import DrivingNoise
from ode_runner.fields.ledger import Phase
from ode_runner.gradients.adjoint import Adjoint
from ode_runner.gradients.backprop import Backprop
from ode_runner.gradients.base import GradientMode
from ode_runner.gradients.checkpoint import Checkpoint
from ode_runner.gradients.reversible import Reversible
from ode_runner.integral import VJP, Integral, Integrand
from ode_runner.integrator import Integrator
from ode_runner.models.equations.latent_sde import PosteriorEquation
from ode_runner.networks.diffusion import ConstantDiffusion
from ode_runner.noise.brownian_path import BrownianPath, Calculus, Noise, NoiseKind
from ode_runner.problem import Solution
from ode_runner.solvers.base import AdaptiveSolver, FixedStepSolver
from ode_runner.solvers.explicit.dopri5 import Dopri5
from ode_runner.solvers.sde.euler_maruyama import EulerMaruyama
from ode_runner.solvers.sde.heun_sde import HeunSDE
from ode_runner.solvers.sde.midpoint_sde import MidpointSDE
from ode_runner.solvers.sde.milstein import Milstein
from ode_runner.solvers.sde.reversible_heun_sde import ReversibleHeunSDE
from ode_runner.solvers.sde.srk import StochasticRungeKutta
from ode_runner.solvers.stochastic import StochasticSolver
from ode_runner.types import State, Time
from tests.helpers import options
from tests.problems import named_class, slope

pytestmark = pytest.mark.usefixtures("float64")

compiler = pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="needs a C++ compiler")
ITO, STRATONOVICH = (EulerMaruyama, Milstein, StochasticRungeKutta), (HeunSDE, MidpointSDE, ReversibleHeunSDE)
PATHS, STEPS = 1500, (8, 16, 32, 64)
PATH = BrownianPath(seed=1, cells=8, depth=12)


class Geometric(StochasticField):
    """dy = mu y dt + sigma y dW in Ito's calculus, of which every path is known."""

    def __init__(self, kind: NoiseKind = NoiseKind.DIAGONAL) -> None:
        super().__init__()
        self.noise_kind = kind

    def drift(self, t: Time, y: State) -> State:
        return 0.5 * y

    def diffusion(self, t: Time, y: State) -> Tensor:
        return y


class InStratonovich(Geometric):
    """The same equation, stated in the other calculus: its drift is 0."""

    calculus = Calculus.STRATONOVICH

    def drift(self, t: Time, y: State) -> State:
        return 0.0 * y


class Bent(StochasticField):
    """Additive noise and a drift that is not linear."""

    noise_kind = NoiseKind.ADDITIVE

    def drift(self, t: Time, y: State) -> State:
        return (2 * y).sin() - y

    def diffusion(self, t: Time, y: State) -> Tensor:
        return (0.8 + 0.4 * t) * torch.ones_like(y)


class Rotating(StochasticField):
    """General noise whose parts do not commute, in one of the calculi."""

    noise_kind = NoiseKind.GENERAL

    def __init__(self, calculus: Calculus) -> None:
        super().__init__()
        self.calculus = calculus

    def drift(self, t: Time, y: State) -> State:
        return -0.5 * y

    def diffusion(self, t: Time, y: State) -> Tensor:
        a, b = y.unbind(dim=1)
        return 0.7 * torch.stack([torch.stack([b, torch.ones_like(a)], 1), torch.stack([-a, a * b.cos()], 1)], 1)

    def noise_shape(self, y: State) -> torch.Size:
        return torch.Size([2])


class Learned(StochasticField):
    """Everything that has a gradient: drift, diffusion and what is given; of any kind of noise."""

    def __init__(self, kind: NoiseKind, calculus: Calculus) -> None:
        super().__init__()
        self.noise_kind, self.calculus = kind, calculus
        self.inner = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 3))
        self.scale, self.bend = nn.Parameter(0.3 + 0.1 * torch.rand(3)), nn.Parameter(torch.rand(3))

    def drift(self, t: Time, y: State, z: Tensor) -> State:
        return self.inner(y) + z - t

    def diffusion(self, t: Time, y: State, z: Tensor) -> Tensor:
        if self.noise_kind is NoiseKind.ADDITIVE:
            return self.scale * (1 + self.bend * t) * torch.ones_like(y)
        if self.noise_kind is NoiseKind.SCALAR:
            return self.scale * (self.bend * y.flip(1)).cos() + 0.1 * z
        each = self.scale * (self.bend * y).cos() + 0.1 * z
        return each[..., None] * y.tanh()[:, None, :2] if self.noise_kind is NoiseKind.GENERAL else each

    def noise_shape(self, y: State) -> torch.Size:
        return torch.Size([2]) if self.noise_kind is NoiseKind.GENERAL else super().noise_shape(y)


def make(cls: type[FixedStepSolver], steps: int) -> FixedStepSolver:
    options = {"last_noise": None} if cls is EulerMaruyama else {}
    return cls(num_steps=steps, step_size=None, **options)


def solved(
    cls: type[FixedStepSolver],
    steps: int,
    field: StochasticField,
    y0: Tensor,
    mode: GradientMode | None = None,
    **more: Any,
) -> Solution:
    noise, ts = Noise(path=PATH, samples=torch.arange(len(y0))), more.pop("ts", torch.tensor([0.0, 1.0]))
    return Integrator(solver=make(cls, steps), gradient=mode or Backprop())(field, y0, ts, noise=noise, **more)


@torch.no_grad()
def ends(cls: type[FixedStepSolver], steps: int, field: StochasticField, width: int = 1) -> Tensor:
    return solved(cls, steps, field, torch.ones(PATHS, width)).ys[-1]


@cache
def known_end() -> Tensor:
    return PATH.increment(0.0, 1.0, PATH.keys(torch.arange(PATHS), (1,)), dtype=torch.float64).w.exp()


def strong_order(cls: type[FixedStepSolver], field: StochasticField, exact: Tensor) -> float:
    errors = [float((ends(cls, n, field, exact.shape[1]) - exact).norm(dim=1).mean()) for n in STEPS]
    return slope([1 / n for n in STEPS], errors)


@pytest.mark.parametrize(
    ("cls", "low", "high"),
    [
        (EulerMaruyama, 0.4, 0.6),
        (Milstein, 0.85, 1.1),
        (StochasticRungeKutta, 1.3, 1.65),
        (HeunSDE, 0.85, 1.15),
        (MidpointSDE, 0.85, 1.15),
        (ReversibleHeunSDE, 0.75, 1.1),
    ],
)
def test_strong_orders_with_diagonal_and_scalar_noise(cls: type[FixedStepSolver], low: float, high: float) -> None:
    """Of the same equation in both calculi: converted by the half of them that it is foreign to."""
    for field in (Geometric(), InStratonovich(), Geometric(NoiseKind.SCALAR)):
        assert low < strong_order(cls, field, known_end()) < high, (type(field), field.noise_kind)


@pytest.mark.parametrize(
    ("cls", "low", "high"),
    [*((cls, 0.9, 1.15) for cls in (EulerMaruyama, Milstein, *STRATONOVICH)), (StochasticRungeKutta, 1.35, 1.75)],
)
def test_strong_orders_with_additive_noise(cls: type[FixedStepSolver], low: float, high: float) -> None:
    assert low < strong_order(cls, Bent(), _fine(Bent)) < high


@cache
def _fine(kind: type[StochasticField]) -> Tensor:
    return ends(StochasticRungeKutta, 512, kind())


@pytest.mark.slow
@pytest.mark.parametrize("cls", [EulerMaruyama, *STRATONOVICH])
def test_strong_orders_with_general_noise(cls: type[FixedStepSolver]) -> None:
    field = Rotating(cls.calculus)
    assert 0.35 < strong_order(cls, field, _finest(cls.calculus)) < 0.75


@cache
def _finest(calculus: Calculus) -> Tensor:
    return ends(EulerMaruyama if calculus is Calculus.ITO else HeunSDE, 2048, Rotating(calculus), 2)


def test_weak_orders_are_known_without_sampling_error() -> None:
    """E X_n = (1 + mu h)^n of Euler and Milstein: sampled means are near it, and its error is of order 1."""
    errors = [abs((1 + 0.5 / n) ** n - math.exp(0.5)) for n in STEPS]
    assert 0.9 < slope([1 / n for n in STEPS], errors) < 1.05
    for cls, n in ((EulerMaruyama, 8), (Milstein, 16)):
        found = ends(cls, n, Geometric())
        error = float(found.std()) / math.sqrt(PATHS)
        assert abs(float(found.mean()) - (1 + 0.5 / n) ** n) < 3.5 * error
    square = ends(EulerMaruyama, 8, Geometric()).square()
    expected = ((1 + 0.5 / 8) ** 2 + 1 / 8) ** 8
    assert abs(float(square.mean()) - expected) < 3.5 * float(square.std()) / math.sqrt(PATHS)


@pytest.mark.parametrize("cls", [*ITO, *STRATONOVICH])
def test_counts_are_those_of_the_formulas(cls: type[FixedStepSolver]) -> None:
    integrate = Integrator(solver=make(cls, 8), gradient=Backprop())
    noise = Noise(path=PATH, samples=torch.arange(4))
    with torch.no_grad(), integrate.ledger.phase(Phase.FORWARD) as tally:
        integrate(Geometric(), torch.ones(4, 1), torch.tensor([0.0, 0.5, 1.0]), noise=noise)
    each = {EulerMaruyama: 8, Milstein: 8, StochasticRungeKutta: 24, HeunSDE: 16, MidpointSDE: 16, ReversibleHeunSDE: 9}
    products = {Milstein: 8, HeunSDE: 16, MidpointSDE: 16, ReversibleHeunSDE: 9}
    assert (tally.evaluations, tally.products, tally.accepted) == (each[cls], products.get(cls, 0), 8)


KINDS = [
    (cls, kind)
    for cls in (*ITO, *STRATONOVICH)
    for kind in NoiseKind
    if kind in cls.noises  # type: ignore[attr-defined]
]


def gradients(cls: type[FixedStepSolver], kind: NoiseKind, mode: GradientMode, steps: int = 12) -> list[Tensor]:
    """Of a loss of all states and an integral, by y0, drift, diffusion and what is given."""
    torch.manual_seed(0)
    field, y0 = Learned(kind, cls.calculus), torch.rand(4, 3, requires_grad=True)  # type: ignore[attr-defined]
    z, ts = torch.rand(4, 3, requires_grad=True), torch.tensor([0.0, 0.3, 0.3, 1.0])
    cost = {"cost": Integral(lambda t, y, dy, vjp, z: (dy.square() * z + t * y).sum(dim=1), judged=False)}
    solution = solved(cls, steps, field, y0, mode, ts=ts, given=(z,), integrals=cost)
    loss = (solution.ys.square() * torch.arange(4).view(-1, 1, 1)).mean() + solution.integrals["cost"].mean()
    return list(torch.autograd.grad(loss, [y0, z, *field.parameters()]))


def difference(found: list[Tensor], expected: list[Tensor]) -> float:
    size = torch.cat([g.flatten() for g in expected]).norm()
    return float(torch.cat([(a - b).flatten() for a, b in zip(found, expected, strict=True)]).norm() / size)


@pytest.mark.sampled(10)
@pytest.mark.parametrize(("cls", "kind"), KINDS, ids=lambda x: getattr(x, "__name__", x))
def test_exact_modes_equal_backprop_to_rounding(cls: type[FixedStepSolver], kind: NoiseKind) -> None:
    expected = gradients(cls, kind, Backprop())
    assert all(float(g.abs().sum()) > 0 for g in expected[:-1]), "everything has a gradient"
    mode: GradientMode = Reversible() if cls is ReversibleHeunSDE else Checkpoint()
    assert difference(gradients(cls, kind, mode), expected) < 1e-12


class Cost(nn.Module):
    """An integrand that learns, takes products with the drift's Jacobian, and is given something of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(3))

    def forward(self, t: Tensor, y: Tensor, dy: Tensor, vjp: VJP, z: Tensor, own: Tensor) -> Tensor:
        return ((dy.square() + t) * z * self.weight + vjp(y) * own * y).sum(dim=1)


def compiled_and_not(
    cls: type[FixedStepSolver], kind: NoiseKind, mode: GradientMode, *, steps: int = 12
) -> list[tuple[Tensor, Tensor]]:
    """Of compiled steps and of eager ones: states, derivatives, and what both have been entered as."""
    torch.manual_seed(0)
    field, given = Learned(kind, cls.calculus), (torch.rand(4, 3),)  # type: ignore[attr-defined]
    y0, ts = torch.rand(4, 3, requires_grad=True), torch.tensor([0.0, 0.0, 0.3, 0.3, 1.0])
    cost, own, found = Cost(), torch.rand(4, 3, requires_grad=True), []
    integrals = {"cost": Integral(cost, judged=False, given=(own,))}
    noise, wanted = Noise(path=PATH, samples=torch.arange(4)), [y0, own, *field.parameters(), *cost.parameters()]
    for compiles in (True, False):
        integrate = Integrator(solver=make(cls, steps), gradient=mode)
        if compiles:
            integrate.compile(field, y0, given=given, integrals=integrals)
        with integrate.ledger.phase(Phase.FORWARD) as tally:  # and back
            solution = integrate(field, y0, ts, given=given, integrals=integrals, noise=noise)
            ys, costs = solution.ys, solution.integrals["cost"]
            loss = (ys.square() * torch.arange(5).view(-1, 1, 1)).mean() + (costs * torch.arange(5)[:, None]).mean()
            derivatives = torch.autograd.grad(loss, wanted, materialize_grads=True)
        assert ys.grad_fn is not None
        assert (ys.grad_fn.name() == "_RunsSolveBackward") == compiles
        entered = torch.tensor([tally.evaluations, tally.products, tally.accepted])
        found.append([ys, costs, *derivatives, entered])
    return list(zip(*found, strict=True))


@pytest.mark.sampled(5)
@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize(("cls", "kind"), [pair for pair in KINDS if issubclass(pair[0], StochasticSolver)])
def test_compiled_steps_are_the_steps(cls: type[FixedStepSolver], kind: NoiseKind) -> None:
    for ours, theirs in compiled_and_not(cls, kind, Checkpoint()):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-12)


@compiler
@pytest.mark.slow
def test_machine_code_of_steps_with_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ode_runner.compiling.runs.compile_graph", None)  # all steps are one call
    for ours, theirs in compiled_and_not(Milstein, NoiseKind.DIAGONAL, Checkpoint(), steps=2):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-11)


@pytest.mark.usefixtures("uncompiled")
def test_another_integrand_is_not_taken_for_the_compiled_one() -> None:
    """One of a name that another has, and one that is made anew for every solve: both are solved eagerly."""
    field, y0, z = Learned(NoiseKind.DIAGONAL, Calculus.ITO), torch.rand(4, 3), torch.rand(4, 3)
    integrate, noise = (
        Integrator(solver=make(Milstein, 4), gradient=Backprop()),
        Noise(path=PATH, samples=torch.arange(4)),
    )

    def integrals(g: Integrand) -> dict[str, Integral]:
        return {"cost": Integral(g, judged=False, given=(z,))}

    def cost_and_maker(g: Integrand) -> tuple[Tensor, str]:
        ts = torch.tensor([0.0, 1.0])
        solution = integrate(field, y0, ts, given=(z,), integrals=integrals(g), noise=noise)
        assert solution.ys.grad_fn is not None
        return solution.integrals["cost"], solution.ys.grad_fn.name()

    first, second = Cost(), Cost()
    functions: list[Integrand] = [first, second, lambda *x: 2 * first(*x)]
    eager = [cost_and_maker(g)[0] for g in functions]
    integrate.compile(field, y0, given=(z,), integrals=integrals(first))
    costs, makers = zip(*map(cost_and_maker, functions), strict=True)
    torch.testing.assert_close(list(costs), eager)
    assert [maker == "_RunsSolveBackward" for maker in makers] == [True, False, False]
    with pytest.raises(CannotCompile, match="integrand of cost is neither a module nor"):
        integrate.compile(field, y0, given=(z,), integrals=integrals(functions[2]))


def test_what_does_not_repeat_is_not_compiled() -> None:
    field, y0 = Learned(NoiseKind.DIAGONAL, Calculus.ITO), torch.rand(4, 3)
    last = EulerMaruyama(num_steps=4, step_size=None, last_noise=False)
    for solver, words in ((last, "the last step differs"), (make(ReversibleHeunSDE, 4), "this is .* reversible")):
        with pytest.raises(CannotCompile, match=words):
            Integrator(solver=solver, gradient=Backprop()).compile(field, y0, given=(y0,))


@pytest.mark.parametrize("kind", [NoiseKind.DIAGONAL, NoiseKind.SCALAR])
def test_the_gradient_is_that_of_the_path(kind: NoiseKind) -> None:
    """By finite differences, through the terms with derivatives of the diffusion in them."""
    for cls in (Milstein, StochasticRungeKutta, HeunSDE):
        torch.manual_seed(0)
        field, y0, z = Learned(kind, Calculus.ITO), torch.rand(4, 3), torch.rand(4, 3)
        [found] = torch.autograd.grad(solved(cls, 8, field, y0, given=(z,)).ys[-1].sum(), field.bend)
        shifted = []
        for shift in (1e-6, -1e-6):
            with torch.no_grad():
                field.bend[0] += shift
                shifted.append(float(solved(cls, 8, field, y0, given=(z,)).ys[-1].sum()))
                field.bend[0] -= shift
        assert float(found[0]) == pytest.approx((shifted[0] - shifted[1]) / 2e-6, rel=1e-6)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("cls", [HeunSDE, MidpointSDE])
def test_the_adjoint_goes_to_the_gradient_with_the_step(cls: type[FixedStepSolver]) -> None:
    """Along the same path, of Stratonovich's equations; so it does where the field is stated in Ito's calculus."""
    adjoint, errors = Adjoint(rtol=None, atol=None), []
    for steps in (8, 32, 128):
        expected = gradients(cls, NoiseKind.DIAGONAL, Backprop(), steps)
        errors.append(difference(gradients(cls, NoiseKind.DIAGONAL, adjoint, steps), expected))
    assert errors[-1] < 0.01
    assert errors[-1] < errors[0] / 4


@pytest.mark.parametrize("times", [[0.3], [0.3, 0.3]])
@pytest.mark.parametrize("mode", [Backprop(), Checkpoint(), Adjoint(rtol=None, atol=None)])
def test_over_no_time_the_gradient_is_that_of_the_beginning(mode: GradientMode, times: list[float]) -> None:
    y0, noise = torch.rand(2, 3, requires_grad=True), Noise(path=PATH, samples=torch.arange(2))
    field = Learned(NoiseKind.DIAGONAL, Calculus.STRATONOVICH)
    integrate = Integrator(solver=make(HeunSDE, 4), gradient=mode)
    integrate(field, y0, torch.tensor(times), given=(torch.rand(2, 3),), noise=noise).ys.sum().backward()
    assert y0.grad is not None
    assert torch.equal(y0.grad, torch.full_like(y0, len(times)))


def test_a_way_there_and_back_ends_where_it_began() -> None:
    torch.manual_seed(0)
    field, y0, z = Learned(NoiseKind.DIAGONAL, Calculus.STRATONOVICH), torch.rand(4, 3), torch.rand(4, 3)
    solver = ReversibleHeunSDE(num_steps=256, step_size=None)
    noise, ts = Noise(path=PATH, samples=torch.arange(4)), torch.tensor([0.0, 1.0])
    bound = Integrator(solver=solver, gradient=Backprop())._counted(field, (z,), {}, noise)
    with torch.no_grad():
        _, carried = solver.solve_noting_steps(bound, y0, ts)
        for t0, t1 in reversed(solver.strides(solver.grid(ts))):
            carried = solver.reverse_step(bound, t0, t1, carried)
    torch.testing.assert_close(carried[0], y0, rtol=0, atol=1e-12)


def test_a_solve_whose_two_states_part_warns() -> None:
    class Fast(Geometric):
        def drift(self, t: Time, y: State) -> State:
            return -30 * y

    with pytest.warns(
        UserWarning, match=r"the two states that solver=reversible_heun_sde carries .* solver=heun_sde always"
    ):
        ends(ReversibleHeunSDE, 64, Fast())


class Decaying(StochasticField):
    """dx = -2 x dt + 0.7 dW."""

    noise_kind = NoiseKind.ADDITIVE

    def drift(self, t: Time, y: State) -> State:
        return -2 * y

    def diffusion(self, t: Time, y: State) -> Tensor:
        return torch.full_like(y, 0.7)


class Relaxing(VectorField):
    """-k x, whatever is given."""

    def __init__(self, k: float) -> None:
        super().__init__()
        self.k = k

    def forward(self, t: Time, y: State, *given: Tensor) -> State:
        return -self.k * y


def test_the_divergence_of_two_paths_is_an_integral() -> None:
    """Of rates 2 and 0.5 from x = 1, over a unit of time: 0.7757. A latent path's is the same integral."""
    penalty = Integral(lambda t, y, dy, vjp: ((dy + 0.5 * y) / 0.7).square().sum(dim=1) / 2, judged=False)
    latent = PosteriorEquation(Relaxing(2.0), Relaxing(0.5), ConstantDiffusion(1))
    torch.nn.init.constant_(latent.get_parameter("of_noise.bias"), math.log(math.expm1(0.7)))
    context = (torch.zeros(PATHS, 1, 1), torch.zeros(PATHS, 1))
    asked: dict[str, Any] = {"given": context, "integrals": {"kl": Integral(latent.divergence, judged=True)}}
    found = [float(solved(HeunSDE, 128, latent, torch.ones(PATHS, 1), **asked).integrals["kl"][-1].detach().mean())]
    for cls in (StochasticRungeKutta, ReversibleHeunSDE):
        kl = solved(cls, 128, Decaying(), torch.ones(PATHS, 1), integrals={"kl": penalty}).integrals["kl"][-1]
        found.append(float(kl.mean()))
        assert abs(found[-1] - 0.7757) < 3 * float(kl.std()) / math.sqrt(PATHS)
    assert found == pytest.approx([found[1]] * 3, rel=0.02)


def test_neither_batch_nor_chunks_of_steps_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit, in float32 too."""
    y0 = torch.ones(50, 2, dtype=torch.float32)
    ts = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float32)
    whole = solved(Milstein, 24, Geometric(), y0, ts=ts).ys
    monkeypatch.setattr("ode_runner.noise.brownian_path.AT_ONCE", 300)
    assert torch.equal(solved(Milstein, 24, Geometric(), y0, ts=ts).ys, whole)
    assert torch.equal(solved(Milstein, 24, Geometric(), y0[:7], ts=ts).ys, whole[:, :7])


def test_what_would_be_wrong_is_refused_by_name() -> None:
    general, y0 = Rotating(Calculus.ITO), torch.ones(3, 2)
    with pytest.raises(
        IncompatibleChoice, match="solver=milstein takes diagonal or additive or scalar noise, and Rotating"
    ):
        solved(Milstein, 8, general, y0)
    with pytest.raises(
        IncompatibleChoice, match="solver=heun_sde solves Stratonovich equations, and Rotating states an Ito"
    ):
        solved(HeunSDE, 8, general, y0)
    adaptive = Dopri5(rtol=1e-3, atol=1e-3, max_steps=99, per_sample=False)
    noise = Noise(path=PATH, samples=torch.arange(3))
    with pytest.raises(IncompatibleChoice, match="solver=dopri5 adapts its steps to the noise, and Rotating"):
        Integrator(solver=adaptive, gradient=Backprop())(general, y0, torch.tensor([0.0, 1.0]), noise=noise)
    assert not Adjoint.takes(Milstein)
    with pytest.raises(RefusedInput, match="solver=milstein solves Ito's equations, which look ahead only"):
        solved(Milstein, 8, Geometric(), y0, ts=torch.tensor([1.0, 0.0]))
    with pytest.raises(IncompatibleChoice, match="has no derivative in time"):
        solved(Milstein, 8, Geometric(), y0, ts=torch.tensor([0.0, 1.0], requires_grad=True))
    short, integrate = (
        replace(noise, samples=torch.arange(2)),
        Integrator(solver=make(Milstein, 8), gradient=Backprop()),
    )
    with pytest.raises(RefusedInput, match="solved for 3 samples, and noise is given for 2"):
        integrate(Geometric(), y0, torch.tensor([0.0, 1.0]), noise=short)


def test_noise_of_another_kind_than_stated_is_refused() -> None:
    class Mixing(Geometric):
        def diffusion(self, t: Time, y: State) -> Tensor:
            return y.flip(1)

    with pytest.raises(
        IncompatibleChoice, match="Mixing states diagonal noise, and an element of its diffusion depends"
    ):
        solved(EulerMaruyama, 8, Mixing(), torch.ones(3, 2))
    with pytest.raises(IncompatibleChoice, match="Geometric states additive noise, and an element of its diffusion"):
        solved(EulerMaruyama, 8, Geometric(NoiseKind.ADDITIVE), torch.ones(3, 2))
    for stated, wrong in (("additive", lambda t, y: 0.5 + y**2), ("diagonal", lambda t, y: 0.5 + y.flip(1) ** 2)):
        flat = Geometric(NoiseKind(stated))
        flat.diffusion = wrong  # type: ignore[method-assign]
        with pytest.raises(IncompatibleChoice, match=f"states {stated} noise"):
            solved(EulerMaruyama, 8, flat, torch.zeros(3, 2))  # where the derivative of the diffusion is 0
    unfit = Rotating(Calculus.ITO)
    unfit.diffusion = lambda t, y: y  # type: ignore[method-assign]
    with pytest.raises(IncompatibleChoice, match=r"general noise, for which its diffusion must be of shape \(3, 2, 2"):
        solved(EulerMaruyama, 8, unfit, torch.ones(3, 2))


@pytest.mark.parametrize("solver", [Milstein, HeunSDE])
def test_the_derivative_of_the_diffusion_keeps_a_graph_for_those_only_who_ask_for_one(
    solver: type[StochasticSolver],
) -> None:
    """It kept that of all steps, and gave a solution with a graph to those who asked for none."""
    y0, size = torch.ones(3, 2), torch.tensor(0.7, requires_grad=True)
    captured, plain = Geometric(), Geometric()
    captured.diffusion = lambda t, y: size * y.cos()  # type: ignore[method-assign]
    plain.diffusion = lambda t, y: 0.7 * y.cos()  # type: ignore[method-assign]
    assert not solved(solver, 8, plain, y0).ys.requires_grad
    [found] = torch.autograd.grad(solved(solver, 8, captured, y0).ys[-1].sum(), size)
    with torch.no_grad():
        high, low = (solved(solver, 8, captured, y0).ys[-1].sum() for _ in map(size.add_, (1e-6, -2e-6)))
    torch.testing.assert_close(found, (high - low) / 2e-6, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("solver", [*ITO, *STRATONOVICH])
def test_a_drift_or_diffusion_of_another_shape_or_kind_is_refused(solver: type[StochasticSolver]) -> None:
    """A drift (batch,) would be laid along the elements of the state, without a word where there are as many."""
    for call, made, said in (
        ("drift", lambda t, y: y.sum(dim=1), "drift of Geometric must give a derivative in the shape of its state"),
        ("drift", lambda t, y: 1.0, r"drift of Geometric must .* and gave a float"),
        ("diffusion", lambda t, y: 1.0, r"of shape \(3, 3\), and it is a float"),
        ("diffusion", lambda t, y: y.mul_(2), "Geometric writes into the state that it is given"),
    ):
        field = Geometric()
        setattr(field, call, made)
        with pytest.raises(RefusedInput, match=said):
            solved(solver, 2, field, torch.ones(3, 3))
    single = Geometric()
    single.diffusion = lambda t, y: y.bfloat16()  # type: ignore[method-assign]
    assert solved(solver, 2, single, torch.ones(3, 3)).ys.dtype is torch.float64


def test_no_stochastic_solver_chooses_its_steps() -> None:
    """Adaptive steps of general noise have a bias in the area between its elements that nothing would show."""
    solvers = [named_class("solver", name) for name in options("solver")]
    stochastic = [solver for solver in solvers if issubclass(solver, StochasticSolver)]
    assert len(stochastic) >= 5
    assert not any(issubclass(solver, AdaptiveSolver) for solver in stochastic)


@pytest.mark.parametrize(
    ("cells", "depth", "end", "says"),
    [
        (1, 0, 1.0, "a larger depth or more cells"),
        (8, 0, 0.8, "rounded to multiples of 0.125"),  # in steps of 0.1
        (1, 16, 1e-5, "rounded to multiples of"),
        (1, 20, 1e7, "Count time in longer units"),
        (1000, 10, 1e3, "1.25e\\+05 cells of the noise"),
    ],
)
@pytest.mark.parametrize("solver", [HeunSDE, ReversibleHeunSDE])
def test_noise_that_does_not_tell_the_steps_apart_is_refused(
    solver: type[HeunSDE], cells: int, depth: int, end: float, says: str
) -> None:
    noise = Noise(path=BrownianPath(seed=0, cells=cells, depth=depth), samples=torch.arange(2))
    integrate = Integrator(solver=solver(num_steps=None, step_size=end / 8), gradient=Backprop())
    with pytest.raises(RefusedInput, match=says):
        integrate(Geometric(), torch.ones(2, 1), torch.tensor([0.0, end]), noise=noise)
    steps = [(end * k / 8, end * (k + 1) / 8) for k in range(8)]
    with pytest.raises(RefusedInput, match=says):
        DrivingNoise(noise, Geometric()).increments(steps, torch.ones(2, 1))


def test_increments_that_are_announced_are_made_at_once_in_the_type_of_the_state(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, increments = list[int](), BrownianPath.increments
    monkeypatch.setattr(
        BrownianPath,
        "increments",
        lambda path, steps, *given, **named: asked.append(len(steps)) or increments(path, steps, *given, **named),
    )
    noise = DrivingNoise(Noise(path=PATH, samples=torch.arange(2)), Geometric())
    y, steps = torch.ones(2, 1, dtype=torch.float32), [(0.0, 0.25), (0.25, 0.5), (0.5, 1.0)]
    noise.prepare(steps, y)
    found = [noise.increment(*step, y).w for step in steps]
    assert torch.equal(noise.increment(*steps[0], y).w, found[0])
    assert asked == [3]
    exact = [noise.increment(*step, y.double()).w for step in steps]
    assert {(w.dtype, v.dtype) for w, v in zip(found, exact, strict=True)} == {(torch.float32, torch.float64)}
    torch.testing.assert_close(torch.stack(found), torch.stack(exact).float())

    asked.clear()
    many, y = Noise(path=PATH, samples=torch.arange(40_000)), torch.ones(40_000, 1)
    noise = DrivingNoise(many, Geometric())
    noise.prepare(steps, y)
    for _ in steps:
        noise.increment(*steps[-1], y)
    assert asked == [1], "of so many samples a step at a time"
    noise.increments(steps, y)
    assert asked == [1] * 4


def test_a_short_interval_between_two_outputs_is_no_reason_to_refuse_the_noise() -> None:
    ts = torch.tensor([0.0, 0.5, 0.5 + 1e-7, 1.0])
    noise = Noise(path=PATH, samples=torch.arange(2))
    integrate = Integrator(solver=HeunSDE(num_steps=8, step_size=None), gradient=Backprop())
    assert integrate(Geometric(), torch.ones(2, 1), ts, noise=noise).ys.isfinite().all()
