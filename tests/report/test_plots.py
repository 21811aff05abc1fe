"""What is in a picture: its panels, lines, dots and words."""

from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ode_runner.controls.series import Series
from ode_runner.event import Events
from ode_runner.field import VectorField
from ode_runner.plots import style
from ode_runner.plots.animation import Animation
from ode_runner.plots.comparison import Axis, Curve, Look
from ode_runner.plots.comparison import draw_curves as draw_several
from ode_runner.plots.curves import Samples, draw_curves
from ode_runner.plots.density import draw_density, draw_samples
from ode_runner.plots.depth import draw_weights
from ode_runner.plots.difficulty import draw_difficulty_in_the_plane
from ode_runner.plots.events import draw_events
from ode_runner.plots.forecast import Line, Panel, draw_forecasts
from ode_runner.plots.image_samples import draw_images, draw_images_beside
from ode_runner.plots.matrix import draw_matrices
from ode_runner.plots.numbers import draw_estimates
from ode_runner.plots.phase_space import draw_phase_portrait
from ode_runner.plots.plane import draw_flow
from ode_runner.plots.probabilities import draw_probabilities
from ode_runner.plots.scatter_matrix import draw_scatter_matrix
from ode_runner.plots.series import draw_answers, draw_control, draw_states
from ode_runner.plots.space import draw_states_in_space
from ode_runner.plots.spirals import draw_prior_samples
from ode_runner.plots.stochastic import draw_paths
from ode_runner.plots.texts import draw_unmasking
from ode_runner.plots.tracking import draw_tracking
from ode_runner.plots.trajectories import draw_observations, draw_predictions


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


def test_estimates_are_drawn_with_their_errors_beside_the_truth_where_it_is_known() -> None:
    figure = draw_estimates(
        {"near": 2.0, "far": 1.0, "free": 5.0, "blind": 3.0},
        {"near": 0.1, "far": 1e-6, "free": 0.5},
        {"near": 2.1, "far": 2},
    )
    lines = [{str(line.get_label()): list(line.get_xdata()) for line in axes.lines} for axes in figure.axes]
    assert lines[0] == {
        "2 standard errors": [1.8, 2.2], "1 standard error": [1.9, 2.1], "estimate": [2.0], "truth": [2.1, 2.1]
    }  # fmt: skip
    assert [sorted(drawn)[-1] for drawn in lines] == ["truth", "estimate", "estimate", "estimate"]
    assert [axes.texts[0].get_text() for axes in figure.axes] == [
        "", "truth 2, 1e+06 standard errors away", "", "no standard error",
    ]  # fmt: skip
    assert words(figure) == ["2 standard errors", "1 standard error", "estimate", "truth"]


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


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([0.0, 2e-7], "2e-07"),
        ([0.0, 4e7], "4e+07"),
        ([1.7e9, 1.7e9 + 200], "1700000100"),  # seconds since 1970, which would all be 1.7e+09
        ([0.0, 200000.0], "200000"),
    ],
)
def test_long_numbers_on_axes_are_shortened_where_that_tells_them_apart(values: list[float], shown: str) -> None:
    figure = style.figure(4, 3)
    axes = figure.subplots()
    axes.plot([0, 1], values)
    figure.draw_without_rendering()
    assert shown in ticks(axes.yaxis)


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


def test_a_sweep_of_one_epoch_has_that_on_its_axis() -> None:
    curve = Curve(look=Look(label="a", colour=0, shape=0), x=[1.0], mean=[0.3], least=[0.3], most=[0.3])
    figure = draw_several({"Training loss": (Axis(label=""), [curve])})
    figure.draw_without_rendering()
    assert ticks(figure.axes[0].xaxis) == ["1"]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("count", "words"), [(12, "rtol=1e-05 atol=1e-05 optimizer=Adam batch_size=128"), (30, "")])
