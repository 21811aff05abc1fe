"""Compiled implicit solves, against those one operation at a time."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar, final

import pytest
import torch
from torch import Tensor, nn

from ode_runner.errors import CannotCompile, SolverFailed
from ode_runner.field import VectorField
from ode_runner.fields.counted_field import CountedField
from ode_runner.fields.ledger import Ledger, Tally
from ode_runner.gradients.backprop import Backprop
from ode_runner.integral import Integral
from ode_runner.problem import Problem, Solution
from ode_runner.solvers.implicit.diagonally_implicit import AdaptiveImplicit, DiagonallyImplicit
from ode_runner.solvers.implicit.implicit_euler import ImplicitEuler
from ode_runner.solvers.implicit.implicit_midpoint import ImplicitMidpoint
from ode_runner.solvers.implicit.kvaerno3 import Kvaerno3
from ode_runner.solvers.implicit.kvaerno5 import Kvaerno5
from ode_runner.solvers.implicit.radau_iia5 import RadauIIA5
from ode_runner.solvers.implicit.trapezoid import Trapezoid
from ode_runner.solvers.tableau import EmbeddedTableau
from tests.compiling.test_c_code import compiler
from tests.fields.test_integrals import kinetic
from tests.helpers import TINY, rows_compiled_and_not
from tests.pairs import Conditioned
from tests.problems import SmallNet
from tests.resuming import check_resumed

ADAPTIVE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5, "max_steps": 500}
FIXED: dict[str, Any] = {"num_steps": 6, "step_size": None}
KVAERNO3, TRAPEZOID = Kvaerno3(**ADAPTIVE, hold=True), Trapezoid(**FIXED)
SPANS = ((0.0, 1.0), (0.0, 0.1, 0.13, 0.5, 1.0), (1.0, 0.4, 0.0))
RUN = ("task=half_moons", "trainer.device=cpu", *TINY, "trainer.epochs=2", "logger=none", "solver=kvaerno3")


def state() -> Tensor:
    return torch.linspace(-1, 1, 12).view(4, 3)


def given() -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.randn(4, 2).requires_grad_(), torch.rand(4, 3) + 0.5, torch.ones(4)]


def counted(field: VectorField, conditions: list[Tensor]) -> CountedField:
    return CountedField.around(field, Ledger(), attached=True, given=conditions)


def compiled(solver: Any, field: CountedField, y0: Tensor) -> Callable[[Problem], Solution]:
    return Backprop().compiled(solver, Problem(field=field, y0=y0, ts=torch.zeros(1)))


def found(
    solve: Callable[[Problem], Solution], field: CountedField, y0: Tensor, ts: tuple[float, ...]
) -> tuple[list[Tensor], Solution]:
    """The states and their derivatives."""
    y0 = y0.clone().requires_grad_()
    solution = solve(Problem(field=field, y0=y0, ts=torch.tensor(ts)))
    loss = (torch.linspace(1, 2, solution.ys.numel()).view_as(solution.ys) * solution.ys).sin().sum()
    wanted = [y0, *field.field.parameters(), *(z for z in field.given if z.requires_grad)]
    gradients = torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)
    return [solution.ys.detach(), *gradients], solution


def check_same(
    solver: DiagonallyImplicit, field: VectorField, conditions: list[Tensor], y0: Tensor, ts: tuple[float, ...]
) -> tuple[Solution, Tally, Tally]:
    """Compiled, as backprop finds it; a solve of Python's would fail the test."""
    ours, theirs = counted(field, conditions), counted(field, conditions)
    values, solution = found(compiled(solver, ours, y0), ours, y0, ts)
    expected, eager = found(partial(Backprop().solve, solver), theirs, y0, ts)
    for one, other in zip(values, expected, strict=True):
        assert float((one - other).norm()) <= 1e-9 * max(float(other.norm()), 1.0)
    assert (solution.accepted, solution.rejected) == (eager.accepted, eager.rejected)
    return solution, ours.ledger.tally, theirs.ledger.tally


