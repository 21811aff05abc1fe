"""Compiled solves whose every sample has steps of its own, against those one operation at a time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ode_runner.compiling import each_solves
from ode_runner.errors import CannotCompile, SolverFailed
from ode_runner.field import VectorField
from ode_runner.fields.counted_field import CountedField
from ode_runner.fields.ledger import Ledger, Tally
from ode_runner.gradients.backprop import Backprop
from ode_runner.gradients.checkpoint import Checkpoint
from ode_runner.integral import NONE, VJP, Integral
from ode_runner.models.density import exact_trace
from ode_runner.networks.dense import MLPField
from ode_runner.problem import Problem, Solution
from ode_runner.regularizers.rnode import RNODE
from ode_runner.solvers.embedded import EmbeddedRungeKutta
from ode_runner.solvers.explicit.bosh3 import Bosh3
from ode_runner.solvers.explicit.dopri5 import Dopri5
from ode_runner.solvers.explicit.dopri8 import Dopri8
from ode_runner.solvers.explicit.fehlberg2 import Fehlberg2
from ode_runner.solvers.explicit.tsit5 import Tsit5
from tests.compiling.test_c_code import compiler
from tests.fields.test_integrals import kinetic
from tests.helpers import TINY, rows_compiled_and_not
from tests.problems import SmallNet
from tests.resuming import check_resumed

OPTIONS: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-4, "max_steps": 1000, "per_sample": True}
DOPRI5 = Dopri5(**OPTIONS)
SPANS = (
    (0.0, 1.0),
    (0.0, 0.0, 0.1, 0.13, 0.5, 0.77, 1.0),
    (1.0, 0.4, 0.0),
    (0.5, 0.5),
)
RUN = ("task=half_moons", "solver.per_sample=true", "trainer.device=cpu", *TINY, "trainer.epochs=2", "logger=none")


by_each_pair = pytest.mark.parametrize(
    "solver",
    [
        DOPRI5,
        pytest.param(Tsit5(**OPTIONS, control="pid"), marks=pytest.mark.slow),
        pytest.param(Bosh3(**OPTIONS, hold=True, max_step=0.2, first_step=0.1), marks=pytest.mark.slow),
    ],
)


@pytest.fixture(autouse=True)
def few_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer than samples, so that one has to make room for another."""
    monkeypatch.setattr(each_solves, "LANES", 3)


def samples() -> Tensor:
    """Seven, whose difficulty differs."""
    return torch.linspace(-1, 1, 21).view(7, 3) * torch.tensor([1.0, 8.0, 0.1, 3.0, 0.0, 20.0, 1.0])[:, None]


def counted(
    field: VectorField, integrals: Mapping[str, Integral], conditions: Sequence[Tensor] = (), *, attached: bool
) -> CountedField:
    given = [*conditions, *(z for integral in integrals.values() for z in integral.given)]
    return CountedField.around(field, Ledger(), attached=attached, integrals=integrals, given=given)


def compiled(
    solver: Any, field: VectorField, integrals: Mapping[str, Integral] = NONE, conditions: Sequence[Tensor] = ()
) -> Callable[[Problem], Solution]:
    problem = Problem(field=counted(field, integrals, conditions, attached=True), y0=samples(), ts=torch.zeros(1))
    return Backprop().compiled(solver, problem)


def found(
    solve: Callable[[Problem], Solution], field: CountedField, ts: tuple[float, ...]
) -> tuple[list[Tensor], Tally, Any]:
    """States, integrals and their derivatives; what they took, of all samples and of each."""
    y0 = samples().requires_grad_()
    solution = solve(Problem(field=field, y0=y0, ts=torch.tensor(ts)))
    parts = [solution.ys, *solution.integrals.values()]
    loss = sum((torch.linspace(1, 2, x.numel()).view_as(x) * x).sin().sum() for x in parts)
    learned = [*field.field.parameters(), *nn.ModuleList(field.integrals).parameters()]
    wanted = [y0, *learned, *(z for z in field.given if z.requires_grad)]
    gradients = torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)
    return [*(x.detach() for x in parts), *gradients], field.ledger.tally, solution


def check_same(
    solver: EmbeddedRungeKutta,
    field: VectorField,
    integrals: Mapping[str, Integral] = NONE,
    conditions: Sequence[Tensor] = (),
    *,
    make: Callable[..., Callable[[Problem], Solution]] = compiled,
) -> None:
    """Compiled by `make`, as checkpoint finds it, at its cost."""
    solve = make(solver, field, integrals, conditions)
    for ts in SPANS:
        ours, tally, solution = found(solve, counted(field, integrals, conditions, attached=True), ts)
        eager = partial(Checkpoint().solve, solver)
        theirs, spent, expected = found(eager, counted(field, integrals, conditions, attached=False), ts)
        for one, other in zip(ours, theirs, strict=True):
            assert float((one - other).norm()) <= 1e-9 * max(float(other.norm()), 1.0)
        assert tally == spent
        assert (solution.accepted, solution.rejected) == (expected.accepted, expected.rejected)
        for name in ("evaluations", "accepted", "rejected"):
            assert torch.equal(getattr(solution.each, name), getattr(expected.each, name)), name