def test_long_names_in_a_legend_leave_the_panels_their_room(count: int, words: str) -> None:
    names = [f"model{i} dopri5 backprop window=10 step_size=0.025 {words}" for i in range(count)]
    looks = [Look(label=name, colour=i, shape=i // 7) for i, name in enumerate(names)]
    curves = [Curve(look=look, x=[1.0, 2.0], mean=[0.3, 0.2], least=[0.3, 0.2], most=[0.3, 0.2]) for look in looks]
    figure = draw_several({"Training loss": (Axis(label=""), curves), "Validation": (Axis(label=""), curves)})
    figure.draw_without_rendering()
    width, height = figure.get_size_inches()
    assert max(width, height) < 20, "it can be looked at"
    for axes in figure.axes:
        assert axes.get_position().width * width > 3, "inches"
        assert axes.get_position().height * height > 3
    check_legend_within(figure)


def check_legend_within(figure: Figure) -> None:
    figure.draw_without_rendering()
    [legend] = figure.legends
    box, whole = legend.get_window_extent(), figure.bbox
    assert whole.x0 <= box.x0 < box.x1 <= whole.x1
    assert whole.y0 <= box.y0 < box.y1 <= whole.y1


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


def test_a_bound_has_level_lines_and_a_loss_that_is_the_bound_is_drawn_once() -> None:
    levels = {"loss of single tokens": 29.9, "entropy of the texts": 22.5}
    first = {"step": 1.0, "epoch": 1.0, "train/loss": 30.0, "nelbo": 30.0}
    second = {"step": 2.0, "epoch": 2.0, "eval/loss": 25.0}
    once = draw_curves([first, second | {"eval/nelbo": 25.0}], quality="nelbo", levels=levels)
    [axes] = [axes for axes in once.axes if axes.get_title()]
    assert axes.get_title() == "NELBO"
    assert {str(line.get_label()): list(line.get_ydata()) for line in axes.lines} == {
        "training": [30.0], "validation": [25.0], **{label: [level, level] for label, level in levels.items()}
    }  # fmt: skip
    other = draw_curves([first, second | {"eval/nelbo": 24.0}], quality="nelbo", levels=levels)
    assert [(axes.get_title(), len(axes.lines)) for axes in other.axes] == [("Loss", 2), ("NELBO", 4)]
    assert words(once) == words(other) == ["training", "validation", *levels]


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
    figure = draw_observations(
        times, observed, ts, {"true": true, "model": found}, names=("x", "y", "z"), trajectories=90
    )
    assert figure.get_suptitle() == "The first 2 of 90 trajectories of training"
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


def test_flat_curves_get_panels_that_are_no_strips() -> None:
    paths = torch.stack([torch.linspace(0, 30, 9), torch.zeros(9)], dim=1)[:, None].expand(9, 12, 2)
    figure = draw_prior_samples(paths)
    figure.draw_without_rendering()
    assert all(axes.get_window_extent().height > 0.5 * axes.get_window_extent().width for axes in figure.axes)


def test_a_few_numbers_of_evaluations_are_named_each_and_many_have_a_scale() -> None:
    points = torch.randn(30, 2, generator=torch.Generator().manual_seed(0))
    few = draw_difficulty_in_the_plane(points, 14 + 6 * (torch.arange(30) % 2), title="", names=("x", "y"))
    assert (words(few), len(few.axes)) == (["14", "20"], 1)
    many = draw_difficulty_in_the_plane(points, torch.arange(30), title="", names=("x", "y"))
    assert (words(many), len(many.axes)) == ([], 2)


def test_bands_say_what_they_are() -> None:
    ts, paths = torch.linspace(0, 1, 5), torch.randn(2, 5, 40, 1, generator=torch.Generator().manual_seed(0))
    told = words(draw_paths(ts, *paths, names=("x",), title=""))
    assert {"true, middle 90 % of paths", "model, middle 90 % of paths", "true, mean", "model, mean"} < {*told}
    observed = words(draw_paths(ts, paths[0, :, :1], paths[1], names=("x",), title=""))
    assert observed[:2] == ["observed", "model, middle 90 % of paths"]

    times, values = np.arange(3.0), np.zeros((3, 1))
    line = Line("mean of the seeds", times, values, np.ones((3, 1)), "2 standard deviations of them")
    panel = Panel(title="", times=times, values=values, lines=[line], test_begin=None)
    assert "2 standard deviations of them" in words(draw_forecasts([panel], ["hare"], "year", series=1))


@pytest.mark.parametrize("panels", [1, 4])
def test_the_legend_of_forecasts_is_within_their_picture(panels: int) -> None:
    times, values, rows = np.arange(4.0), np.zeros((4, 1)), np.array([True, True, False, False])
    band = "2 standard deviations of 8 samples of the latent state, without the noise of a measurement"
    labels = {"model, rows read first": band, "forecast": "", "forecast beyond the end": ""}
    lines = [Line(label, times, values, np.ones((4, 1)), words) for label, words in labels.items()]
    panel = Panel(title="", times=times, values=values, lines=lines, test_begin=1.0, read=rows, asked=~rows)
    figure = draw_forecasts([panel] * panels, ["hare"], "year", series=panels)
    check_legend_within(figure)
    assert figure.axes[0].get_position().height * figure.get_figheight() > 1, "inches"


def test_a_picture_of_some_says_of_how_many() -> None:
    times, values = np.arange(3.0), np.zeros((3, 1))
    panel = Panel(title="", times=times, values=values, lines=[], test_begin=None)
    assert draw_forecasts([panel] * 4, ["hare"], "year", series=12).get_suptitle() == "the first 4 of 12 series"
    assert draw_forecasts([panel], ["hare"], "year", series=1).get_suptitle() == ""
    [axes] = draw_predictions(torch.linspace(0, 1, 3), torch.zeros(3, 12, 1), ["x"]).axes
    assert axes.get_title() == "Predictions of the model; the first 10 of 12 samples"
    [axes] = draw_probabilities(torch.linspace(0, 1, 3), *torch.full((2, 3, 12), 1 / 12)).axes
    assert axes.get_title() == "the first 10 of 12 states"
    texts = draw_unmasking(torch.zeros(3, 2, 4, dtype=torch.long), words="ab", samples=5).axes[0].get_title()
    assert texts == "The first 2 of 5 samples, each token shaded by when it came to stand"
    [axes] = draw_images(torch.zeros(4, 1, 2, 2), brightest=1, samples=9).axes
    assert axes.get_title() == "the first 4 of 9 samples"
    many = np.random.default_rng(0).normal(size=(2001, 1))
    title = draw_scatter_matrix(many, many[:5], names=["x"]).get_suptitle()
    assert title == "Test points (blue) and samples (red); the first 2000 of 2,001 as dots"
    series = Series.complete(torch.arange(3.0).expand(1, 3), torch.zeros(1, 3, 1))
    assert draw_answers(series, ["one"], tested=7).get_suptitle() == "Test series; the first 1 of 7 series"
    hidden = draw_states(torch.zeros(3, 2, 4), ["one", "two"], tested=7).get_suptitle()
    assert hidden == "Hidden states, each unit a line; the first 2 of 7 series"


def test_a_picture_of_some_points_says_of_how_many() -> None:
    path, classes, side = torch.rand(3, 4, 2), torch.tensor([0, 1, 1, 0]), (0.0, 1.0)
    assert draw_flow(path, classes, tested=9).axes[0].get_title().endswith("large\nthe first 4 of 9 points")
    assert draw_flow(path, classes, tested=4).axes[0].get_title().endswith("last one large")
    space = draw_states_in_space(torch.rand(3, 4, 5), classes, tested=9).get_suptitle()
    assert space.endswith("; the first 4 of 9 points; the first 3 of 5 coordinates")
    both = draw_density(path[0], None, samples=path[1], side=side, tested=9, drawn=4)
    assert [axes.get_title() for axes in both.axes] == ["the first 4 of 9 test points", "4 samples"]
    guided = draw_density(path[0], torch.eye(3), samples=path[1], side=side, tested=4, drawn=4, guidance=2.0)
    titles = [axes.get_title() for axes in guided.axes]
    assert titles == ["4 test points", "Density of the model, without guidance", "4 samples, guidance 2", ""]
    assert draw_samples(path, side=side, drawn=9).get_suptitle().endswith("; the first 4 of 9 samples")
    images = torch.zeros(4, 1, 2, 2)
    beside = draw_images_beside(images, images, brightest=1, tested=9, drawn=4)
    assert [axes.get_title() for axes in beside.axes] == ["the first 4 of 9 test images", "Samples"]
    tracked = draw_tracking(path.repeat(1, 4, 1), torch.rand(3, 2), torch.linspace(0, 1, 3), tested=90)
    assert [axes.get_title().partition("; the")[2] for axes in tracked.axes] == [
        *[" first 12 of 90 samples"] * 2,
        " first 16 of 90 samples",
    ]


def test_events_are_drawn_with_the_observations_before_the_last() -> None:
    ts, states = torch.linspace(0, 1, 5), torch.zeros(5, 1, 2)
    events = Events(times=torch.tensor([[0.5]]), states=torch.empty(0), valid=torch.ones(5, 1, dtype=torch.bool))
    observed = (torch.tensor([0.0, 0.4, 0.9]), torch.tensor([[1.0, 2.0], [3.0, 4.0], [torch.nan, torch.nan]]))
    figure = draw_events(ts, states, events, states, events, observed=observed, names=("h", "v"), levels={})
    dots = [line for axes in figure.axes for line in axes.lines if line.get_label() == "observed"]
    assert [line.get_ydata()[:2].tolist() for line in dots] == [[1.0, 3.0], [2.0, 4.0]]
    assert words(figure) == ["true", "model", "observed"]


def test_a_control_of_many_channels_has_panels_that_can_be_read() -> None:
    figure = draw_control(torch.arange(3.0), torch.zeros(3, 40), torch.zeros(3, 40), [f"x{i}" for i in range(40)])
    figure.draw_without_rendering()
    assert min(axes.get_window_extent().height for axes in figure.axes) / figure.dpi > 0.9, "inches"
    assert "the first 8 of 40 channels" in figure.get_suptitle()


def test_few_weights_over_depth_are_named_each() -> None:
    times = torch.linspace(0, 1, 5)
    few, many = (draw_weights(times, torch.randn(5, count)).axes[0] for count in (4, 40))
    assert few.get_title() == "all 4 weights"
    legend = few.get_legend()
    assert legend is not None
    assert sorted(text.get_text() for text in legend.get_texts()) == [rf"$\theta_{{{i}}}$" for i in range(1, 5)]
    assert (many.get_title(), many.get_legend()) == ("the 24 of 40 weights that change most", None)


def test_axes_of_a_picture_that_moves_stay_where_they_are() -> None:
    figure, places = style.figure(2, 2), list[tuple[float, ...]]()
    axes = figure.subplots()

    def show(i: int) -> None:
        places.append(axes.get_position().bounds)
        axes.set_title(f"{10 ** (3 * i)}\n" * (i + 1))

    Animation(figure=figure, show=show, frames=3, per_second=1).gif()
    assert len(set(places[1:])) == 1


def test_pictures_change_no_setting_of_matplotlib() -> None:
    before = dict(matplotlib.rcParams)
    draw_curves(history(1, 2, 3)).draw_without_rendering()
    assert dict(matplotlib.rcParams) == before
