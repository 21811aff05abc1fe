"""Compiled steps against the same steps as PyTorch takes them one operation at a time."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ode_runner as ode
from ode_runner.batch import Split
from ode_runner.compiling.c_code import operations
from ode_runner.compiling.c_code.graph import compile_graph
from ode_runner.compiling.c_code.recorder import Recording
from ode_runner.compiling.solves import CompiledSolves
from ode_runner.errors import CannotCompile, IncompatibleChoice, SolverFailed
from ode_runner.experiment.experiment import Experiment
from ode_runner.experiment.forward_pass import ForwardPass
from ode_runner.field import VectorField
from ode_runner.fields.counted_field import CountedField
from ode_runner.fields.ledger import Ledger, Phase, Tally
from ode_runner.gradients.adjoint import Adjoint
from ode_runner.gradients.backprop import Backprop
from ode_runner.gradients.base import GradientMode
from ode_runner.gradients.checkpoint import Checkpoint
from ode_runner.gradients.interpolated import Interpolated
from ode_runner.gradients.seminorm import Seminorm
from ode_runner.integrator import Integrator
from ode_runner.problem import Problem
from ode_runner.solvers.base import AdaptiveSolver, Solver
from ode_runner.solvers.embedded import EmbeddedRungeKutta
from ode_runner.solvers.explicit.dopri5 import Dopri5
from ode_runner.solvers.explicit.euler import Euler
from ode_runner.solvers.explicit.rk4 import RK4
from ode_runner.solvers.explicit.tsit5 import Tsit5
from ode_runner.solvers.implicit.diagonally_implicit import DiagonallyImplicit
from ode_runner.solvers.runge_kutta import FixedStepRungeKutta
from ode_runner.training import prepare_compiled
from ode_runner.training.prepare_compiled import FEWEST_FUSED, FEWEST_STEPS, compile_training
from ode_runner.training.training_problems import training_solves
from ode_runner.types import State, Time
from tests.helpers import TINY, record_of, rows_of, run_folder, typed
from tests.problems import Compose, SmallNet, build, named_class, offering, solve_by
from tests.resuming import check_resumed

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")  # PyTorch 2.11's own

DOPRI5 = Dopri5(rtol=1e-5, atol=1e-7, max_steps=1000)
EXPLICIT = [
    name
    for name in (*offering(FixedStepRungeKutta), *offering(EmbeddedRungeKutta))
    if not named_class("solver", name).tableau.extra_stages
]
SPANS = {
    "one output": (0.0, 1.0),
    "outputs within steps and at their ends": (0.0, 0.1, 0.13, 0.5, 0.77, 1.0),
    "backwards": (1.0, 0.4, 0.0),
    "no time at all": (0.5, 0.5, 0.5),
}
MODES = {
    "backprop": Backprop(),
    "checkpoint": Checkpoint(),
    "adjoint": Adjoint(rtol=None, atol=None),
    "seminorm": Seminorm(rtol=None, atol=None),
}
compiler = pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="needs a C++ compiler")
COMPILED = ("trainer.compile=on", "trainer.device=cpu")


def compiled_seconds(made: Experiment, **options: Any) -> float | None:
    """What compiling for the training of an experiment takes; None where it is not compiled."""
    return compile_training(ForwardPass(made, phase=Phase.FORWARD), **options).seconds


RUN = ("task=half_moons", "trainer.device=cpu", *TINY, "trainer.epochs=2", "logger=none")


@pytest.fixture
def double() -> Any:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def found(solve: Any, field: VectorField, ts: tuple[float, ...]) -> tuple[list[Tensor], Tally]:
    """The solution and its derivatives, and what they took."""
    counted, y0 = CountedField(field, Ledger()), state().requires_grad_()
    ys = solve(counted, y0, torch.tensor(ts)).ys
    weights = torch.linspace(1, 2, ys.numel()).view_as(ys)
    loss, wanted = (weights * ys).sin().sum(), [y0, *field.parameters()]
    gradients = torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)  # unused over no time
    return [ys.detach(), *gradients], counted.ledger.tally


def compiled(mode: GradientMode, solver: Solver, field: VectorField, y0: State, *, given: Sequence[Tensor] = ()) -> Any:
    """The compiled solve for such problems, in the form that `found` takes."""
    counted = CountedField.around(field, Ledger(), given=given, attached=mode.through_autograd)
    solve = mode.compiled(solver, Problem(field=counted, y0=y0, ts=y0.new_zeros(1)))
    return lambda counted, y0, ts: solve(Problem(field=counted, y0=y0, ts=ts))


def state() -> State:
    return torch.linspace(-1, 1, 12).view(4, 3)


def assert_same(ours: list[Tensor], theirs: list[Tensor], *, within: float) -> None:
    for one, other in zip(ours, theirs, strict=True):
        assert float((one - other).norm()) <= within * max(float(other.norm()), 1.0)


@pytest.mark.sampled(18)
@pytest.mark.usefixtures("uncompiled", "double")
@pytest.mark.parametrize("ts", SPANS.values(), ids=SPANS)
@pytest.mark.parametrize("name", EXPLICIT)
def test_an_exact_derivative_is_that_of_the_steps_and_costs_what_checkpoint_does(
    composed: Compose, name: str, ts: tuple[float, ...]
) -> None:
    solver, field = build(composed, "solver", name), SmallNet()
    theirs, spent = found(partial(solve_by, Checkpoint(), solver), field, ts)
    for mode in (Backprop(), Checkpoint()):
        ours, tally = found(compiled(mode, solver, field, state()), field, ts)
        assert_same(ours, theirs, within=1e-12)
        assert tally == spent


@pytest.mark.sampled(14)
@pytest.mark.usefixtures("uncompiled", "double")
@pytest.mark.parametrize("ts", list(SPANS.values())[:3], ids=list(SPANS)[:3])
@pytest.mark.parametrize("mode", ["adjoint", "seminorm"])
@pytest.mark.parametrize("name", EXPLICIT)
def test_a_continuous_derivative_is_the_one_that_the_mode_finds(
    composed: Compose, name: str, mode: str, ts: tuple[float, ...]
) -> None:
    if not MODES[mode].takes(named_class("solver", name)):
        pytest.skip("the two do not go together")
    solver, field = build(composed, "solver", name), SmallNet()
    theirs, spent = found(partial(solve_by, MODES[mode], solver), field, ts)
    ours, tally = found(compiled(MODES[mode], solver, field, state()), field, ts)
    assert_same(ours, theirs, within=1e-9)  # the same steps but for rounding, of which each chooses its length
    assert replace(tally, smallest_step=None) == replace(spent, smallest_step=None)
    assert tally.smallest_step == pytest.approx(spent.smallest_step)


class Wide(VectorField):
    """Matrices both wider than high and higher than wide, a vector, and time."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 17), nn.Tanh(), nn.Linear(17, 3))
        self.rate = nn.Parameter(torch.tensor([0.3, -0.2, 0.1]))

    def forward(self, t: Time, y: State) -> State:
        return self.layers(y) * torch.cos(t) + self.rate * y


