"""The task `tracking`: known paths, its integral as the whole loss, and what it refuses."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ode_runner.batch import Batch, Outputs, Split
from ode_runner.building.instantiate import construct
from ode_runner.errors import RefusedInput
from ode_runner.gradients.backprop import Backprop
from ode_runner.integrator import Integrator
from ode_runner.objectives.base import Loss
from ode_runner.objectives.supervised import Supervised
from ode_runner.plots.tracking import animate_tracking
from ode_runner.solvers.explicit.dopri5 import Dopri5
from ode_runner.tasks.points.tracking import Tracking, circle
from tests.helpers import check_refused, record_of, typed
from tests.problems import Compose, build

TINY = ("task=tracking", "task.train=20", "task.validation=10", "task.test=10", "trainer.batch_size=20",
        "trainer.epochs=1", "network.width=4", "logger=none")  # fmt: skip


def tracking(composed: Compose, **changed: Any) -> Tracking:
    cfg = composed("task=tracking")
    cfg.task.update(changed)
    task = construct(cfg, "task", seed=0, device=torch.device("cpu"))
    assert isinstance(task, Tracking)
    return task


def solved(
    composed: Compose, task: Tracking, matrix: Tensor, split: Split, model: str = "odenet"
) -> tuple[Batch, Loss]:
    """The loss of a linear field, in float64 and by a tight solve."""
    made: nn.Module = build(composed, "model", model, build(composed, "network", "linear", task.spec)).double()
    with torch.no_grad():
        for p in made.parameters():
            p.zero_()
        made.get_parameter("field.theta")[:2, :2] = matrix
    integrate = Integrator(solver=Dopri5(rtol=1e-9, atol=1e-9, max_steps=10_000), gradient=Backprop())
    batch = next(task.batches(split, batch_size=1000, epoch=0)).to(torch.float64)
    return batch, Supervised().loss(made, task, batch, integrate)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("split", Split)
@pytest.mark.parametrize("model", ["odenet", "augmented"])
def test_the_loss_is_the_integral_alone_known_of_states_that_stand_still_and_that_turn(
    composed: Compose, split: Split, model: str
) -> None:
    task, still = tracking(composed, periods=2), torch.zeros(2, 2, dtype=torch.float64)
    turning = 2 * math.pi * torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    periods = 2 if split is Split.TEST else 1
    for matrix in (still, turning):
        batch, loss = solved(composed, task, matrix, split, model)
        begun = batch.inputs
        squares = begun.square().sum(dim=1) + 1  # of the distance, in the mean over a period
        if matrix is turning:
            squares = (begun - begun.new_tensor([1.0, 0.0])).square().sum(dim=1)  # at all times
        assert float(loss.total.detach()) == pytest.approx(periods * float(squares.mean()), rel=1e-6)


def test_deviations_are_means_of_distances_over_all_periods_and_the_last(composed: Compose) -> None:
    task = tracking(composed, periods=3, points=50)
    batch = next(task.batches(Split.TEST, batch_size=1000, epoch=0)).to(torch.float64)
    assert batch.ts.tolist() == pytest.approx([i / 50 for i in range(151)], abs=1e-6)
    off = torch.where(batch.ts > 2.0001, 0.3, 0.1)[:, None, None] * batch.targets.new_tensor([0.6, 0.8])
    found = task.metrics(Outputs(batch.targets + off), batch)
    assert float(found["deviation"]) == pytest.approx((0.1 + 0.1 + 0.3) / 3)
    assert float(found["deviation_last_period"]) == pytest.approx(0.3)
    assert float(found["squared_distance"]) == pytest.approx(2 * 0.01 + 0.09, rel=1e-2)
    validation = next(task.batches(Split.VALIDATION, batch_size=1000, epoch=0))
    found = task.metrics(Outputs(validation.targets), validation)
    assert {name: float(value) for name, value in found.items()} == {"deviation": 0, "squared_distance": 0}


def test_initial_states_have_their_law(composed: Compose) -> None:
    task = tracking(composed, train=5000, test=5000, std=0.1, test_std=0.3)
    for split, std in ((Split.TRAIN, 0.1), (Split.TEST, 0.3)):
        starts = task.starts[split]
        assert starts.mean(dim=0).tolist() == pytest.approx([1, 0], abs=4 * std / 5000**0.5)
        assert starts.std(dim=0).tolist() == pytest.approx([std, std], rel=0.05)


@pytest.mark.parametrize(
    ("changed", "option"),
    [
        ({"periods": 0}, "task.periods must be from 1 to 1000"),
        ({"points": 1}, "task.points must be at least 2"),
        ({"std": -0.1}, "task.std must be 0 or more"),
        ({"test_std": -0.1}, "task.test_std must be 0 or more"),
        ({"train": 1}, "task.train must be at least 2"),
    ],
)
def test_options_that_mean_nothing_are_refused(composed: Compose, changed: dict[str, Any], option: str) -> None:
    with pytest.raises(RefusedInput, match=option):
        tracking(composed, **changed)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("model=resnet",), "task=tracking asks for values and states at any time, and model=resnet gives values only"),
        (
            ("model=cnf",),
            "task=tracking asks for values and states at any time, and model=cnf gives a log density",
        ),
        (
            ("network=mlp", "network.width=1"),
            "task=tracking is about the state itself, 2 numbers, and network=mlp makes",
        ),
        (("network=conv_flat",), "network=conv_flat needs images"),
        (
            ("model=galerkin", "model.basis=hats"),
            "times here go from 0 to 5. Use model.period=5, or model.basis=fourier",
        ),
    ],
    ids=" ".join,
)
def test_what_cannot_be_asked_is_refused_in_a_sentence(words: tuple[str, ...], sentence: str, tmp_path: Path) -> None:
    check_refused(*TINY, *words, sentence=sentence, cwd=tmp_path)


def test_a_solve_that_sees_the_start_alone_cannot_be_trained(tmp_path: Path) -> None:
    """One step of Euler's method takes the cost at the initial state, which no parameter moves."""
    ended = typed(*TINY, "solver=euler", "solver.num_steps=1", cwd=tmp_path)
    assert ended.returncode == 2
    assert "the loss depends on none of the model's parameters" in ended.stderr


