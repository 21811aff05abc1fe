"""Tasks whose solutions flow and jump, and the model that learns their numbers."""

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ode_runner.batch import Batch, Outputs, Split
from ode_runner.build import build_experiment
from ode_runner.building.instantiate import construct
from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.event import Events
from ode_runner.experiment.estimates import estimate
from ode_runner.gradients.backprop import Backprop
from ode_runner.integrator import Integrator
from ode_runner.models.base import Model
from ode_runner.models.equations.hybrid import Hybrid
from ode_runner.solvers.explicit.dopri5 import Dopri5
from ode_runner.tasks.dynamics.hybrid_system import HybridSystem
from tests.composition import Compose
from tests.helpers import run_folder, typed

FOUR = (1.414214, 3.676955, 5.487149, 6.935303)
Made = Callable[..., tuple[HybridSystem, Model]]
INTEGRATE = Integrator(solver=Dopri5(rtol=1e-8, atol=1e-8, max_steps=999, per_sample=True), gradient=Backprop())


@pytest.fixture
def made(composed: Compose) -> Made:
    """A task and a model for it in double precision, by their yaml."""

    def of(*words: str) -> tuple[HybridSystem, Any]:
        cfg = composed(*words)
        task = construct(cfg, "task", seed=0, device=torch.device("cpu"))
        torch.manual_seed(0)
        return task, construct(cfg, "model", construct(cfg, "network", task.spec)).double()

    return of


def answered(task: HybridSystem, model: Model, split: Split = Split.TRAIN) -> tuple[Batch, Outputs]:
    batch = next(task.batches(split, batch_size=100, epoch=0))
    return batch, model(batch.inputs, batch.ts, INTEGRATE)


@pytest.mark.parametrize("name", ["bouncing_ball", "thermostat"])
def test_the_true_equation_has_the_events_and_states_of_the_closed_form(made: Made, name: str) -> None:
    task, model = made(f"task={name}", "model=exact")
    batch, outputs = answered(task, model)
    metrics = {name: float(value) for name, value in task.metrics(outputs, batch).items()}
    assert metrics["event_time_error"] < 1e-6
    assert metrics["mse"] < 1e-10
    assert metrics["missed_events"] == 0
    assert float(task.loss(outputs, batch)) < 1e-10
    if name == "bouncing_ball":
        assert batch.event_times is not None
        assert batch.event_times[:, 0].tolist() == pytest.approx(FOUR, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("bouncing_ball", ("model.learn=[radius]", "model.start=[1.0]")),
        ("thermostat", ()),
        ("thermostat", ("model.learn=[]", "model.start=[]", "model.reset=linear", "model.field=network")),
    ],
)
def test_the_gradient_of_every_learned_number_is_that_of_finite_differences(
    made: Made, name: str, words: tuple[str, ...]
) -> None:
    task, model = made(f"task={name}", "task.state_weight=0", "model=hybrid", *words)
    assert model.without_network == ("" if "model.field=network" in words else "model.field=known")
    learned = dict(model.named_parameters())
    batch, outputs = answered(task, model)
    task.loss(outputs, batch).backward()
    assert learned
    parameter = next(iter(learned.values()))
    assert parameter.grad is not None
    losses = []
    for step in (1e-5, -2e-5):
        parameter.data.view(-1)[0] += step
        losses.append(float(task.loss(answered(task, model)[1], batch).detach()))
    assert float(parameter.grad.view(-1)[0]) == pytest.approx((losses[0] - losses[1]) / 2e-5, rel=1e-4, abs=1e-9)


def test_numbers_are_learned_and_told_by_name(made: Made) -> None:
    task, model = made("task=bouncing_ball", "model=hybrid")
    known = {"gravity": 7.0, "restitution": 0.6, "gravity_error": task.gravity - 7, "restitution_error": 0.2}
    assert model.numbers() == pytest.approx(known)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        batch, outputs = answered(task, model)
        loss = task.loss(outputs, batch)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 2
    assert model.numbers()["restitution"] > 0.65


def test_a_network_that_is_not_read_need_not_read_the_task(composed: Compose) -> None:
    cfg = composed("task=bouncing_ball", "network=transformer", "trainer.device=cpu")
    assert len(build_experiment(cfg, cfg.hydra.runtime.choices).parameters()) == 2
    cfg.model.update({"field": "network", "learn": [], "start": []})
    with pytest.raises(IncompatibleChoice, match=r"network=transformer needs positions .* Use network=mlp"):
        build_experiment(cfg, cfg.hydra.runtime.choices)