@compiler
@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "dtype"),
    [
        ("backprop", torch.float64),
        ("checkpoint", torch.float64),  # the same code as the one before, from PyTorch's cache
        ("adjoint", torch.float32),
        ("seminorm", torch.float32),
    ],
)
def test_machine_code_finds_what_the_mode_does(mode: str, dtype: torch.dtype) -> None:
    torch.set_default_dtype(dtype)
    try:
        field, ts = Wide(), SPANS["outputs within steps and at their ends"]
        theirs, _ = found(partial(solve_by, MODES[mode], DOPRI5), field, ts)
        ours, _ = found(compiled(MODES[mode], DOPRI5, field, state()), field, ts)
    finally:
        torch.set_default_dtype(torch.float32)
    exact = MODES[mode].exact
    assert_same(ours, theirs, within=(100 if exact else 1e4) * torch.finfo(dtype).eps)  # rounding moves the steps


CONTROLS: dict[str, dict[str, Any]] = {
    "i": {},
    "pi": {"control": "pi", "first_step": 0.9},
    "pid within limits": {"control": "pid", "min_step": 0.01, "max_step": 0.2},
    "held": {"hold": True, "safety": 0.99, "grow": 20.0},
    "with a first step": {"first_step": 0.9},
}


@compiler
@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("control", CONTROLS)
def test_a_whole_solve_in_machine_code_is_that_of_its_steps(control: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps are chosen and counted as Python does, rejected ones among them."""
    solver, field = replace(DOPRI5, **CONTROLS[control]), SmallNet()
    for p in field.parameters():
        p.data *= 4
    ours = compiled(Backprop(), solver, field, state())
    for ts in (*list(SPANS.values())[:3], (0.0, 6.0)):
        theirs, spent = found(partial(solve_by, Checkpoint(), solver), field, ts)
        with monkeypatch.context() as patched:  # no piece of a step is asked for by Python
            patched.setattr("ode_runner.compiling.steps.compile_graph", None)
            values, tally = found(ours, field, ts)
        assert_same(values, theirs, within=1e-10)
        assert tally == spent
    assert solver.solve(field, state(), torch.tensor([0.0, 6.0])).rejected or solver.max_step is not None


@compiler
@pytest.mark.usefixtures("double")
def test_a_fixed_grid_in_machine_code_is_that_of_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """With several steps between two outputs."""
    field, solver = SmallNet(), RK4(num_steps=None, step_size=0.25)
    ours = compiled(Backprop(), solver, field, state())
    monkeypatch.setattr("ode_runner.compiling.runs.compile_graph", None)  # no run of a few steps is asked for by Python
    for ts in ((0.0, 0.25, 1.0, 1.25), (2.0, 0.5)):
        theirs, spent = found(partial(solve_by, Checkpoint(), solver), field, ts)
        values, tally = found(ours, field, ts)
        assert_same(values, theirs, within=1e-12)
        assert tally == spent


@compiler
@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("mode", ["adjoint", "seminorm"])
def test_an_adjoint_in_machine_code_is_that_of_its_steps(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    field = SmallNet()
    ours = compiled(MODES[mode], DOPRI5, field, state())
    for ts in list(SPANS.values())[:3]:
        theirs, spent = found(partial(solve_by, MODES[mode], DOPRI5), field, ts)
        with monkeypatch.context() as patched:
            patched.setattr("ode_runner.compiling.steps.compile_graph", None)
            values, tally = found(ours, field, ts)
        assert_same(values, theirs, within=1e-9)
        assert replace(tally, smallest_step=None) == replace(spent, smallest_step=None)
        assert tally.smallest_step == pytest.approx(spent.smallest_step)
    monkeypatch.setattr("ode_runner.compiling.whole_adjoint.ROOM", 1)  # too little: Python takes the steps
    assert_same(found(ours, field, ts)[0], values, within=1e-12)


@compiler
@pytest.mark.usefixtures("double")
def test_a_whole_solve_that_fails_is_told_by_python() -> None:
    field = SmallNet()
    ours = compiled(Backprop(), replace(DOPRI5, max_steps=2), field, state())
    with pytest.raises(SolverFailed, match="the limit solver.max_steps=2 was reached"):
        found(ours, field, (0.0, 6.0))


class Turned(VectorField):
    """What it returns lies in memory the other way round, as states and what reaches the outputs may."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.linspace(-1, 1, 9).view(3, 3))

    def forward(self, t: Time, y: State) -> State:
        return (self.matrix @ torch.tanh(y).t()).t()


def turned(solve: Any, field: VectorField) -> list[Tensor]:
    """The derivatives of a loss that sees the outputs transposed."""
    y0 = state().t().contiguous().t().requires_grad_()
    ys = solve(CountedField(field, Ledger()), y0, torch.tensor([0.0, 0.3, 1.0])).ys
    loss = (ys.transpose(1, 2) * torch.linspace(1, 2, ys.numel()).view(3, 3, 4)).sin().sum()
    return list(torch.autograd.grad(loss, [y0, *field.parameters()]))


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("mode", MODES)
def test_compiled_code_is_given_contiguous_tensors_only(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def demanding(function: Any, examples: list[Tensor]) -> Any:
        def compiled(*inputs: Tensor) -> list[Tensor]:
            assert all(one.is_contiguous() for one in inputs)
            return [one.contiguous() for one in function(*inputs)]

        compiled(*examples)
        return compiled

    monkeypatch.setattr("ode_runner.compiling.steps.compile_graph", demanding)
    monkeypatch.setattr("ode_runner.compiling.one_call.compile_library", lambda functions, driver: None)
    field, like = Turned(), state().t().contiguous().t()
    theirs = turned(partial(solve_by, MODES[mode], DOPRI5), field)
    assert_same(turned(compiled(MODES[mode], DOPRI5, field, like), field), theirs, within=1e-9)  # chosen by rounding


@compiler
@pytest.mark.slow
@pytest.mark.usefixtures("double")
def test_machine_code_of_a_field_whose_result_is_not_contiguous() -> None:
    field = Turned()
    theirs = turned(partial(solve_by, Backprop(), DOPRI5), field)
    assert_same(turned(compiled(Backprop(), DOPRI5, field, state().t().contiguous().t()), field), theirs, within=1e-12)


@pytest.mark.usefixtures("uncompiled", "double")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("solver", [DOPRI5, RK4(num_steps=4, step_size=None)], ids=["adaptive", "fixed"])
def test_a_single_time_is_no_solve(mode: str, solver: Solver) -> None:
    if not MODES[mode].takes(type(solver)):
        pytest.skip("the two do not go together")
    field = SmallNet()
    theirs, spent = found(partial(solve_by, MODES[mode], solver), field, (0.5,))
    ours, tally = found(compiled(MODES[mode], solver, field, state()), field, (0.5,))
    assert_same(ours, theirs, within=0.0)
    assert tally == spent


class Masked(Wide):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", torch.tensor([1.0, 0.0, 1.0]))

    def forward(self, t: Time, y: State) -> State:
        return self.mask * super().forward(t, y)


class Fading(Masked):
    """Each call changes the buffer."""

    def forward(self, t: Time, y: State) -> State:
        self.mask.mul_(0.9)
        return super().forward(t, y)


class Replacing(Masked):
    """Each call puts another tensor in the place of the buffer."""

    def forward(self, t: Time, y: State) -> State:
        self.mask = 0.9 * self.mask
        return super().forward(t, y)


class Normalised(Wide):
    """With a buffer of whole numbers: the count of batches."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)

    def forward(self, t: Time, y: State) -> State:
        return super().forward(t, self.norm(y))


class Weighted(Wide):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.tensor([1.0, 0.0, 1.0])

    def forward(self, t: Time, y: State) -> State:
        return self.weight * super().forward(t, y)


class Noisy(Wide):
    def forward(self, t: Time, y: State) -> State:
        return super().forward(t, y) + torch.randn_like(y)


class Undecided(Wide):
    def forward(self, t: Time, y: State) -> State:
        return super().forward(t, y) if float(y.sum()) > 0 else -y


class Reading(Wide):
    def forward(self, t: Time, y: State) -> State:
        return super().forward(t, y) * float(y.sum())


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        (Fading, "has buffers, and recording would change them"),
        (Replacing, "has buffers, and recording would change them"),
        (Normalised, "has buffers, and recording would change them"),
        (Weighted, "a tensor that is none of its parameters or buffers"),
        (Noisy, "random numbers"),
        (Undecided, "reads the value of a tensor"),
        (Reading, "reads the value of a tensor"),
    ],
    ids=["a buffer", "a new buffer", "batch normalisation", "another tensor", "random numbers", "a branch", "a number"],
)
def test_a_field_that_is_more_than_a_function_of_its_parameters_is_left_alone(
    field: type[VectorField], reason: str
) -> None:
    with pytest.raises(CannotCompile, match=reason):
        found(compiled(Backprop(), DOPRI5, made := field(), state()), made, SPANS["one output"])


@compiler
@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("mode", MODES)
def test_a_buffer_has_the_value_of_the_time_of_a_solve(mode: str) -> None:
    field = Masked()
    ours = compiled(MODES[mode], DOPRI5, field, state())
    for mask in ([1.0, 0.0, 1.0], [0.5, 2.0, 0.0]):
        field.mask.copy_(torch.tensor(mask))
        theirs, _ = found(partial(solve_by, MODES[mode], DOPRI5), field, (0.0, 0.3, 1.0))
        assert_same(found(ours, field, (0.0, 0.3, 1.0))[0], theirs, within=1e-10)


class Graph(VectorField):
    """Messages along the edges of a graph, whose ends are whole numbers, and batch normalisation with its count."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(2, 1), nn.BatchNorm1d(3)
        self.register_buffer("edges", torch.tensor([[0, 0, 1, 2], [1, 2, 0, 1]]))
        self.begin, _ = torch.tensor([[0, 0, 1, 2], [1, 2, 0, 1]])
        self.moves = torch.tensor([True, True, False])

    def forward(self, t: Time, y: State) -> State:
        ends = torch.stack([y[:, self.begin], y[:, self.edges[1]]], dim=2)
        messages = torch.tanh(self.linear(ends)).squeeze(2)
        summed = torch.zeros_like(y).index_add(1, self.edges[1], messages)
        return torch.where(self.moves, self.norm(summed), -y)


@compiler
@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("mode", MODES)
def test_a_field_may_read_whole_numbers(mode: str) -> None:
    field = Graph().eval()
    ours = compiled(MODES[mode], DOPRI5, field, state())
    theirs, _ = found(partial(solve_by, MODES[mode], DOPRI5), field, (0.0, 0.3, 1.0))
    assert_same(found(ours, field, (0.0, 0.3, 1.0))[0], theirs, within=1e-10)


IMPLICIT = [name for name in offering(DiagonallyImplicit) if name != "kencarp3"]  # which takes another part explicitly


@pytest.mark.parametrize("name", [name for name in offering(Solver) if name not in {*EXPLICIT, *IMPLICIT}])
def test_only_explicit_and_diagonally_implicit_steps_are_compiled(composed: Compose, name: str) -> None:
    with pytest.raises(CannotCompile, match="implicit Runge-Kutta|evaluations of their own|a way of its own"):
        compiled(Backprop(), build(composed, "solver", name), SmallNet(), state())


@pytest.mark.parametrize(
    ("mode", "solver", "reason"),
    [
        (Interpolated(rtol=None, atol=None), DOPRI5, "gradient modes"),
        (MODES["adjoint"], replace(DOPRI5, per_sample=True), "steps of each sample's own"),
    ],
)
def test_what_has_no_compiled_form_says_so(mode: GradientMode, solver: AdaptiveSolver, reason: str) -> None:
    with pytest.raises(CannotCompile, match=reason):
        compiled(mode, solver, SmallNet(), state())


@pytest.mark.parametrize("mode", MODES)
def test_a_field_that_learns_nothing_is_left_alone(mode: str) -> None:
    for field in (SmallNet().requires_grad_(False), Decay()):
        with pytest.raises(CannotCompile, match="nothing to learn"):
            compiled(MODES[mode], DOPRI5, field, state())


class Decay(VectorField):
    """Has no parameters."""

    def forward(self, t: Time, y: State) -> State:
        return -y


@pytest.mark.parametrize("mode", MODES)
def test_parameters_of_two_precisions_are_left_alone(mode: str) -> None:
    field = Wide()
    field.rate = nn.Parameter(field.rate.double())
    with pytest.raises(CannotCompile, match="another precision"):
        compiled(MODES[mode], DOPRI5, field, state())


class Conditioned(VectorField):
    """f(t, y, z, w): a condition that is learned, and a weight that is not, of every sample."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(6, 5), nn.Linear(5, 3)
        self.inner.bias.requires_grad_(False)

    def forward(self, t: Time, y: State, z: Tensor, w: Tensor) -> State:
        return w * self.outer(torch.tanh(self.inner(torch.cat([y, z, t.expand(len(y), 1)], dim=1)))) - 0.3 * y


FOUR = {
    "euler": Euler(num_steps=12, step_size=None),
    "rk4": RK4(num_steps=6, step_size=None),
    "dopri5": Dopri5(rtol=1e-6, atol=1e-6, max_steps=1000),
    "tsit5": Tsit5(rtol=1e-6, atol=1e-6, max_steps=1000),
}


def conditions(shift: float) -> tuple[Tensor, list[Tensor]]:
    """An encoder's parameter, and what is given by it."""
    raw = (torch.linspace(-1, 1, 8).view(4, 2) + shift).requires_grad_()
    return raw, [torch.tanh(raw), torch.linspace(0.5, 1.5, 12).view(4, 3) - 0.1 * shift]


def conditioned(mode: GradientMode, solve: Any, field: VectorField, shift: float) -> list[Tensor]:
    """Solution, and derivatives by the state, the field's parameters and the encoder."""
    raw, given = conditions(shift)
    counted = CountedField.around(field, Ledger(), given=given, attached=mode.through_autograd)
    y0 = state().requires_grad_()
    ys = solve(counted, y0, torch.tensor([0.0, 0.3, 0.6, 1.2])).ys
    wanted = [y0, raw, *(p for p in field.parameters() if p.requires_grad)]
    return [ys.detach(), *torch.autograd.grad((torch.linspace(1, 2, ys.numel()).view_as(ys) * ys).sin().sum(), wanted)]


@pytest.mark.usefixtures("uncompiled", "double")
@pytest.mark.parametrize("name", FOUR)
@pytest.mark.parametrize("mode", MODES)
def test_what_is_given_may_have_other_values_than_it_was_compiled_with(mode: str, name: str) -> None:
    """The condition is learned, the weight is not, and neither is one of the parameters."""
    if not MODES[mode].takes(type(FOUR[name])):
        pytest.skip("the two do not go together")
    field = Conditioned()
    ours = compiled(MODES[mode], FOUR[name], field, state(), given=conditions(0.0)[1])
    for shift in (0.0, 0.7):
        theirs = conditioned(MODES[mode], partial(solve_by, MODES[mode], FOUR[name]), field, shift)
        assert_same(conditioned(MODES[mode], ours, field, shift), theirs, within=2e-13)


@compiler
@pytest.mark.slow
@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("mode", ["backprop", "adjoint"])
def test_machine_code_of_what_is_given(mode: str) -> None:
    field, solver = Conditioned(), FOUR["dopri5"]
    ours = compiled(MODES[mode], solver, field, state(), given=conditions(0.0)[1])
    theirs = conditioned(MODES[mode], partial(solve_by, MODES[mode], solver), field, 0.7)
    assert_same(conditioned(MODES[mode], ours, field, 0.7), theirs, within=1e-11)  # a sum in another order moves steps


def test_a_solve_that_differentiates_by_something_else_than_it_was_compiled_for_is_eager() -> None:
    field, solves, (condition, weight) = Conditioned(), CompiledSolves(), conditions(0.0)[1]

    def posed(*given: Tensor) -> Problem:
        return Problem(field=CountedField(field, Ledger(), given=given), y0=state(), ts=torch.zeros(1))

    def solve(problem: Problem) -> Any:
        raise AssertionError

    solves.add(posed(condition, weight), solve)
    assert solves.find(posed(condition + 1, weight + 1)) is solve
    assert solves.find(posed(condition.detach(), weight)) is None
    assert solves.find(posed(condition, weight.clone().requires_grad_())) is None
    assert solves.find(posed(condition, weight[:, :1])) is None
    field.requires_grad_(False)
    assert solves.find(posed(condition, weight)) is None


def test_whole_numbers_given_are_left_alone() -> None:
    with pytest.raises(CannotCompile, match="another precision or type"):
        compiled(Backprop(), DOPRI5, Conditioned(), state(), given=[conditions(0.0)[1][0], torch.arange(4)])


def test_machine_code_that_computes_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(made: Any, name: str, recording: Recording) -> Any:
        return lambda *inputs: recording.outputs

    monkeypatch.setattr("ode_runner.compiling.c_code.graph.function_of", careless)
    with pytest.raises(CannotCompile, match="off by"):
        compile_graph(lambda a, b: [a * b], [torch.ones(3), torch.ones(3)])
    with pytest.raises(CannotCompile, match="no finite value"):
        compile_graph(lambda a, b: [a / (b - b)], [torch.ones(3), torch.ones(3)])


@pytest.mark.usefixtures("uncompiled")
def test_only_solves_like_the_one_compiled_for_and_to_be_differentiated_are(monkeypatch: pytest.MonkeyPatch) -> None:
    integrate, field, ts = Integrator(solver=DOPRI5, gradient=Backprop()), SmallNet().float(), torch.tensor([0.0, 1.0])
    solve, taken = compiled(Backprop(), DOPRI5, field, state()), list[tuple[int, ...]]()

    def noting(problem: Problem) -> Any:
        taken.append(tuple(problem.y0.shape))
        return solve(problem.field, problem.y0, problem.ts)

    monkeypatch.setattr(Backprop, "compiled", lambda *where, **how: noting)
    integrate.compile(field, state())
    with torch.no_grad():
        integrate(field, state(), ts)
    integrate(field, state()[:2], ts)
    integrate(SmallNet().float(), state(), ts)
    assert not taken
    integrate(field, state(), ts)
    integrate(field, state(), ts.clone().requires_grad_())
    assert taken == [(4, 3)] * 2
    replace(integrate, gradient=Checkpoint())(field, state(), ts)
    assert len(taken) == 2
    integrate.compile(field, state()[:2])
    integrate(field, state(), ts)
    integrate(field, state()[:2], ts)
    assert taken[2:] == [(4, 3), (2, 3)], "a field solved for states of two shapes"


def experiment(composed: Compose, *choices: str) -> Any:
    return cell_of(composed(*RUN, *choices))


def cell_of(cfg: Any) -> Any:
    from ode_runner.build import build_experiment

    return build_experiment(cfg, dict.fromkeys(("task", "model", "network", "solver", "gradient"), "?"))


def test_what_will_be_solved_is_found_without_evaluating_anything(composed: Compose) -> None:
    made = experiment(composed)
    [problem] = training_solves(made)
    assert problem.field.field is made.model.field
    assert problem.y0.shape == (20, 2)
    assert not problem.field.given
    assert problem.ts.tolist() == [0.0, 1.0]
    assert made.integrator.ledger.tally == Tally()


class Counting(nn.Module):
    """Keeps a number as it is called, as normalisation does its running means."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, y: State) -> Tensor:
        self.calls += 1
        return self.head(y)


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("task", ["half_moons", "lotka_volterra", "spiral_vae"])
def test_what_is_compiled_is_what_training_solves(composed: Compose, task: str) -> None:
    """The latent ODE's encoder draws eight initial states a sample in evaluation, and one in training."""
    made = cell_of(
        composed(f"task={task}", "task.train=12", "trainer.batch_size=6", "trainer.compile=on", "trainer.device=cpu")
    )
    made.model.head = Counting(made.model.head)
    random = torch.get_rng_state()
    assert compiled_seconds(made, steps=1, processes=1, say=print) is not None
    assert torch.equal(torch.get_rng_state(), random)
    assert not made.model.head.calls
    made.model.train()
    batch = next(made.task.batches(Split.TRAIN, batch_size=6, epoch=0)).to(made.dtype)
    outputs = made.outputs(batch)
    with made.integrator.ledger.phase(Phase.BACKWARD) as tally:
        outputs.values.sum().backward()
    assert tally.evaluations > 0, "compiled backprop takes its steps anew"


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize(
    ("wish", "steps", "choices", "sentence"),
    [
        ("off", 10**6, (), ""),
        ("on", 1, (), "compiling"),
        ("auto", FEWEST_STEPS, (), "compiling"),
        ("auto", FEWEST_STEPS - 1, (), ""),
        ("auto", FEWEST_STEPS, ("task=density2d", "network.depth=1", "regularizer=rnode"), "compiling"),
        ("auto", FEWEST_STEPS, ("network.width=1000", "network.depth=3"), ""),
        ("auto", FEWEST_STEPS, ("solver=radau_iia5",), "not compiled: only steps of explicit"),
        ("auto", FEWEST_STEPS, ("trainer.precision=bf16",), "not compiled: compiled steps are of"),
        ("auto", FEWEST_STEPS, ("model=resnet",), "not compiled: the model solves nothing"),
    ],
)
def test_auto_compiles_where_training_is_long_and_the_field_small(
    composed: Compose, wish: str, steps: int, choices: tuple[str, ...], sentence: str
) -> None:
    made, said = experiment(composed, f"trainer.compile={wish}", *choices), list[str]()
    seconds = compiled_seconds(made, steps=steps, processes=1, say=said.append)
    assert (seconds is not None) == (sentence == "compiling")
    assert bool(said) == bool(sentence)
    assert not said or said[-1].startswith(sentence)


@pytest.mark.usefixtures("uncompiled")
def test_auto_gives_pytorchs_compiler_longer_training_only(composed: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "_SPECIAL", {})  # no product has C code
    made = experiment(composed, "trainer.compile=auto")
    assert compiled_seconds(made, steps=FEWEST_FUSED - 1, processes=1, say=print) is None
    assert compiled_seconds(made, steps=FEWEST_FUSED, processes=1, say=print) is not None


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("gradient", ["backprop", "checkpoint"])
def test_a_field_that_is_no_faster_compiled_is_told_where_nothing_else_takes_steps_anew(
    composed: Compose, monkeypatch: pytest.MonkeyPatch, gradient: str
) -> None:
    monkeypatch.setattr(prepare_compiled, "SLOWER", 1)
    made, said = experiment(composed, "trainer.compile=on", f"gradient={gradient}"), list[str]()
    assert compiled_seconds(made, steps=1, processes=1, say=said.append) is not None
    assert ("no faster" in said[0]) == (gradient == "backprop")


class Dropping(VectorField):
    """Draws random numbers in training only."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))

    def forward(self, t: Time, y: State) -> State:
        return self.layers(y)


class Blurring(Dropping):
    def forward(self, t: Time, y: State) -> State:
        return self.layers(y + torch.randn_like(y))


@pytest.mark.parametrize("field", [Dropping, Blurring])
def test_a_random_field_is_left_alone_and_its_numbers_with_it(composed: Compose, field: type[VectorField]) -> None:
    made = experiment(composed, "trainer.compile=auto")
    made.model.field = field()
    random = torch.get_rng_state()
    said: list[str] = []
    assert compiled_seconds(made, steps=FEWEST_STEPS, processes=1, say=said.append) is None
    assert said[-1] == "not compiled: the field draws random numbers"
    assert torch.equal(torch.get_rng_state(), random), "a run that is resumed would go on with others"


def test_a_field_made_for_one_solve_is_left_alone(composed: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    made = experiment(composed, "trainer.compile=auto")
    monkeypatch.setattr(made.model, "evolve", lambda y0, ts, integrate: integrate(Dropping(), y0, ts))
    said: list[str] = []
    assert compiled_seconds(made, steps=FEWEST_STEPS, processes=1, say=said.append) is None
    assert "anew for every solve" in said[-1]


@pytest.mark.usefixtures("uncompiled")
def test_a_solve_that_fails_fails_in_training_which_keeps_it(tmp_path: Path) -> None:
    ended = typed(*RUN, "trainer.compile=on", "solver.max_steps=1", cwd=tmp_path)
    assert ended.returncode == 1
    record = record_of(tmp_path)
    assert record["status"] == "solver_failed"
    assert "To see it again: ode-run replay=" in record["reason"]
    again = typed(f"replay={run_folder(tmp_path)}", cwd=tmp_path)
    assert "the limit solver.max_steps=1 was reached" in again.stdout + again.stderr
    assert "steps are not compiled here" in again.stdout


def test_a_wish_that_cannot_be_met_is_refused_in_a_sentence(composed: Compose) -> None:
    with pytest.raises(IncompatibleChoice, match=r"trainer\.compile=on: .* Use trainer\.compile=off\."):
        compiled_seconds(experiment(composed, "trainer.compile=on"), steps=1, processes=2, say=print)


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("model=resnet", "the model solves nothing"),
        ("trainer.precision=bf16", "compiled steps are of trainer.precision=fp32 or fp64"),
        ("solver=explicit_adams", "can be compiled, and this is multistep"),
        ("gradient=interpolated", "only backprop, checkpoint, adjoint and seminorm take compiled steps"),
    ],
)
def test_what_cannot_be_compiled_is_refused_before_anything_is_said_or_made(
    word: str, reason: str, tmp_path: Path
) -> None:
    ended = typed(*RUN, "trainer.compile=on", word, cwd=tmp_path)
    assert ended.returncode == 2
    assert reason in ended.stderr
    assert ended.stdout == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("uncompiled")
def test_a_run_with_compiled_steps_learns_what_it_learns_without(tmp_path: Path) -> None:
    ended = {}
    for wish in ("on", "off"):
        (tmp_path / wish).mkdir()
        assert typed(*RUN, f"trainer.compile={wish}", cwd=tmp_path / wish).returncode == 0
        ended[wish] = record_of(tmp_path / wish), rows_of(run_folder(tmp_path / wish))
    for on, off in zip(
        *([row for row in ended[wish][1] if "train/loss" in row] for wish in ("on", "off")), strict=True
    ):
        assert on["nfe/forward"] == off["nfe/forward"]
        assert on["train/loss"] == pytest.approx(off["train/loss"], rel=1e-4)  # single precision, another order of sums
    assert ended["on"][0]["cost"]["nfe_backward"] > ended["off"][0]["cost"]["nfe_backward"] == 0
    assert ended["on"][0]["cost"]["compile_seconds"] > 0
    for record, _ in ended.values():  # the whole is no less than its parts
        cost = record["cost"]
        assert 0 < cost["train_seconds"] + (cost["compile_seconds"] or 0) <= cost["wall_seconds"]
    assert ended["off"][0]["cost"]["compile_seconds"] is None


@pytest.mark.slow
@pytest.mark.usefixtures("uncompiled")
def test_a_run_with_compiled_steps_is_resumed_bit_for_bit(tmp_path: Path) -> None:
    command = (*RUN, "trainer.compile=on", "trainer.log_every=1", "trainer.save_every_seconds=0")
    check_resumed(command, tmp_path)


def test_nothing_is_left_to_be_compiled_while_training(composed: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever of its pieces the first batch happens to want."""
    compiled: list[str] = []

    def noting(function: Any, examples: list[Tensor]) -> Any:
        compiled.append(function.__name__)
        return function

    monkeypatch.setattr("ode_runner.compiling.steps.compile_graph", noting)
    monkeypatch.setattr("ode_runner.compiling.one_call.compile_library", lambda functions, driver: None)
    made = cell_of(
        composed(
            "task=lotka_volterra", "task.train=12", "trainer.batch_size=6", "trainer.compile=on", "trainer.device=cpu"
        )
    )
    compiled_seconds(made, steps=1, processes=1, say=print)
    assert sorted(compiled) == ["_begin", "_dense_step_vjp", "_slope_change", "_step", "_step_vjp"]


@pytest.mark.slow
def test_a_field_that_grows_large_is_no_stiff_one_for_compiled_steps() -> None:
    """The compiled norms overflow; the first step is then chosen by others."""

    class Constant(VectorField):
        def __init__(self) -> None:
            super().__init__()
            self.size = torch.nn.Parameter(torch.tensor(1.0))

        def forward(self, t: Tensor, y: Tensor) -> Tensor:
            return self.size * torch.ones_like(y)

    field, y0, ts = Constant(), torch.ones(2, 3, requires_grad=True), torch.tensor([1.0, 2.0])
    integrate = Integrator(solver=replace(DOPRI5, max_steps=200), gradient=Backprop())
    integrate.compile(field, y0)
    with torch.no_grad():
        field.size.fill_(1e20)
    ys = integrate(field, y0, ts).ys
    torch.testing.assert_close(ys[-1], torch.full((2, 3), 1e20), rtol=1e-5, atol=0)
    (slope,) = torch.autograd.grad(ys[-1].sum(), field.size, create_graph=True)
    assert float(slope.detach()) == pytest.approx(6, rel=1e-5)
    with pytest.raises(IncompatibleChoice, match=r"compiled steps .*trainer.compile=off"):
        torch.autograd.grad(slope, y0)


class Decays(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rate = nn.Parameter(torch.tensor([2.0]))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return -self.rate.to(y.dtype).sum() * y


@pytest.mark.parametrize(
    "options", [{}, {"per_sample": True}, {"solver": "kvaerno3"}, {"solver": "rk4", "num_steps": 4}]
)
@pytest.mark.parametrize("change", ["converted", "longer"])
def test_machine_code_reads_no_parameters_that_have_become_others(options: dict[str, Any], change: str) -> None:
    """It read the memory of numbers in double precision as that of numbers in single precision."""
    field, y0, ts = Decays(), torch.ones(4, 2), torch.tensor([0.0, 0.5])
    solve = ode.compile(field, y0, ts, **options)
    if change == "converted":
        field.double()
    else:
        field.rate.data = torch.tensor([1.0, 1.0])
    torch.testing.assert_close(solve(y0, ts).ys, ode.integrate(field, y0, ts, **options).ys, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("options", [{}, {"per_sample": True}, {"solver": "rk4", "num_steps": 4}])
def test_times_that_require_a_gradient_are_solved_in_machine_code_too(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were solved without it, and nothing said so."""
    field, y0 = Decays(), torch.ones(4, 2, requires_grad=True)
    ts = torch.tensor([0.0, 0.2, 0.5], requires_grad=True)
    wanted = [y0, ts, field.rate]

    def gradients(ys: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad((ys * torch.arange(ys.numel()).view_as(ys)).sin().sum(), wanted))

    theirs = gradients(ode.integrate(field, y0, ts, **options).ys)
    solve = ode.compile(field, y0, ts, **options)
    monkeypatch.setattr(Backprop, "solve", pytest.fail)
    assert_same(gradients(solve(y0, ts).ys), theirs, within=1e-9)
