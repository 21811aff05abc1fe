"""Adaptive solves and passes by a plan of attempts: all but the graphs, in whose place functions are called again."""

import math
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ode_runner.batch import Split
from ode_runner.build import build_experiment, build_trainer
from ode_runner.compiling.captured_solve import capture_exact
from ode_runner.compiling.planned_solve import Plan, PlannedSolve, _NotAsPlanned, _NotedSteps, plan_of
from ode_runner.errors import CannotCompile
from ode_runner.fields.counted_field import CountedField
from ode_runner.fields.ledger import Ledger
from ode_runner.problem import Problem, Solution
from ode_runner.solvers.base import solver_along
from ode_runner.solvers.explicit.bosh3 import Bosh3
from ode_runner.solvers.explicit.dopri5 import Dopri5
from ode_runner.solvers.explicit.fehlberg2 import Fehlberg2
from ode_runner.training.planned_pass import FEWEST_SEEN, MOST_PLANS, AttemptHistory, PlannedPasses
from ode_runner.training.prepare_compiled import Compiled, _CapturedSolves, _plan_passes
from ode_runner.training.trainer import Trainer
from ode_runner.training.training_problems import training_solves
from tests.problems import Compose, GivenSpiral
from tests.recordings import Called, Halves, MeanOfAll, Moment

TIGHT: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-4, "max_steps": 1000}
CONTROLS: dict[str, dict[str, Any]] = {
    "i": {},
    "hold": {"hold": True},
    "pi": {"control": "pi"},
    "pid": {"control": "pid"},
    "first": {"first_step": 2.0},  # rejected
    "limits": {"max_step": 0.1, "min_step": 0.01},
}


def posed(ledger: Ledger, *, scale: float, span: tuple[float, float]) -> Problem:
    """Of a field that depends on time, state and what is given."""
    torch.manual_seed(0)
    y0, z, w = (torch.randn(4, 3) for _ in range(3))
    field = GivenSpiral()
    counted = CountedField.around(field, ledger, given=[(scale * z).requires_grad_(), w], attached=True)
    return Problem(field=counted, y0=y0.requires_grad_(), ts=torch.tensor(span))


def solved(solver: Any, problem: Problem) -> tuple[Solution, Plan]:
    """By the solver's own operations."""
    gathered = solver.gathered(problem.field, problem.y0, problem.ts)
    return gathered.solution(), plan_of(gathered.accepted_steps)


def derivatives(ys: Tensor, problem: Problem) -> tuple[Tensor, ...]:
    return torch.autograd.grad(
        ys.square().sum(), [problem.y0, problem.field.given[0], *problem.field.field.parameters()]
    )


@pytest.mark.sampled(2)
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("span", [(0.0, 2.5), (1.0, -1.5)], ids=["forwards", "backwards"])
@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("method", [Dopri5, Bosh3, Fehlberg2])
def test_a_planned_solve_is_the_solve(method: Any, control: str, span: tuple[float, float]) -> None:
    for tolerance in (1e-2, 1e-4, 1e-7 if method is Dopri5 else 1e-5):
        solver = method(rtol=tolerance, atol=tolerance, max_steps=1000, **CONTROLS[control])
        ledgers = Ledger(), Ledger()
        one, other = (posed(ledger, scale=3.0, span=span) for ledger in ledgers)
        expected, plan = solved(solver, one)
        planned = PlannedSolve(solver, plan)
        found = planned(other)
        torch.testing.assert_close(found.ys, expected.ys, rtol=1e-9, atol=1e-11)
        for ours, theirs in zip(derivatives(found.ys, other), derivatives(expected.ys, one), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)
        assert ledgers[1].tally.evaluations == ledgers[0].tally.evaluations
        assert (found.accepted, found.rejected) == (expected.accepted, expected.rejected)
        said = planned.taken(planned.noted.tolist())
        assert said is not None
        assert (said.accepted, said.rejected) == (expected.accepted, expected.rejected)
        assert said.smallest_step == pytest.approx(expected.smallest_step, rel=1e-9)
        wrong = [plan[1:], (False, *plan), (True, *plan), (*plan, True), (*plan[:-1], False, True)]
        for other_plan in wrong:
            if other_plan:
                by_another = PlannedSolve(solver, other_plan)
                by_another(other)
                assert by_another.taken(by_another.noted.tolist()) is None