@pytest.mark.parametrize("weight", [0, 1])
def test_gravity_and_radius_are_told_apart_by_states_alone(composed: Compose, weight: int) -> None:
    learn = ("model.learn=[gravity,radius]", "model.start=[7.0,0.5]")
    cfg = composed("task=bouncing_ball", f"task.state_weight={weight}", *learn, "trainer.device=cpu")
    experiment = build_experiment(cfg, cfg.hydra.runtime.choices)
    found = estimate(experiment)
    assert found is not None
    assert found.unidentified == ([] if weight else [["gravity", "radius"]])
    model, task = experiment.model, experiment.task
    assert isinstance(model, Hybrid)
    assert model.fixing("radius") == "model.learn=[gravity] model.start=[7.0]"
    assert isinstance(task, HybridSystem)
    batch, outputs = answered(task, model)
    loss, squares = task.loss(outputs, batch), task.residuals(outputs, batch).square()
    assert float(squares.mean().detach()) == pytest.approx(float(loss.detach()))


def test_an_event_that_has_not_come_counts_as_the_last_time(made: Made) -> None:
    task, _ = made("task=bouncing_ball", "model=exact")
    batch = next(task.batches(Split.TEST, batch_size=1, epoch=0))
    assert batch.event_times is not None
    times = torch.cat([batch.event_times[:3], torch.full((1, 1), math.nan)])
    for some in (times, times[:3]):
        found = Outputs(batch.targets, events=Events(some, batch.targets, torch.ones(len(batch.ts), 1) > 0))
        metrics = task.metrics(found, batch)
        assert float(metrics["missed_events"]) == 0.25
        assert float(metrics["event_time_error"]) == pytest.approx((9.0 - FOUR[3]) / 4, abs=1e-6)


def test_states_after_an_end_are_left_out(made: Made) -> None:
    task, _ = made("task=thermostat", "model=exact")
    batch = next(task.batches(Split.TEST, batch_size=4, epoch=0))
    assert batch.observed is not None
    assert batch.event_times is not None
    spoilt = torch.where(batch.observed[..., None], batch.targets, torch.tensor(1e6, dtype=torch.float64))
    events = Events(batch.event_times, Tensor(), torch.ones_like(batch.observed))
    assert float(task.loss(Outputs(spoilt, events=events), batch)) == 0


def test_what_cannot_be_is_refused(made: Made) -> None:
    with pytest.raises(RefusedInput, match=r"model\.learn=mass: no piece .* are gravity, radius, restitution\."):
        made("task=bouncing_ball", "model=hybrid", "model.learn=[mass]", "model.start=[2.0]")
    for option, left in (
        ("model.field=network", r"\[restitution\] model.start=\[0.6\]"),
        ("model.reset=linear", r"\[gravity\]"),
    ):
        with pytest.raises(RefusedInput, match=rf"^{option} leaves no \w+ to be learned .* model.learn={left}"):
            made("task=bouncing_ball", "model=hybrid", option)
    with pytest.raises(RefusedInput, match="is named once and begins somewhere"):
        made("task=bouncing_ball", "model=hybrid", "model.learn=[radius]")
    with pytest.raises(IncompatibleChoice, match="model=hybrid needs a task with events"):
        made("task=half_moons", "model=hybrid")
    for words, why in (
        (("task=bouncing_ball", "task.horizon=6"), r"after task\.horizon=6\. Use task\.horizon=8"),
        (("task=bouncing_ball", "task.restitution=0"), r"task\.restitution must be positive"),
        (("task=bouncing_ball", "task.box=[[0.1,1],[0,0]]"), r"within task\.radius"),
        (("task=thermostat", "task.power=1"), r"must increase, and stay below"),
        (("task=thermostat", "task.box=[[10,19],[1,1]]"), r"task\.box must be"),
    ):
        with pytest.raises(RefusedInput, match=why):
            made(*words)


@pytest.mark.slow
def test_a_run_by_the_program_and_its_prediction_mark_the_end(tmp_path: Path) -> None:
    short = ("task=bouncing_ball", "trainer.epochs=2", "logger=none")
    ended = typed(*short, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "each sample has its own steps (solver.per_sample=true)" in ended.stdout
    assert "model=hybrid does not use network: model.field=known" in ended.stdout.splitlines()
    folder = run_folder(tmp_path)
    ended = typed(f"predict={folder}", "times=[0,1,5,8]", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    [path] = tmp_path.rglob("states.csv")
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    assert [row["valid"] for row in rows] == ["1", "1", "1", "0"]
    assert np.load(path.with_suffix(".npz"))["event_times"].shape == (4, 1)
    assert "cannot be undone" in typed(f"predict={folder}", "times=[-1,1]", cwd=tmp_path).stderr
    for words, why in (
        (
            ("gradient=adjoint",),
            "batches of one: solver.per_sample=false trainer.batch_size=1 trainer.eval_batch_size=1",
        ),
        (("solver=rk4",), "solver=rk4 takes steps common to the whole batch"),
        (("solver=kvaerno3",), "solver=kvaerno3 finds no events"),
        (("model=odenet",), "asks for values and times of events"),
        (("diagnostics=flow", "seed=1"), "diagnostics=flow looks at solves without events"),
    ):
        ended = typed(*short, *words, cwd=tmp_path)
        assert ended.returncode == 2
        assert why in ended.stderr
