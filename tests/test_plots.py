"""What is in a picture: its panels, lines, dots and words."""

from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ode_runner.field import VectorField
from ode_runner.plots import style
from ode_runner.plots.comparison import Axis, Curve, Look
from ode_runner.plots.comparison import draw_curves as draw_several
from ode_runner.plots.curves import Samples, draw_curves
from ode_runner.plots.matrix import draw_matrices
from ode_runner.plots.phase_space import draw_phase_portrait
from ode_runner.plots.trajectories import draw_observations


def history(*epochs: float) -> list[dict[str, float]]:
    """Of so many steps, as many evaluations as a fixed grid takes."""
    return [
        {"step": i + 1.0, "epoch": epoch, "train/loss": 0.4 - 0.05 * i, "eval/loss": 0.3, "train/accuracy": 0.7,
         "nfe/forward": 20.0, "nfe/backward": 0.0, "nfe/eval": 80.0}
        for i, epoch in enumerate(epochs)
    ]  # fmt: skip


def words(figure: Figure) -> list[str]:
    """Of the legends of a figure."""
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def ticks(axis: Any) -> list[str]:
    low, high = axis.get_view_interval()
    both = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
    return [tick.label1.get_text() for tick in both if low <= tick.get_loc() <= high and tick.label1.get_text()]


@pytest.mark.parametrize(("low", "high"), [(1.04, 2.35), (3e-4, 2e2)])
def test_numbers_on_axes_are_written_as_one_would_say_them(low: float, high: float) -> None:
    for scale in ("log", "linear"):
        figure = style.figure(4, 3)
        axes = figure.subplots()
        axes.plot([1790.0001, 1790.0002], [low, high])
        axes.set_yscale(scale)
        figure.draw_without_rendering()
        for axis in (axes.xaxis, axes.yaxis):
            assert axis.get_offset_text().get_text() == ""
            found = [float(text) for text in ticks(axis)]
            assert len(set(found)) == len(found) >= 2


def test_a_formatter_of_ones_own_stays() -> None:
    figure = style.figure(4, 3)
    axes = figure.subplots()
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} steps")
    axes.set_xlim(1, 8)
    figure.draw_without_rendering()
    assert ticks(axes.xaxis) == ["1 steps", "2 steps", "4 steps", "8 steps"]


@pytest.mark.parametrize(("epochs", "along"), [((0.0025, 0.005), "step"), ((1.0,), "step"), ((1.0, 2.0, 3.0), "epoch")])
def test_epochs_steps_and_evaluations_are_whole_numbers(epochs: tuple[float, ...], along: str) -> None:
    figure = draw_curves(history(*epochs))
    figure.draw_without_rendering()
    for axes in figure.axes:
        assert axes.get_xlabel() == along
        assert all(text.isdigit() for text in ticks(axes.xaxis))
    assert all(text.isdigit() for text in ticks(figure.axes[-1].yaxis))


def test_curves_of_a_short_sweep_have_whole_epochs() -> None:
    look = Look(label="a", colour=0, shape=0)
    curve = Curve(look=look, x=[1.0, 2.0], mean=[0.3, 0.2], least=[0.3, 0.2], most=[0.3, 0.2])
    figure = draw_several({"Training loss": (Axis(label="", log=True), [curve])})
    figure.draw_without_rendering()
    assert ticks(figure.axes[0].xaxis) == ["1", "2"]


def test_windows_and_whole_trajectories_are_told_apart() -> None:
    figure = draw_curves(history(1, 2, 3), samples=Samples("windows of 10 points", "whole trajectories"))
    assert words(figure) == ["training, windows of 10 points", "validation, whole trajectories"]
    assert [axes.get_title() for axes in figure.axes] == [
        "Loss",
        "Accuracy",
        "Evaluations of the field (NFE) per batch",
    ]
    assert len(figure.axes[2].lines) == 2, "no way back, no line"