def check_nothing_is_left_to_python(
    solver: EmbeddedRungeKutta, monkeypatch: pytest.MonkeyPatch, make: Callable[..., Callable[[Problem], Solution]]
) -> None:
    """But a solve over no time."""
    asked: list[Any] = []
    monkeypatch.setattr(
        "ode_runner.gradients.backprop.Backprop.solve",
        lambda self, solver, problem: asked.append(problem.ts) or solver.solve(problem.field, problem.y0, problem.ts),
    )
    check_same(solver, steep(), make=make)
    assert [ts.tolist() for ts in asked] == [[0.5, 0.5]]


def steep() -> SmallNet:
    """A field that rejects some steps."""
    field = SmallNet()
    for p in field.parameters():
        p.data *= 3
    return field


@compiler
@pytest.mark.usefixtures("float64")
@by_each_pair
def test_each_sample_takes_the_steps_it_would_take_uncompiled(
    solver: EmbeddedRungeKutta, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_nothing_is_left_to_python(solver, monkeypatch, compiled)


class Moved(VectorField):
    """Conditions with a gradient and without, by layers that take one time."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 3)

    def forward(self, t: Tensor, y: Tensor, z: Tensor, w: Tensor) -> Tensor:
        return torch.tanh(self.layer(torch.cat([y, z], dim=1))) * w[:, 0] * torch.cos(t)


@pytest.mark.slow
@compiler
@pytest.mark.usefixtures("float64")
def test_something_may_be_given_to_each() -> None:
    """The noise of an estimated trace, too."""
    noise = RNODE(weight=1.0, noise="rademacher").integral(samples(), training=True)
    conditions = [torch.linspace(-2, 2, 14).view(7, 2).requires_grad_(), torch.linspace(0.5, 2, 42).view(7, 2, 3)]
    check_same(DOPRI5, Moved(), {"rnode": noise}, conditions)
    check_same(DOPRI5, Moved(), conditions=conditions)


class Toll(nn.Module):
    """An integrand that learns, and reads each sample's time."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(0.5, 1.5, 3))

    def forward(self, t: Tensor, y: Tensor, dy: Tensor, vjp: VJP) -> Tensor:
        del dy, vjp
        return (self.weight * y.square()).sum(dim=1) * torch.cos(t)


@pytest.mark.slow
@compiler
@pytest.mark.usefixtures("float64")
def test_there_may_be_integrals_along_them_and_times_of_one_call() -> None:
    """By layers that take a time for each sample; one integral learns and is judged, another is neither."""
    torch.manual_seed(0)
    integrals = {
        "trace": Integral(exact_trace, True),
        "price": Integral(Toll(), True),
        "kinetic": Integral(kinetic, False),
    }
    check_same(DOPRI5, MLPField([3, 8, 3], time=True), integrals)


@compiler
@pytest.mark.usefixtures("float64")
def test_more_steps_than_there_is_room_for_are_taken_with_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(each_solves, "ROOM", 2)
    check_same(DOPRI5, steep())


@compiler
@pytest.mark.usefixtures("float64")
def test_a_sample_that_fails_is_named_as_it_would_be_uncompiled() -> None:
    solver = replace(DOPRI5, max_steps=4)
    with pytest.raises(
        SolverFailed, match="sample . of 7: solver=dopri5 stopped .* the limit solver.max_steps=4 was reached"
    ):
        found(compiled(solver, steep()), counted(steep(), NONE, attached=True), (0.0, 1.0))


def given_to_each(solver: Any) -> None:
    field = CountedField.around(SmallNet(), Ledger(), attached=True, given=[torch.ones(7, 300)])
    Backprop().compiled(solver, Problem(field=field, y0=samples(), ts=torch.zeros(1)))


class Sorted(VectorField):
    """An operation without C code."""

    def __init__(self) -> None:
        super().__init__()
        self.rate = nn.Parameter(torch.tensor(0.5))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        del t
        return self.rate * y.sort(dim=1).values


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: compiled(Fehlberg2(**OPTIONS), SmallNet()), "need a first-same-as-last pair"),
        (lambda: compiled(Dopri8(**OPTIONS), SmallNet()), "outputs within a step of this method take evaluations"),
        (lambda: given_to_each(DOPRI5), "with up to 256 given numbers per sample"),
        (lambda: compiled(DOPRI5, Sorted()), "are compiled in C, and an operation of the field has no C code"),
    ],
)
def test_what_has_no_compiled_form_says_so(make: Callable[[], Any], reason: str) -> None:
    with pytest.raises(CannotCompile, match=reason):
        make()


@pytest.mark.usefixtures("uncompiled")
def test_code_that_no_compiler_understands_is_refused_and_never_left_to_python_unsaid() -> None:
    with pytest.raises(CannotCompile, match="compiler does not understand"):
        found(compiled(DOPRI5, SmallNet()), counted(SmallNet(), NONE, attached=True), (0.0, 1.0))


@pytest.mark.slow
@compiler
def test_a_run_learns_compiled_what_it_learns_without(tmp_path: Path) -> None:
    """And says what each sample took."""
    for on, off in rows_compiled_and_not(*RUN, cwd=tmp_path):
        assert on["train/loss"] == pytest.approx(off["train/loss"], rel=1e-9)
        for name in ("mean", "max"):
            counts = f"solver/evaluations_per_sample_{name}"
            assert on[counts] == off[counts]


@pytest.mark.slow
@compiler
def test_a_run_is_resumed_bit_for_bit(tmp_path: Path) -> None:
    check_resumed((*RUN, "trainer.compile=on", "trainer.log_every=1", "trainer.save_every_seconds=0"), tmp_path)
