"""Compiled solves of validation, which nobody differentiates, against those that take one operation at a time."""

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ode_runner.batch import Split
from ode_runner.compiling.c_code import operations
from ode_runner.errors import CannotCompile
from ode_runner.experiment.experiment import Experiment
from ode_runner.experiment.forward_pass import ForwardPass
from ode_runner.experiment.signals import StopRequest
from ode_runner.field import VectorField
from ode_runner.fields.counted_field import CountedField
from ode_runner.fields.ledger import Ledger, Phase
from ode_runner.gradients.adjoint import Adjoint
from ode_runner.gradients.backprop import Backprop
from ode_runner.gradients.base import GradientMode
from ode_runner.gradients.checkpoint import Checkpoint
from ode_runner.integral import Integral
from ode_runner.integrator import Integrator
from ode_runner.problem import Problem, Solution
from ode_runner.solvers.base import Solver
from ode_runner.solvers.explicit.dopri5 import Dopri5
from ode_runner.solvers.explicit.fehlberg2 import Fehlberg2
from ode_runner.solvers.explicit.rk4 import RK4
from ode_runner.solvers.implicit.implicit import ImplicitSolver
from ode_runner.solvers.implicit.kvaerno3 import Kvaerno3
from ode_runner.solvers.implicit.trapezoid import Trapezoid
from ode_runner.training import prepare_evaluations
from ode_runner.training.averaging import WeightAverage
from ode_runner.training.prepare_compiled import FEWEST_SOLVES, compile_training
from ode_runner.training.prepare_evaluations import compile_validation, solves_of
from ode_runner.training.training_problems import first_batch, pass_sizes, training_solves
from ode_runner.types import State, Time
from tests.compiling.test_c_code import compiler
from tests.compiling.test_compiling import cell_of
from tests.fields.test_integrals import kinetic
from tests.helpers import TINY, record_of, rows_of, run_folder, typed
from tests.problems import Compose, SmallNet
from tests.resuming import check_resumed_exactly

ADAPTIVE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-7, "max_steps": 1000}
DOPRI5 = Dopri5(**ADAPTIVE)
SOLVERS: dict[str, tuple[Solver, GradientMode, bool]] = {  # with something integrated along the solve or not
    "adaptive": (DOPRI5, Backprop(), False),
    "adaptive, by the adjoint": (DOPRI5, Adjoint(rtol=None, atol=None), True),
    "a pair without the last slope": (Fehlberg2(**ADAPTIVE), Backprop(), False),
    "a fixed grid": (RK4(num_steps=4, step_size=None), Backprop(), True),
    "every sample's own": (replace(DOPRI5, per_sample=True), Backprop(), False),
    "implicit": (Kvaerno3(**ADAPTIVE, hold=True), Backprop(), False),
    "implicit, by steps taken anew": (Kvaerno3(**ADAPTIVE, hold=True), Checkpoint(), False),
    "implicit on a grid": (Trapezoid(num_steps=4, step_size=None), Backprop(), False),
}
RUN = ("task=half_moons", "trainer.device=cpu", *TINY, "trainer.epochs=2", "logger=none", "trainer.compile=on")


