"""What the integrator takes as an initial value problem: times, states and precisions, in every solver."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ode_runner.errors import RefusedInput, SolverFailed
from ode_runner.fields.ledger import Phase
from ode_runner.gradients.adjoint import Adjoint
from ode_runner.gradients.backprop import Backprop
from ode_runner.gradients.checkpoint import Checkpoint
from ode_runner.integrator import Integrator
from ode_runner.solvers.base import AdaptiveSolver, FixedStepSolver, Solver
from ode_runner.solvers.explicit.ab2 import AB2
from ode_runner.solvers.explicit.ab3 import AB3
from ode_runner.solvers.explicit.ab4 import AB4
from ode_runner.solvers.explicit.dopri5 import Dopri5
from ode_runner.solvers.explicit.euler import Euler
from ode_runner.solvers.explicit.fixed_point_euler import FixedPointEuler
from ode_runner.solvers.explicit.rk4 import RK4
from ode_runner.solvers.implicit.implicit import ImplicitSolver
from ode_runner.solvers.implicit.implicit_euler import ImplicitEuler
from ode_runner.solvers.implicit.kvaerno3 import Kvaerno3
from ode_runner.solvers.implicit.radau_iia5 import RadauIIA5
from ode_runner.solvers.libraries.adams import Adams
from ode_runner.solvers.libraries.scipy_ivp import SciPy
from ode_runner.solvers.per_sample import PerSampleStepping
from tests.helpers import options
from tests.problems import Compose, Formula, build, named_class, offering

ADJOINT = Adjoint(rtol=None, atol=None)
SLOW = pytest.mark.slow
NAN, INF = math.nan, math.inf


class Pull(Formula):
    """dy/dt = k sin y."""

    def __init__(self, k: float = -1.0) -> None:
        super().__init__(lambda t, y: y)
        self.k = torch.nn.Parameter(torch.tensor(k))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return self.k * torch.sin(y)


def everything() -> list[tuple[str, dict[str, bool]]]:
    """Every solver of any field, and those that can step each sample alone once more so."""
    names = [name for name in options("solver") if named_class("solver", name).fields.__name__ == "VectorField"]
    alone = [name for name in names if issubclass(named_class("solver", name), PerSampleStepping)]
    return [*((name, {}) for name in names), *((name, {"per_sample": True}) for name in alone)]


each_solver = pytest.mark.parametrize(("name", "how"), everything(), ids=lambda value: str(value) if value else "")


def integrator(composed: Compose, name: str, how: dict[str, bool]) -> Integrator:
    solver: Solver = build(composed, "solver", name, **how)
    return Integrator(solver=solver, gradient=Backprop() if solver.differentiable else ADJOINT)


@pytest.mark.parametrize(
    ("ts", "said"),
    [
        (torch.tensor([0.0, 1.0, 0.5]), "from 0 to 0.5 but from 1 to 0.5 in between"),
        (torch.tensor([1.0, 0.0, 0.5]), "from 1 to 0.5 but from 0 to 0.5 in between"),
        (torch.tensor([0.0, 1.0, 0.0]), "run one way"),
        (torch.tensor([0.0, NAN, 1.0]), "number 2 of 3 is nan"),
        (torch.tensor([0.0, INF]), "number 2 of 2 is inf"),
        (torch.tensor([]), r"of shape \(0,\)"),
        (torch.tensor(0.5), r"of shape \(\)"),
        (torch.zeros(2, 2), r"of shape \(2, 2\)"),
        (torch.tensor([0, 1, 2]), "torch.int64"),
        (torch.tensor([0, 1 + 1j]), "torch.complex64"),
        ([0.0, 1.0], "a list"),
    ],
)
@pytest.mark.parametrize("solver", [RK4(num_steps=4, step_size=None), Dopri5(rtol=1e-3, atol=1e-3, max_steps=99)])
def test_times_that_mean_nothing_are_refused(solver: Solver, ts: Tensor, said: str) -> None:
    field = Formula(lambda t, y: -y)
    with pytest.raises(RefusedInput, match=f"times must .*{said}|^times must {said}"):
        Integrator(solver=solver, gradient=Backprop())(field, torch.ones(1, 2), ts)
    assert not field.calls


@each_solver
def test_repeated_times_repeat_the_state(composed: Compose, name: str, how: dict[str, bool]) -> None:
    ts = torch.tensor([0.0, 0.0, 0.5, 0.5, 1.0, 1.0])
    ys = integrator(composed, name, how)(Pull(), torch.tensor([[1.0], [0.5]]), ts).ys.detach()
    once = integrator(composed, name, how)(Pull(), torch.tensor([[1.0], [0.5]]), ts[::2]).ys.detach()
    torch.testing.assert_close(ys, once.repeat_interleave(2, dim=0), rtol=0, atol=0)


def test_a_complex_state_is_refused() -> None:
    with pytest.raises(RefusedInput, match="complex.*view_as_real"):
        Integrator(solver=Euler(num_steps=1, step_size=None), gradient=Backprop())(
            Formula(lambda t, y: -y), torch.ones(1, 2, dtype=torch.complex64), torch.tensor([0.0, 1.0])
        )


@each_solver
@pytest.mark.parametrize("of_times", [torch.float32, torch.float64])
def test_a_solve_is_in_the_finer_precision(
    composed: Compose, name: str, how: dict[str, bool], of_times: torch.dtype
) -> None:
    field, seen = Pull().double(), set[torch.dtype]()
    field.register_forward_pre_hook(lambda module, inputs: seen.update(x.dtype for x in inputs))
    y0 = torch.tensor([[1 / 3]], dtype=torch.float64 if of_times == torch.float32 else torch.float32)
    ys = integrator(composed, name, how)(field, y0, torch.tensor([0.0, 0.25, 0.7], dtype=of_times)).ys
    assert ys.dtype == torch.float64
    assert seen == {torch.float64}
    assert torch.equal(ys[0], y0.double())


@pytest.mark.usefixtures("float64")
@each_solver
@pytest.mark.parametrize(
    "shape", [(3,), (0, 2), *(pytest.param(rare, marks=SLOW) for rare in [(1,), (0,), (2, 0)])], ids=str
)
def test_states_of_any_shape_with_a_batch_are_solved(
    composed: Compose, name: str, how: dict[str, bool], shape: tuple[int, ...]
) -> None:
    y0 = torch.linspace(0.5, 1, 3)[: math.prod(shape)].view(shape).requires_grad_()
    field, expected = Pull(), 2 * torch.atan(torch.tan(y0.detach() / 2) * math.exp(-1))
    ys = integrator(composed, name, how)(field, y0, torch.tensor([0.0, 0.3, 1.0])).ys
    ys[-1].sum().backward()
    torch.testing.assert_close(ys[-1].detach(), expected, rtol=0, atol=0.05)  # of the coarsest
    assert ys.shape == (3, *shape)
    assert y0.grad is not None
    assert y0.grad.shape == shape
    expected_slope = float((-torch.sin(expected)).sum())  # d/dk of the end is sin(y(1)) t, here for t = 1
    assert float(field.k.grad) == pytest.approx(-expected_slope, abs=0.1)


@each_solver
def test_a_single_number_is_solved_or_refused_in_a_sentence(composed: Compose, name: str, how: dict[str, bool]) -> None:
    integrate, ts = integrator(composed, name, how), torch.tensor([0.0, 1.0])
    if how or isinstance(integrate.solver, ImplicitSolver | SciPy):
        with pytest.raises(RefusedInput, match="a batch of one"):
            integrate(Pull(), torch.tensor(1.0), ts)
    else:
        expected = 2 * math.atan(math.tan(0.5) * math.exp(-1))
        assert float(integrate(Pull(), torch.tensor(1.0), ts).ys[-1].detach()) == pytest.approx(expected, abs=0.02)


LARGE = [
    Dopri5(rtol=1e-4, atol=1e-6, max_steps=500),
    Dopri5(rtol=1e-4, atol=1e-6, max_steps=500, per_sample=True),
    Kvaerno3(rtol=1e-4, atol=1e-6, max_steps=500),
    RadauIIA5(rtol=1e-4, atol=1e-6, max_steps=500),
]


@pytest.mark.parametrize("solver", LARGE, ids=["dopri5", "per sample", "kvaerno3", "radau"])
@pytest.mark.parametrize("span", [(0.0, 1.0), (1.0, 2.0), (1.0, 0.0)], ids=str)
@pytest.mark.parametrize("size", [1e20, pytest.param(-1e30, marks=SLOW)])
def test_a_large_field_is_no_stiff_one(solver: AdaptiveSolver, span: tuple[float, float], size: float) -> None:
    field = Formula(lambda t, y: y)
    field.forward = lambda t, y: torch.full_like(y, size)  # type: ignore[method-assign]
    ys = solver.solve(field, torch.tensor([[1.0], [2.0]]), torch.tensor(span)).ys
    torch.testing.assert_close(ys[-1], torch.full((2, 1), size * (span[1] - span[0])), rtol=1e-4, atol=0)


@pytest.mark.parametrize("solver", LARGE[::2], ids=["dopri5", "kvaerno3"])
def test_a_failure_names_a_finite_field_as_it_is(solver: AdaptiveSolver) -> None:
    with pytest.raises(SolverFailed, match=r"\|f\|=\d.*e\+\d\d, .*max_steps=2 was reached"):
        replace(solver, max_steps=2).solve(Formula(lambda t, y: y * 1e20), torch.ones(1, 1), torch.tensor([0.0, 1.0]))


@pytest.mark.parametrize("name", ["explicit_adams", "implicit_adams"])
@pytest.mark.parametrize("begin", [pytest.param(0.0, marks=SLOW), 3.0, pytest.param(-20.0, marks=SLOW)])
@pytest.mark.parametrize("repeated", [False, True])
def test_a_multistep_method_does_not_start_anew_at_an_output(
    composed: Compose, name: str, begin: float, repeated: bool
) -> None:
    counts = []
    for dtype in (torch.float32, torch.float64):
        solver: Adams = build(composed, "solver", name, num_steps=20)
        integrate = Integrator(solver=solver, gradient=Backprop())
        ts = torch.linspace(begin, begin + 10, 201, dtype=dtype)
        ts = ts.repeat_interleave(2) if repeated else ts
        with integrate.ledger.phase(Phase.FORWARD) as tally:
            integrate(Formula(lambda t, y: torch.cos(t) - y), torch.ones(1, 1, dtype=dtype), ts)
        counts.append(tally.evaluations)
        assert tally.accepted == 200
        assert tally.evaluations < (210 if name == "explicit_adams" else 620)
    assert counts[0] <= 1.1 * counts[1]


def test_a_multistep_method_starts_anew_where_steps_differ() -> None:
    solver = Adams(num_steps=10, step_size=None, method="explicit_adams", max_order=4, rtol=1e-6, atol=1e-6, order=3)
    field = Formula(lambda t, y: -y)
    solver.solve(field, torch.ones(1, 1), torch.tensor([0.0, 1.0, 1.95]))
    assert field.calls > 20 + 6  # twice the start by the 3/8 rule, which takes three evaluations more a step


# Steps a unit of time; Adams methods start anew where a time is moved.
FINE = {Euler: 200, FixedPointEuler: 200, ImplicitEuler: 200, Adams: 100, AB2: 200, AB3: 200, AB4: 200}
TOLERANCES = {1: 1e-2, 2: 1e-3}  # by order: how far derivatives of the flow are from those of the solution
FIXED = [name for name in offering(FixedStepSolver) if not named_class("solver", name).kind.endswith("implicit")]


@pytest.mark.sampled(2)
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FIXED else SLOW) for name in offering(FixedStepSolver)]
)
@pytest.mark.parametrize("off", [-1e-7, *(pytest.param(off, marks=SLOW) for off in (0.0, 1e-7, 1e-6))], ids=str)
def test_gradcheck_passes_at_and_beside_the_end_of_a_step(composed: Compose, name: str, off: float) -> None:
    """Against differences of 1e-6 in all inputs: times too, whose derivative is the flow's, so that steps are short."""
    solver = build(composed, "solver", name, num_steps=FINE.get(named_class("solver", name), 50))
    weight = torch.tensor([0.7], requires_grad=True)

    def solved(y0: Tensor, ts: Tensor, weight: Tensor) -> Tensor:
        field = Formula(lambda t, y: torch.sin(weight * y + t))
        return Integrator(solver=solver, gradient=Backprop())(field, y0, ts).ys

    step = 1 / (solver.num_steps or 1)
    ts = torch.tensor([0.0, 10 * step + off * step, 20 * step, 1.0], requires_grad=True)
    y0 = torch.tensor([[0.3, -0.4]], requires_grad=True)
    assert torch.autograd.gradcheck(solved, (y0, ts, weight), atol=TOLERANCES.get(solver.order, 1e-5), rtol=1e-3)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("off", [1e-7, -1e-7, 3e-7])