def test_what_a_plan_would_not_foresee_is_refused() -> None:
    """A second solve would leave nothing to see of the first, and outputs on the way are no part of what is planned."""
    problem, planned = posed(Ledger(), scale=1.0, span=(0.0, 1.0)), PlannedSolve(Dopri5(**TIGHT), (True,))
    with pytest.raises(CannotCompile, match="more output times"):
        planned(replace(problem, ts=torch.tensor([0.0, 0.5, 1.0])))
    planned(problem)
    with pytest.raises(CannotCompile, match="more solves"):
        planned(problem)


def test_an_end_that_is_no_number_is_no_step() -> None:
    nothing, noted = torch.zeros(1), [1.0, 1.0, 1.0, 0.0, math.nan, 2.0, 0.0, 1.0, 0.5]
    steps = _NotedSteps(Dopri5(**TIGHT), (False, True), noted, span=1.0)
    with pytest.raises(_NotAsPlanned):
        steps.step(0.0, 1.0, nothing, nothing)


def test_a_clock_that_shows_a_late_time_is_rounded() -> None:
    """Its last digit, by which a GPU's powers may differ from a CPU's, is no other step."""
    nothing, noted = torch.zeros(1), [1.0, 1.0, 1.0, 1e6, math.nextafter(1e6 + 1, 2e6), 0.5]
    _NotedSteps(Dopri5(**TIGHT), (True,), noted, span=1.0).step(1e6, 1e6 + 1, nothing, nothing)