class OfTraining(VectorField):
    """Another function in training than in evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, t: Time, y: State) -> State:
        return self.layer(y).sin() if self.training else self.layer(y).cos()


@compiler
@pytest.mark.slow
@pytest.mark.parametrize(("solver", "mode", "integrated"), SOLVERS.values(), ids=SOLVERS)
def test_a_solve_that_nobody_differentiates_is_that_of_eager_steps(
    solver: Solver, mode: GradientMode, integrated: bool
) -> None:
    """In machine code: states, integrals, steps and evaluations, with outputs within steps, and new weights."""
    field = SmallNet().double().eval()
    eager, compiled = Integrator(solver=solver, gradient=mode), Integrator(solver=solver, gradient=mode)
    y0, ts = torch.linspace(-1, 1, 12).double().view(4, 3), torch.tensor([0.0, 0.5, 0.75, 1.0]).double()
    within = 1e-6 if isinstance(solver, ImplicitSolver) else 1e-9  # Newton's method ends within the tolerance
    integrals = {"kinetic": Integral(kinetic, judged=False)} if integrated else {}
    compiled.compile_evaluation(_problem(field, y0, integrals))
    with torch.no_grad():
        for _ in range(2):
            ours, theirs = (integrate(field, y0, ts, integrals=integrals) for integrate in (compiled, eager))
            assert torch.allclose(ours.ys, theirs.ys, rtol=within, atol=1e-12)
            assert all(torch.allclose(ours.integrals[name], theirs.integrals[name], rtol=within) for name in integrals)
            assert (ours.accepted, ours.rejected) == (theirs.accepted, theirs.rejected)
            tally, smallest = eager.ledger.tally, compiled.ledger.tally.smallest_step
            assert smallest == (tally.smallest_step and pytest.approx(tally.smallest_step, rel=within))
            assert compiled.ledger.tally == replace(tally, smallest_step=smallest)
            assert _each(ours) == _each(theirs)
            field.inner.weight.mul_(1.5)
        assert not torch.equal(ours.ys, eager(field, y0, ts).ys), "compiled sums have another order"


def _each(solution: Solution) -> list[list[int]]:
    """What each sample has taken, where it has steps of its own."""
    each = solution.each
    return [] if each is None else [x.tolist() for x in (each.evaluations, each.accepted, each.rejected)]


def _problem(field: VectorField, y0: Tensor, integrals: dict[str, Integral]) -> Problem:
    return Problem(field=CountedField.around(field, Ledger(), integrals=integrals), y0=y0, ts=y0.new_zeros(1))


@pytest.mark.usefixtures("uncompiled")
def test_a_field_in_another_mode_is_another_one() -> None:
    field, ts = OfTraining().eval(), torch.tensor([0.0, 1.0])
    eager, compiled = (Integrator(solver=DOPRI5, gradient=Backprop()) for _ in range(2))
    y0 = torch.linspace(-1, 1, 12).view(4, 3)
    compiled.compile_evaluation(_problem(field, y0, {}))
    compiled.compile(field.train(), y0)
    for training in (True, False):
        field.train(training)
        for differentiated in (True, False):
            with torch.set_grad_enabled(differentiated):
                assert torch.allclose(compiled(field, y0, ts).ys, eager(field, y0, ts).ys, atol=1e-5)


def cell(composed: Compose, *choices: str) -> Experiment:
    made = cell_of(composed(*RUN, "task=lotka_volterra", *choices))
    assert isinstance(made, Experiment)
    return made


def compiled_kinds(made: Experiment, *, validations: int, steps: int = 1) -> tuple[int, list[str]]:
    """How many kinds of solves of validation have been compiled, and what was said."""
    said = list[str]()
    compile_validation(made, validations=validations, steps=steps, say=said.append)
    with torch.no_grad():
        made.model.eval()
        found = [made.integrator._compiled.without.find(problem) for problem, _ in solves_of(made, Split.VALIDATION)]
    return len([solve for solve in found if solve is not None]), said


@pytest.mark.usefixtures("uncompiled")
def test_solves_of_validation_are_compiled_where_there_are_many(composed: Compose) -> None:
    """Seven batches of three samples and a smaller one, which is a kind of its own."""
    made, random = cell(composed, "task=half_moons", "trainer.eval_batch_size=3"), torch.get_rng_state()
    before = made.evaluate(Split.VALIDATION, StopRequest())
    with torch.no_grad():
        assert [count for _, count in solves_of(made, Split.VALIDATION)] == [6, 1]
    assert compiled_kinds(made, validations=FEWEST_SOLVES // 6)[0] == 0
    assert compiled_kinds(made, validations=FEWEST_SOLVES // 6 + 1)[0] == 1
    assert compiled_kinds(made, validations=FEWEST_SOLVES) == (2, [])
    assert torch.equal(torch.get_rng_state(), random)
    after = made.evaluate(Split.VALIDATION, StopRequest())
    assert after == pytest.approx(before, rel=1e-5)
    assert after["nfe"] == before["nfe"]
    made.integrator.forget_evaluations()
    assert made.evaluate(Split.VALIDATION, StopRequest()) == before


@compiler
@pytest.mark.slow
@pytest.mark.parametrize(
    "choices",
    [
        ("task=density2d", "task.validation=40", "network.width=4"),
        ("task=half_moons", "solver.per_sample=true"),
        ("task=lorenz_sde", "model=latent_sde", "task.train=8", "task.validation=8", "task.test=8"),
    ],
)
def test_a_validation_in_machine_code_is_the_eager_one(
    composed: Compose, monkeypatch: pytest.MonkeyPatch, choices: tuple[str, ...]
) -> None:
    made = cell_of(composed(*choices, "trainer.device=cpu", "trainer.compile=on"))
    torch.manual_seed(0)
    before = made.evaluate(Split.VALIDATION, StopRequest())
    count, said = compiled_kinds(made, validations=FEWEST_SOLVES)
    assert count
    assert not said
    monkeypatch.setattr(Backprop, "solve", lambda *_: pytest.fail("a solve was not compiled"))
    torch.manual_seed(0)
    after = made.evaluate(Split.VALIDATION, StopRequest())
    assert after == pytest.approx(before, rel=1e-4)  # single precision, another order of sums
    assert after["nfe"] == before["nfe"]


@pytest.mark.usefixtures("uncompiled")
def test_an_average_of_the_weights_is_validated_by_compiled_solves(composed: Compose) -> None:
    made = cell(composed, "task=half_moons")
    judged = replace(made, model=WeightAverage(made.model, decay=0.9).model)
    assert compiled_kinds(judged, validations=FEWEST_SOLVES) == (1, [])


@pytest.mark.usefixtures("uncompiled")
def test_auto_compiles_no_validation_of_large_fields(composed: Compose) -> None:
    large = ("trainer.compile=auto", "network.width=1000", "network.depth=3", "task=half_moons")
    assert compiled_kinds(cell(composed, *large), validations=FEWEST_SOLVES, steps=10**6) == (0, [])


@pytest.mark.usefixtures("uncompiled")
def test_what_cannot_be_compiled_is_validated_as_it_is(composed: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "_SPECIAL", {})  # no product has C code
    count, said = compiled_kinds(cell(composed, "task=half_moons"), validations=FEWEST_SOLVES)
    assert (count, said) == (0, ["validation is not compiled: an operation of the field has no C code"])


@pytest.mark.usefixtures("uncompiled")
def test_what_is_compiled_and_what_is_not_is_said(composed: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of kinds of solves, of which some can be compiled."""
    made = cell(composed, "task=half_moons")
    [kind] = solves_of(made, Split.VALIDATION)
    answers = iter([True, CannotCompile("no C code"), CannotCompile("no C code")])

    def compiled(*_: Any, **__: Any) -> bool:
        if isinstance(answer := next(answers), CannotCompile):
            raise answer
        return answer

    monkeypatch.setattr(prepare_evaluations, "solves_of", lambda *_: [kind] * 3)
    monkeypatch.setattr(prepare_evaluations, "_compile", compiled)
    said = list[str]()
    compile_validation(made, validations=FEWEST_SOLVES, steps=1, say=said.append)
    assert said == [
        "validation is compiled in part: 1 of 3 kinds of its solves are, and not the others: no C code",
    ]