@pytest.mark.slow
def test_a_run_reports_both_deviations_and_draws_them(tmp_path: Path) -> None:
    words = ("model=galerkin", "solver=rk4", "solver.num_steps=20", "task.periods=2", "task.points=10")
    ended = typed(*TINY, *words, cwd=tmp_path, pictures=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    metrics = record_of(tmp_path)["metrics"]
    assert {"test/deviation", "test/deviation_last_period", "test/loss"} <= metrics.keys()
    assert metrics["test/loss"] == pytest.approx(metrics["test/squared_distance"], rel=0.05)
    assert {path.name for path in tmp_path.rglob("plots/*")} == {"curves.png", "tracking.png", "weights.png"}


def test_a_picture_that_moves_has_a_frame_for_each_time() -> None:
    ts = torch.linspace(0, 1, 3)
    moving = animate_tracking(circle(ts)[:, None].expand(-1, 4, -1), circle(ts), ts, tested=9)
    assert moving.frames == 3
    moving.show(2)
    assert "t = 1.00" in moving.figure.axes[0].get_title()
    far = circle(ts)[:, None] + torch.tensor([[0.0, 0.0], [2.5, -2.5]])
    [axes] = animate_tracking(far, circle(ts), ts, tested=9).figure.axes
    shown = torch.tensor([axes.get_xlim(), axes.get_ylim()])
    low, high = far.flatten(0, 1).aminmax(dim=0)
    assert bool((shown[:, 0] < low).all()), "no state leaves the axes"
    assert bool((shown[:, 1] > high).all())
    farther = animate_tracking(3 * far, circle(ts), ts, tested=9).figure
    assert farther.get_suptitle() == "the first 2 of 9 samples; 1 of 2 leave the axes"


def test_a_cost_that_is_not_that_of_the_path_is_told_of(composed: Compose) -> None:
    task = tracking(composed)
    [sentence] = task.remarks({"test/loss": -0.005, "test/squared_distance": 0.01})
    assert sentence.startswith("the cost by the run's own solver, -0.0050, is not that of the path, 0.0100")
    assert list(task.remarks({"test/loss": 0.0101, "test/squared_distance": 0.01})) == []
    assert list(task.remarks({"test/loss": math.nan, "test/squared_distance": 0.01})) != []