def test_attempts_are_noted_when_steps_are_recorded_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a plan that has turned out wrong would be tried again at every pass."""
    monkeypatch.setattr("ode_runner.compiling.captured_steps.CapturedFunction", Called)
    problem, noted = posed(Ledger(), scale=3.0, span=(0.0, 2.5)), list[Plan]()
    expected, attempts = solved(Dopri5(**TIGHT), problem)
    solve = capture_exact(Dopri5(**TIGHT), problem, keeps=True, fuses=False)
    solve.note = noted.append
    solve(replace(problem, ts=torch.tensor([0.0, 0.01])))
    monkeypatch.setattr("ode_runner.compiling.captured_steps.MOST", 2)
    for _ in range(2):
        torch.testing.assert_close(solve(problem).ys, expected.ys)
    assert noted[1:] == [attempts, attempts]


@pytest.fixture
def halves(monkeypatch: pytest.MonkeyPatch) -> type[Halves]:
    monkeypatch.setattr("ode_runner.compiling.captured_steps.CapturedFunction", Called)
    monkeypatch.setattr("ode_runner.training.planned_pass.CudaGraph", Halves)
    monkeypatch.setattr("ode_runner.training.planned_pass.aside", nullcontext)
    monkeypatch.setattr("torch.cuda.Event", Moment)
    monkeypatch.setattr(Halves, "replays", 0)
    return Halves


WORDS = ("trainer.device=cpu", "trainer.precision=fp64", "network.width=8", "task.train=410", "trainer.batch_size=20")


def trainer_of(composed: Compose, *words: str) -> Trainer:
    cfg = composed(*WORDS, *words)
    trainer = build_trainer(cfg, cfg.hydra.runtime.choices, build_experiment(cfg, cfg.hydra.runtime.choices))
    assert trainer is not None
    return trainer


def plan(trainer: Trainer) -> tuple[PlannedPasses, list[str]]:
    """Have the trainer make planned passes; returns them, and what is said of them."""
    [problem] = training_solves(trainer.experiment)
    solver = solver_along(trainer.integrator.solver, problem.field.field)
    solve = capture_exact(solver, problem, keeps=True, fuses=False)
    trainer.integrator._compiled.with_gradients.add(problem, solve)
    captured, said = _CapturedSolves([problem], [solve], fused=False), list[str]()
    passes = _plan_passes(trainer.forward, captured, trainer.attempts, say=said.append)
    assert passes is not None
    trainer.compiled, Halves.ledger = Compiled(0.0, passes, None), trainer.integrator.ledger
    return passes, said


def test_several_solves_outputs_on_the_way_and_steps_taken_anew_are_not_planned(composed: Compose) -> None:
    trainer = trainer_of(composed)
    [problem] = training_solves(trainer.experiment)
    keeps, again = (capture_exact(trainer.integrator.solver, problem, keeps=k, fuses=False) for k in (True, False))
    several = replace(problem, ts=torch.tensor([0.0, 0.5, 1.0]))
    for problems, solves in (([problem] * 2, [keeps] * 2), ([several], [keeps]), ([problem], [again])):
        captured = _CapturedSolves(problems, solves, fused=False)
        assert _plan_passes(trainer.forward, captured, trainer.attempts, say=pytest.fail) is None


def steps_of(trainer: Trainer, *, epochs: range) -> list[dict[str, float]]:
    """Of batches of 20, and of one of 10 at the end of each epoch."""
    found = []
    for epoch in epochs:
        for batch in trainer.task.batches(Split.TRAIN, batch_size=20, epoch=epoch):
            found.append(trainer.train_step(batch, measure_memory=False))
            trainer.step += 1
    return [{name: float(value) for name, value in step.items()} for step in found]


def assert_same_training(one: Trainer, other: Trainer, steps: list[list[dict[str, float]]]) -> None:
    rtol = 1e-3 if one.experiment.dtype is torch.float32 else 1e-7
    for ours, theirs in zip(*steps, strict=True):
        assert ours == pytest.approx(theirs, rel=rtol)
    for ours, theirs in zip(one.model.parameters(), other.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=rtol, atol=rtol / 100)
    tallies = [trainer.integrator.ledger.state_dict() for trainer in (one, other)]
    assert tallies[0]["forward"] == pytest.approx(tallies[1]["forward"], rel=rtol)
    assert tallies[0]["backward"] == tallies[1]["backward"]


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    "words",
    [
        ("tolerance=1e-3",),
        pytest.param(("tolerance=1e-6", "solver=bosh3"), marks=pytest.mark.slow),
        ("tolerance=1e-3", "trainer.precision=fp32"),
        ("trainer.accumulate=2", "trainer.ema=0.9", "trainer.max_grad_norm=0.05"),
    ],
)
def test_training_by_plans_is_training(words: tuple[str, ...], composed: Compose, halves: type[Halves]) -> None:
    eager, planned = trainer_of(composed, *words), trainer_of(composed, *words)
    passes, said = plan(planned)
    steps = [steps_of(trainer, epochs=range(3)) for trainer in (eager, planned)]
    assert not said
    assert passes._passes
    assert halves.replays > 20, "many passes are planned"
    assert_same_training(eager, planned, steps)


def test_wrong_plans_do_no_harm(composed: Compose, halves: type[Halves], monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = [(True,), (False, True, True), (True,) * 9]
    monkeypatch.setattr(AttemptHistory, "plan", lambda history: wrong[len(history.last) % 3])
    eager, planned = trainer_of(composed), trainer_of(composed)
    passes, said = plan(planned)
    steps = [steps_of(trainer, epochs=range(2)) for trainer in (eager, planned)]
    assert not said
    assert passes._passes
    assert halves.replays > 80
    assert_same_training(eager, planned, steps)


def test_what_a_wrong_plan_would_leave_behind_is_not_planned(composed: Compose, halves: type[Halves]) -> None:
    for module in (nn.Dropout(0.5), nn.BatchNorm1d(8), MeanOfAll(8)):
        trainer = trainer_of(composed)
        trainer.model.stem = nn.Sequential(nn.Linear(2, 8), module, nn.Linear(8, 2)).double()
        passes, said = plan(trainer)
        steps_of(trainer, epochs=range(2))
        assert said == ["captured step by step, not as a whole: a pass draws random numbers or changes buffers"]
        assert not passes._passes
        assert trainer.attempts.state_dict()["refused"], "a resumed run does not try again"


def test_training_by_plans_is_training_if_a_python_number_changes(composed: Compose, halves: type[Halves]) -> None:
    eager, planned = trainer_of(composed), trainer_of(composed)
    for trainer in (eager, planned):
        trainer.model.stem = nn.Sequential(nn.Linear(2, 8), nn.GroupNorm(2, 8), nn.Linear(8, 2)).double()
    planned.model.load_state_dict(eager.model.state_dict())
    passes, said = plan(planned)
    steps = [steps_of(trainer, epochs=range(2)) for trainer in (eager, planned)]
    assert halves.replays > 20, "many passes are planned"
    for trainer in (eager, planned):
        trainer.model.get_submodule("stem.1").eps = 0.5
    more = [steps_of(trainer, epochs=range(2, 3)) for trainer in (eager, planned)]
    assert not passes._passes
    assert_same_training(eager, planned, [first + later for first, later in zip(steps, more, strict=True)])
    assert said == ["captured step by step, not as a whole: ODENet.stem.1.eps has changed from 1e-05 to 0.5"]


def test_a_plan_for_which_there_is_no_memory_costs_no_run(
    composed: Compose, halves: type[Halves], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **named: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    monkeypatch.setattr("ode_runner.training.planned_pass.check_repeated_right", full)
    eager, planned = trainer_of(composed), trainer_of(composed)
    passes, said = plan(planned)
    steps = [steps_of(trainer, epochs=range(2)) for trainer in (eager, planned)]
    assert said == ["captured step by step, not as a whole: there is no memory for it on the GPU"]
    assert not passes._passes
    assert_same_training(eager, planned, steps)


def test_what_the_backward_half_evaluates_is_counted(composed: Compose, halves: type[Halves]) -> None:
    eager, planned = trainer_of(composed), trainer_of(composed)
    for trainer in (eager, planned):
        trainer.model.stem = nn.Sequential(nn.Linear(2, 2), Recomputed(trainer.integrator.ledger)).double()
    planned.model.load_state_dict(eager.model.state_dict())
    passes, _ = plan(planned)
    steps = [steps_of(trainer, epochs=range(2)) for trainer in (eager, planned)]
    assert passes._passes
    assert steps[0][-1]["nfe/backward"] == 1
    assert_same_training(eager, planned, steps)


class Recomputed(nn.Module):
    """Layers that evaluate a field once more on the way back, as checkpoints do."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self.ledger = ledger

    def forward(self, x: Tensor) -> Tensor:
        y = 1.0 * x
        if y.requires_grad:
            y.register_hook(self._enter)
        return y

    def _enter(self, dy: Tensor) -> None:
        self.ledger.tally.evaluations += 1


