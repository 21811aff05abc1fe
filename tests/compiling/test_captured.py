"""Captured steps and passes: all but the graphs themselves, in whose place a function is called again and again."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ode_runner.batch import Split
from ode_runner.build import build_experiment, build_trainer
from ode_runner.compiling.captured_modules import CapturedModules, noted_calls
from ode_runner.compiling.captured_solve import capture_exact
from ode_runner.compiling.captured_steps import Recordings
from ode_runner.errors import CannotCompile
from ode_runner.field import VectorField
from ode_runner.fields.ledger import Ledger, Phase
from ode_runner.gradients.adjoint import Adjoint
from ode_runner.gradients.backprop import Backprop
from ode_runner.gradients.captured_adjoint import capture_adjoint
from ode_runner.gradients.checkpoint import Checkpoint
from ode_runner.gradients.continuous import backward_solver, block_sizes
from ode_runner.integral import Integral
from ode_runner.integrator import Integrator
from ode_runner.problem import Problem
from ode_runner.solvers.explicit.bosh3 import Bosh3
from ode_runner.solvers.explicit.dopri5 import Dopri5
from ode_runner.solvers.explicit.fehlberg2 import Fehlberg2
from ode_runner.solvers.explicit.rk4 import RK4
from ode_runner.training.captured_pass import CapturedPasses
from ode_runner.training.prepare_compiled import Compiled
from ode_runner.training.training_problems import training_solves
from tests.helpers import TINY, typed
from tests.problems import Compose, GivenSpiral
from tests.recordings import Called, MeanOfAll

OPTIONS: dict[str, Any] = {"rtol": 1e-6, "atol": 1e-6, "max_steps": 1000}


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ode_runner.compiling.captured_steps.CapturedFunction", Called)


class Repeated:
    """Stands for a CUDA graph: what the function returned is written anew by each replay, and nothing is counted."""

    ledger: Ledger

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function, self.found = function, function()

    def replay(self) -> None:
        totals = {phase: replace(tally) for phase, tally in self.ledger.totals.items()}
        again = self.function()
        for phase, total in totals.items():
            self.ledger.put_back(phase, total)
        with torch.no_grad():
            for old, new in zip(
                [*self.found.gradients, self.found.numbers.values],
                [*again.gradients, again.numbers.values],
                strict=True,
            ):
                old.copy_(new)


@pytest.mark.parametrize("choices", [("model=resnet",), ("solver=rk4", "gradient=checkpoint")])
def test_training_by_captured_passes_is_training(
    choices: tuple[str, ...], composed: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights, numbers and ledger, with a smaller last batch, and random numbers that nobody has drawn."""
    monkeypatch.setattr("ode_runner.training.captured_pass.CudaGraph", Repeated)
    found = {}
    for captured in (False, True):
        cfg = composed("trainer.device=cpu", *TINY, "trainer.batch_size=7", *choices)
        trainer = build_trainer(cfg, cfg.hydra.runtime.choices, build_experiment(cfg, cfg.hydra.runtime.choices))
        Repeated.ledger, said, random = trainer.integrator.ledger, list[str](), torch.get_rng_state()
        if captured:
            trainer.compiled = Compiled(0.0, CapturedPasses(trainer.forward, say=said.append))
        steps = [
            trainer.train_step(batch, measure_memory=True)
            for batch in trainer.task.batches(Split.TRAIN, batch_size=7, epoch=0)
        ]
        assert torch.equal(torch.get_rng_state(), random)
        assert not said
        found[captured] = steps, trainer.model.state_dict(), trainer.integrator.ledger.state_dict()
    assert found[True][0] == found[False][0]
    assert found[True][2] == found[False][2]
    assert all(torch.equal(found[True][1][name], value) for name, value in found[False][1].items())