def test_what_was_not_measured_has_no_panel() -> None:
    rows = [{key: row[key] for key in ("step", "epoch", "train/loss")} for row in history(1, 2, 3)]
    assert [axes.get_title() for axes in draw_curves(rows, quality="rmse").axes] == ["Loss"]
    assert draw_curves([]).axes[0].lines[:] == []


class Turn(VectorField):
    """Around 0, so many times as fast."""

    def __init__(self, speed: float) -> None:
        super().__init__()
        self.speed = torch.nn.Parameter(torch.tensor(speed))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return self.speed * torch.roll(y, 1, -1) * y.new_tensor([-1.0, 1.0])[: y.shape[-1]]


def panels(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.get_title()]


@pytest.mark.parametrize("coordinates", [1, 2])
def test_the_learned_field_is_drawn_beside_the_true_one_in_one_scale(coordinates: int) -> None:
    true, found = torch.randn(2, 5, 3, coordinates, generator=torch.Generator().manual_seed(0))
    fields = {"true field": Turn(1.0), "learned field": Turn(2.0)}
    names = ("x", "y")[:coordinates]
    ts = torch.linspace(0, 1, 5)
    figure = draw_phase_portrait(found, true, ts=ts, fields=fields, names=names, label="model")
    left, right = panels(figure)
    assert [axes.get_title() for axes in (left, right)] == ["the true field, in grey", "the learned field, in grey"]
    assert (left.get_xlim(), left.get_ylim()) == (right.get_xlim(), right.get_ylim())
    slow, fast = (next(c for c in axes.collections if c.get_array() is not None) for axes in (left, right))
    assert slow.norm.vmax == fast.norm.vmax, "one scale of speeds"
    assert np.mean(fast.get_array()) > 1.2 * np.mean(slow.get_array())
    drawn = [line.get_xydata()[:, -1] for line in right.lines]
    assert any(np.allclose(line, found[:, 0, -1]) for line in drawn if len(line) == 5)
    assert words(figure) == ["reference", "model, others", "model, the trajectory of the other pictures"]

    alone = draw_phase_portrait(found, true, ts=ts, fields={"true field": Turn(1.0)}, names=names, label="solved")
    assert len(panels(alone)) == 1
    assert words(alone)[-1] == "solved, the trajectory of the other pictures"


def test_observations_are_dots_beside_solutions() -> None:
    times, observed = torch.linspace(0, 1, 4).expand(2, 4), torch.randn(2, 4, 3)
    ts, true, found = torch.linspace(0, 1, 50), torch.zeros(50, 2, 3), torch.ones(50, 2, 3)
    figure = draw_observations(times, observed, ts, {"true": true, "model": found}, names=("x", "y", "z"))
    grid = np.array(figure.axes).reshape(3, 2)
    for row in range(3):
        for sample in range(2):
            dots = next(line for line in grid[row, sample].lines if line.get_label() == "observed")
            assert dots.get_linestyle() == "None"
            assert np.allclose(dots.get_xydata().T, torch.stack([times[sample], observed[sample, :, row]]))
    assert words(figure) == ["true", "model", "observed"]


def test_a_matrix_is_drawn_beside_another_with_its_elements() -> None:
    true, found = torch.tensor([[-0.1, -1.0], [1.0, -0.1]]), torch.tensor([[0.0, -2.0], [0.5, -0.1]])
    figure = draw_matrices({"true": true, "found": found}, title="A")
    images = [axes.images[0] for axes in panels(figure)]
    assert [axes.get_title() for axes in panels(figure)] == ["true", "found"]
    assert all(np.allclose(image.get_array(), x) for image, x in zip(images, (true, found), strict=True))
    assert {image.norm.vmax for image in images} == {2.0}
    assert [text.get_text() for text in panels(figure)[1].texts] == ["0", "-2", "0.5", "-0.1"]


def test_pictures_change_no_setting_of_matplotlib() -> None:
    before = dict(matplotlib.rcParams)
    draw_curves(history(1, 2, 3)).draw_without_rendering()
    assert dict(matplotlib.rcParams) == before