def test_a_half_is_made_before_its_derivative_is_recorded(
    composed: Compose, halves: type[Halves], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU what is recorded is not computed: indices that the derivative reads would be anything."""
    begun = list[int]()

    class Watched(Halves):
        def __init__(self, function: Any) -> None:
            begun.append(Halves.replays)
            super().__init__(function)

        def replay(self) -> None:
            super().replay()
            Halves.replays += 1

    monkeypatch.setattr("ode_runner.training.planned_pass.CudaGraph", Watched)
    trainer = trainer_of(composed)
    plan(trainer)
    steps_of(trainer, epochs=range(2))
    assert begun
    assert all(back > there for there, back in zip(begun[::2], begun[1::2], strict=True))


def test_training_by_plans_goes_on_where_it_was(composed: Compose, halves: type[Halves]) -> None:
    """Which passes are planned is part of the state: they are those of the training that was not interrupted."""
    found = []
    for resumed in (False, True):
        trainer = trainer_of(composed)
        plan(trainer)
        steps_of(trainer, epochs=range(1))
        if resumed:
            state = trainer.state_dict(0)
            trainer = trainer_of(composed)
            trainer.load_state_dict(state)
            plan(trainer)
        before = halves.replays
        steps = steps_of(trainer, epochs=range(1, 3))
        found.append((steps, [p.detach().clone() for p in trainer.model.parameters()], halves.replays - before))
    assert found[0][0] == found[1][0]
    assert all(torch.equal(a, b) for a, b in zip(found[0][1], found[1][1], strict=True))
    assert found[0][2] - found[1][2] in range(-8, 9), "as many planned passes, but for those that check recordings"


def test_plans_are_made_of_attempts_that_repeat_themselves() -> None:
    history, usual, other = AttemptHistory(), (True, True), (False, True)
    for _ in range(FEWEST_SEEN + 8):
        assert history.plan() is None or history.repeated >= 0.6
        history.note(usual)
    assert history.plan() == usual
    for turn in range(40):
        history.note(other if turn % 2 else usual)
    assert history.plan() is None, "they change all the time"
    for length in range(3, 20):
        for _ in range(60):
            history.note((True,) * length)
    assert len(history.plans) == MOST_PLANS
    for length in range(20, 40):
        history.note((True,) * length)
    assert not history._seen, "nobody counts any more"
    again = AttemptHistory()
    again.load_state_dict(history.state_dict())
    assert again.state_dict() == history.state_dict()
    assert again.plan() == history.plan()