def test_buffers_that_are_replaced_are_not_captured(composed: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repetition would leave them as they were, which nobody would see."""
    monkeypatch.setattr("ode_runner.training.captured_pass.CudaGraph", Repeated)
    cfg = composed("trainer.device=cpu", *TINY, "trainer.batch_size=7", "model=resnet")
    trainer = build_trainer(cfg, cfg.hydra.runtime.choices, build_experiment(cfg, cfg.hydra.runtime.choices))
    trainer.model.stem = nn.Sequential(trainer.model.stem, mean := MeanOfAll(2))
    said = list[str]()
    trainer.compiled = Compiled(0.0, CapturedPasses(trainer.forward, say=said.append))
    batch = next(trainer.task.batches(Split.TRAIN, batch_size=7, epoch=0))
    trainer.train_step(batch, measure_memory=False)
    assert said == [
        "not captured: a pass puts other tensors in the place of buffers, which a repetition would not (batches of 7)"
    ]
    torch.testing.assert_close(mean.mean, 0.1 * batch.inputs.mean(0))


class Scaled(nn.Module):
    """A layer with a number that a schedule of its user's may change."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.scale, self.calls = nn.Parameter(torch.ones(2)), 1.0, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.scale * self.weight * x


def test_a_pass_with_another_number_than_it_was_captured_with_is_eager(
    composed: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ode_runner.training.captured_pass.CudaGraph", Repeated)
    found = {}
    for captured in (False, True):
        cfg = composed("trainer.device=cpu", *TINY, "trainer.batch_size=7", "model=resnet")
        trainer = build_trainer(cfg, cfg.hydra.runtime.choices, build_experiment(cfg, cfg.hydra.runtime.choices))
        trainer.model.stem = nn.Sequential(trainer.model.stem, layer := Scaled())
        passes = CapturedPasses(trainer.forward, say=(said := list[str]()).append)
        Repeated.ledger = trainer.integrator.ledger
        if captured:
            trainer.compiled = Compiled(0.0, passes)
        batch, steps = next(trainer.task.batches(Split.TRAIN, batch_size=7, epoch=0)), []
        for layer.scale in (1.0, 1.0, 0.5, 0.5):
            steps.append(trainer.train_step(batch, measure_memory=False))
            assert layer.scale == 1 or not any(passes._passes.values())
        found[captured] = steps
    assert found[True] == found[False]
    assert said == ["not captured any more: Scaled.scale has changed from 1.0 to 0.5"]


def test_layers_before_and_after_a_solve_are_repeated(composed: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ode_runner.compiling.captured_modules.CapturedFunction", Called)
    found = {}
    for captured in (False, True):
        words = ("task=digits", "trainer.device=cpu", "network.width=2", "trainer.batch_size=10", "tolerance=0.1")
        cfg = composed(*words)
        trainer = build_trainer(cfg, cfg.hydra.runtime.choices, build_experiment(cfg, cfg.hydra.runtime.choices))
        if captured:
            with noted_calls(trainer.model) as calls:
                training_solves(trainer.experiment)
            layers = CapturedModules(calls, lower=None, say=pytest.fail)
            assert [one.layers for one in layers.captured] == [trainer.model.stem, trainer.model.head]
            trainer.compiled = Compiled(0.0, None, layers)
        batches = list(trainer.task.batches(Split.TRAIN, batch_size=10, epoch=0))[:3]
        steps = [trainer.train_step(batch, measure_memory=False) for batch in batches]
        assert not captured or not any(one._held for one in layers.captured)
        found[captured] = steps, trainer.model.state_dict()
    assert found[True][0] == found[False][0]
    assert all(torch.equal(found[True][1][name], value) for name, value in found[False][1].items())


def test_layers_with_buffers_are_called_as_ever() -> None:
    """Recorded, they would be changed where nobody looks."""
    normalised = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    model = nn.Sequential(normalised, nn.Linear(2, 1))
    with noted_calls(model) as calls:
        model(torch.randn(4, 3))
    assert [layers for layers, _ in calls] == [model[1]]


@pytest.mark.usefixtures("called", "float64")
@pytest.mark.parametrize("mode", [Backprop(), Checkpoint()], ids=["backprop", "checkpoint"])
@pytest.mark.parametrize("method", [Dopri5, Bosh3, Fehlberg2])
def test_a_captured_solve_is_the_eager_one(mode: Any, method: Any) -> None:
    torch.manual_seed(0)
    solver = method(**OPTIONS | ({"rtol": 1e-4, "atol": 1e-4} if method is Fehlberg2 else {}))
    field, ts = GivenSpiral(), torch.tensor([0.0, 0.3, 0.31, 1.0, 2.5])
    y0, z, w = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3, requires_grad=True), torch.rand(4, 3)
    found = {}
    for captured in (False, True):
        integrate = Integrator(solver=solver, gradient=mode)
        if captured:
            solve = capture_exact(
                solver, _problem(integrate, field, y0, [z, w]), keeps=isinstance(mode, Backprop), fuses=False
            )
            integrate._compiled.with_gradients.add(_problem(integrate, field, y0, [z, w]), solve)
        with integrate.ledger.phase(Phase.FORWARD):
            solution = integrate(field, y0, ts, given=[z, w])
        with integrate.ledger.phase(Phase.BACKWARD):
            weights = torch.arange(1.0, 6.0)[:, None, None]
            gradients = torch.autograd.grad((solution.ys.square() * weights).sum(), [y0, z, *field.parameters()])
        found[captured] = [solution.ys, *gradients], integrate.ledger.state_dict()
    for theirs, ours in zip(found[False][0], found[True][0], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    for phase in (Phase.FORWARD, Phase.BACKWARD):
        ours, theirs = found[True][1][phase], found[False][1][phase]
        assert ours.pop("smallest_step") == pytest.approx(theirs.pop("smallest_step"))
        assert ours == theirs


def _problem(integrate: Integrator, field: VectorField, y0: Tensor, given: list[Tensor]) -> Problem:
    counted = integrate._counted(field, given, {}, None)
    return Problem(field=counted, y0=y0, ts=y0.detach().new_zeros(1))


def test_tf32_is_refused_without_a_gpu(tmp_path: Path) -> None:
    ended = typed("trainer.precision=tf32", "trainer.device=cpu", cwd=tmp_path)
    assert ended.returncode == 2
    assert "trainer.precision=tf32 needs a GPU of NVIDIA's, and this run is on cpu." in ended.stderr


def test_no_more_recordings_are_made_than_a_limit_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ode_runner.compiling.captured_steps.MOST", 2)
    made = Recordings(lambda: object())  # type: ignore[arg-type, return-value]
    first, second = made.take(), made.take()
    with pytest.raises(CannotCompile, match="more than 2 steps"):
        made.take()
    made.give_back(first)
    assert made.take() is first
    assert second is not first


class RepeatedFunction:
    """Stands for a RecordedFunction."""

    made = 0

    def __init__(self, function: Callable[..., Any], examples: Any, leaves: Any, *, fusing: Any = ()) -> None:
        type(self).made += 1
        self.function, self.shapes = function, [x.shape for x in examples]
        del leaves, fusing

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        assert [x.shape for x in inputs] == self.shapes
        with torch.no_grad():
            return [y.clone() for y in self.function(*(x.detach().clone() for x in inputs))]


@pytest.fixture
def repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RepeatedFunction, "made", 0)
    monkeypatch.setattr("ode_runner.compiling.captured_steps.RecordedFunction", RepeatedFunction)
    monkeypatch.setattr("ode_runner.compiling.recorded_solves.RecordedFunction", RepeatedFunction)


@pytest.mark.usefixtures("repeated", "float64")
@pytest.mark.parametrize("method", [Dopri5, Fehlberg2])
def test_a_captured_adjoint_is_the_eager_one(method: Any) -> None:
    """Two solves, both gone back through at the end, with other things given."""
    torch.manual_seed(0)
    solver = method(**OPTIONS | {"rtol": 1e-4, "atol": 1e-4})
    field, ts = GivenSpiral(), torch.tensor([0.0, 0.3, 0.31, 1.0, 2.5])
    y0, z, w = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3, requires_grad=True), torch.rand(4, 3)
    found = {}
    for captured in (False, True):
        integrate = Integrator(solver=solver, gradient=Adjoint(rtol=None, atol=None))
        if captured:
            problem = _problem(integrate, field, y0, [z, w])
            backward = backward_solver(solver, block_sizes(problem.field, y0), rtol=None, atol=None)
            integrate._compiled.with_gradients.add(problem, capture_adjoint(solver, backward, problem, fuses=False))
        with integrate.ledger.phase(Phase.FORWARD):
            first, second = (integrate(field, y0, ts, given=[z * scale, w]).ys for scale in (1.0, 1.5))
        with integrate.ledger.phase(Phase.BACKWARD):
            weights = torch.arange(1.0, 6.0)[:, None, None]
            loss = ((first.square() + second.sin()) * weights).sum()
            gradients = torch.autograd.grad(loss, [y0, z, *field.parameters()])
        found[captured] = [first, second, *gradients], integrate.ledger.state_dict()
    assert RepeatedFunction.made
    for theirs, ours in zip(found[False][0], found[True][0], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    for phase in (Phase.FORWARD, Phase.BACKWARD):
        ours, theirs = found[True][1][phase], found[False][1][phase]
        assert ours.pop("smallest_step") == pytest.approx(theirs.pop("smallest_step"))
        assert ours == theirs


@pytest.mark.usefixtures("repeated", "float64")
@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("solver", [Dopri5(**OPTIONS), RK4(num_steps=3, step_size=None)], ids=["dopri5", "rk4"])
def test_evaluations_are_recorded_once_they_are_made_again_and_again(solver: Any, at_once: bool) -> None:
    """At once in a run, which evaluates as one does that has been resumed."""
    torch.manual_seed(0)
    field, ts = GivenSpiral(), torch.tensor([0.0, 0.3, 1.0])
    found, ledgers = [], []
    for records in (False, True):
        integrate, states = Integrator(solver=solver, gradient=Adjoint(rtol=None, atol=None), records=records), []
        if at_once:
            integrate.record_at_once()
        for turn in range(5):
            y0, z = torch.full((4, 3), 0.1 * turn), torch.full((4, 3), 0.2)
            with torch.no_grad(), integrate.ledger.phase(Phase.EVALUATION):
                states.append(integrate(field, y0, ts, given=[z, z]).ys)
            assert bool(RepeatedFunction.made) == (records and (at_once or turn >= 2))
        states.append(integrate(field, y0.requires_grad_(), ts, given=[z, z]).ys)
        assert states[-1].requires_grad
        found.append(states)
        ledgers.append(integrate.ledger.state_dict())
    for theirs, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    assert ledgers[0] == ledgers[1]


def _height(t: Any, y: Tensor, dy: Tensor, vjp: Any, *_: Tensor) -> Tensor:
    return y.sum(dim=1)


def _speed(t: Any, y: Tensor, dy: Tensor, vjp: Any, *_: Tensor) -> Tensor:
    return dy.square().sum(dim=1)


@pytest.mark.usefixtures("repeated", "float64")
def test_recorded_solves_are_told_apart_by_their_integrands_not_by_the_names() -> None:
    field, ts = GivenSpiral(), torch.tensor([0.0, 0.3, 1.0])
    y0, z, (height, speed) = (
        torch.full((4, 3), 0.1),
        torch.full((4, 3), 0.2),
        (Integral(_height, judged=False), Integral(_speed, judged=False)),
    )
    found = {}
    for records in (False, True):
        integrate = Integrator(solver=RK4(num_steps=3, step_size=None), gradient=Backprop(), records=records)
        integrals = [height, speed] * 4 + [Integral(lambda t, y, dy, vjp, *_: y.amax(dim=1), judged=False)] * 4
        with torch.no_grad(), integrate.ledger.phase(Phase.EVALUATION):
            found[records] = [
                integrate(field, y0, ts, given=[z, z], integrals={"q": q}).integrals["q"] for q in integrals
            ]
    assert RepeatedFunction.made == 2
    for theirs, ours in zip(found[False], found[True], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