@compiler
@pytest.mark.slow
def test_a_run_whose_validation_is_compiled_is_resumed_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare_evaluations, "FEWEST_SOLVES", 2)
    check_resumed_exactly(RUN, tmp_path, step=4)


@compiler
@pytest.mark.slow
def test_a_last_validation_that_is_resumed_is_compiled_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The budget is used up by then, and no step is made any more."""
    monkeypatch.setattr(prepare_evaluations, "FEWEST_SOLVES", 2)
    command, (whole, parted) = (*RUN, "trainer.max_steps=6"), (tmp_path / "whole", tmp_path / "parted")
    whole.mkdir()
    parted.mkdir()
    assert typed(*command, cwd=whole).returncode == 0
    evaluate, calls = Experiment.evaluate, list[Split]()

    def stopped(made: Experiment, split: Split, *others: Any) -> dict[str, float]:
        calls.append(split)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGINT)
        return evaluate(made, split, *others)

    with monkeypatch.context() as patched:
        patched.setattr(Experiment, "evaluate", stopped)
        assert typed(*command, cwd=parted).returncode == 130
    assert typed(*command, cwd=parted).returncode == 0
    ours, theirs = ([row for row in rows_of(run_folder(place)) if "eval/loss" in row] for place in (parted, whole))
    assert [row["eval/loss"] for row in ours] == [row["eval/loss"] for row in theirs]
    assert record_of(parted)["metrics"] == record_of(whole)["metrics"]


@pytest.mark.usefixtures("uncompiled")
def test_the_smaller_batch_at_the_end_of_an_epoch_is_compiled_where_there_are_many(composed: Compose) -> None:
    """Three batches of 17 of 60 samples, and one of nine: with a hundred epochs solves of nine are compiled, too."""
    words = ("task=half_moons", "trainer.batch_size=17", "trainer.compile=on")
    for epochs, kinds in ((FEWEST_SOLVES, [True, True]), (FEWEST_SOLVES - 1, [True, False])):
        made, said = cell(composed, *words), list[str]()
        forward = ForwardPass(made, phase=Phase.FORWARD)
        assert compile_training(forward, steps=4 * epochs, processes=1, say=said.append).seconds is not None
        made.model.train()
        batches = list(made.task.batches(Split.TRAIN, batch_size=17, epoch=0))
        assert [len(batch.inputs) for batch in batches] == [17, 17, 17, 9]
        found = [
            made.integrator._compiled.with_gradients.find(training_solves(made, batch)[0]) for batch in batches[2:]
        ]
        assert [solve is not None for solve in found] == kinds


@pytest.mark.usefixtures("uncompiled")
def test_parts_of_every_size_are_compiled_where_there_are_many(composed: Compose) -> None:
    """Three batches of 17 of 60 samples in parts of 8 and 9, and one of nine in parts of 4 and 5."""
    words = ("task=half_moons", "trainer.batch_size=17", "trainer.accumulate=2", "trainer.compile=on")
    for epochs, compiled in ((FEWEST_SOLVES, {8, 9, 4, 5}), (FEWEST_SOLVES // 3 + 1, {8, 9})):
        made, said = cell(composed, *words), list[str]()
        assert pass_sizes(made) == {8: 3, 9: 3, 4: 1, 5: 1}
        forward = ForwardPass(made, phase=Phase.FORWARD)
        compile_training(forward, steps=4 * epochs, processes=1, say=said.append)
        made.model.train()
        solves = {size: training_solves(made, first_batch(made, size))[0] for size in pass_sizes(made)}
        find = made.integrator._compiled.with_gradients.find
        assert {size for size, solve in solves.items() if find(solve) is not None} == compiled