@pytest.fixture
def compiled_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is out of the ordinary is not left to Python."""
    monkeypatch.setattr("ode_runner.compiling.exact.compile_implicit", _without_python)


def _without_python(solver: Any, problem: Problem, **_: Any) -> Any:
    from ode_runner.compiling.implicit_solves import compile_implicit

    return compile_implicit(solver, problem, eager=lambda _: pytest.fail("Python was asked to solve"))


@compiler
@pytest.mark.usefixtures("float64", "compiled_only")
@pytest.mark.parametrize(
    "solver",
    [
        KVAERNO3,
        *(
            pytest.param(solver, marks=pytest.mark.slow)
            for solver in (
                TRAPEZOID,
                Kvaerno5(**ADAPTIVE, control="pi", first_step=0.1),
                ImplicitEuler(**FIXED),
                ImplicitMidpoint(**FIXED),
            )
        ),
    ],
)
def test_implicit_steps_are_those_of_backprop(solver: DiagonallyImplicit) -> None:
    """And cost the same but for rejected stages, which are not differentiated, and slopes, which are anew."""
    for ts in SPANS:
        solution, tally, spent = check_same(solver, Conditioned(), given(), state(), ts)
        implicit, adaptive = sum(bool(row[-1]) for row in solver.tableau.a), isinstance(solver, AdaptiveImplicit)
        slopes = solution.accepted + 1 if adaptive or implicit < len(solver.tableau.a) else 0
        assert tally.evaluations == spent.evaluations - 2 * implicit * solution.rejected + slopes
        assert tally.products == spent.products - 3 * implicit * solution.rejected
        assert tally.accepted == solution.accepted


@compiler
@pytest.mark.usefixtures("float64", "compiled_only")
def test_a_step_over_no_time_changes_nothing() -> None:
    check_same(ImplicitEuler(**FIXED), SmallNet(), [], state(), (0.0, 1.0, 1.0))


@compiler
@pytest.mark.usefixtures("float64")
def test_threads_that_share_a_solver_do_not_share_its_memory() -> None:
    field = counted(Conditioned(), given())
    solve, outcomes = compiled(KVAERNO3, field, state()), dict[float, set[tuple[float, ...]]]()

    def repeat(end: float) -> None:
        for _ in range(100):
            gradients, _ = found(solve, counted(field.field, list(field.given)), state(), (0.0, end))
            outcomes.setdefault(end, set()).add(tuple(float(x.sum()) for x in gradients))

    repeat(1.0)  # compiles, which is not for threads
    before, threads = sys.getswitchinterval(), [Thread(target=repeat, args=(end,)) for end in (1.0, 2.0)]
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert [len(outcomes[end]) for end in (1.0, 2.0)] == [1, 1]


class Stiff(VectorField):
    """Two time scales a thousandfold apart and a bend: Newton's method fails where steps are long."""

    def __init__(self) -> None:
        super().__init__()
        self.rates = nn.Parameter(torch.tensor([800.0, 1.0]))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return self.rates * (torch.cos(t) - y**3)


@pytest.mark.slow
@compiler
@pytest.mark.usefixtures("float64", "compiled_only")
def test_stiff_steps_are_rejected_where_they_are_uncompiled() -> None:
    y0 = torch.tensor([[2.0, -3.0], [0.5, 20.0]])
    solution, *_ = check_same(KVAERNO3, Stiff(), [], y0, (0.0, 0.4, 1.0))
    assert solution.rejected > 0


@pytest.mark.slow
@compiler
@pytest.mark.usefixtures("float64")
def test_a_solve_that_fails_is_told_by_python() -> None:
    field = counted(SmallNet(), [])
    solver = Kvaerno3(**ADAPTIVE | {"max_steps": 2})
    with pytest.raises(SolverFailed, match="the limit solver.max_steps=2 was reached"):
        found(compiled(solver, field, state()), field, state(), (0.0, 6.0))


class Sorted(VectorField):
    """An operation without C code."""

    def __init__(self) -> None:
        super().__init__()
        self.rate = nn.Parameter(torch.tensor(0.5))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        del t
        return self.rate * y.sort(dim=1).values


@final
@dataclass(frozen=True, kw_only=True)
class Cautious(AdaptiveImplicit):
    """With a judge of its own."""

    order: int = field(default=3, init=False)
    tableau: ClassVar[EmbeddedTableau] = Kvaerno3.tableau

    def difference(self, y0: Tensor, dt: float, ks: list[Tensor]) -> Tensor:
        return 2 * super().difference(y0, dt, ks)


def along_an_integral() -> None:
    field = CountedField.around(SmallNet(), Ledger(), attached=True, integrals={"q": Integral(kinetic, False)})
    compiled(KVAERNO3, field, state())


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: compiled(Cautious(**ADAPTIVE), counted(SmallNet(), []), state()), "of its own \\(difference\\)"),
        (along_an_integral, "implicit steps along which something is integrated \\(q\\)"),
        (lambda: compiled(TRAPEZOID, counted(SmallNet(), []), torch.ones(2, 33)), "of up to 32 numbers a sample"),
        (lambda: compiled(TRAPEZOID, counted(Sorted(), []), state()), "an operation of the field has no C code"),
        (
            lambda: compiled(RadauIIA5(**ADAPTIVE), counted(SmallNet(), []), state()),
            "and this is adaptive and implicit",
        ),
    ],
)
def test_what_has_no_compiled_form_says_so(make: Callable[[], Any], reason: str) -> None:
    with pytest.raises(CannotCompile, match=reason):
        make()


@pytest.mark.slow
@compiler
def test_a_run_learns_compiled_what_it_learns_without(tmp_path: Path) -> None:
    for on, off in rows_compiled_and_not(*RUN, cwd=tmp_path):
        assert on["train/loss"] == pytest.approx(off["train/loss"], rel=1e-8)


@pytest.mark.slow
@compiler
def test_a_run_is_resumed_bit_for_bit(tmp_path: Path) -> None:
    check_resumed((*RUN, "trainer.compile=on", "trainer.log_every=1", "trainer.save_every_seconds=0"), tmp_path)