def test_an_output_beside_the_end_of_a_step_is_interpolated(off: float) -> None:
    """It was the state at that end: an error of |f| times 1e-6 of a step."""
    solver, beginning = RK4(num_steps=2, step_size=None), torch.ones(1, 1)
    ts = torch.tensor([0.0, 0.5, 0.5 + off, 1.0]) if off > 0 else torch.tensor([0.0, 0.5 + off, 0.5, 1.0])
    ys = solver.solve(Formula(lambda t, y: 10 * y.cos()), beginning, ts).ys[:, 0, 0]
    slope = float((ys[2] - ys[1]) / abs(off))
    end = ys[1] if off > 0 else ys[2]
    assert slope == pytest.approx(float(10 * end.cos()), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("mode", [Checkpoint(), ADJOINT], ids=["checkpoint", "adjoint"])
def test_an_empty_batch_gives_parameters_a_gradient_of_zero(mode: Checkpoint | Adjoint) -> None:
    field = Pull()
    ys = Integrator(solver=LARGE[0], gradient=mode)(field, torch.empty(0, 2), torch.tensor([0.0, 1.0])).ys
    ys.sum().backward()
    assert field.k.grad is not None
    assert float(field.k.grad) == 0


@pytest.mark.parametrize(("name", "changed"), everything(), ids=str)
@pytest.mark.parametrize("part", [slice(1), (slice(None), slice(1)), None], ids=["one sample", "one element", "number"])
def test_a_derivative_of_another_shape_than_its_state_is_refused(
    name: str, changed: dict[str, bool], part: object, composed: Compose
) -> None:
    """It would be broadcast over the batch, without a word. Mapped over, a sample is a batch by itself."""
    if changed and part == slice(1):
        pytest.skip("right for every sample alone")
    field = Formula(lambda t, y: y.sum() if part is None else -y[part])
    integrate = Integrator(solver=build(composed, "solver", name, **changed), gradient=ADJOINT)
    with pytest.raises(RefusedInput, match="in the shape of its state"), torch.no_grad():
        integrate(field, torch.ones(4, 3), torch.tensor([0.0, 1.0]))
