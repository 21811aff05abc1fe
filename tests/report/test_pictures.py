"""A picture that cannot be drawn costs itself; trajectories are drawn by how many coordinates their states have."""

import errno
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import GifImagePlugin, Image
from torch import Tensor

from ode_runner.batch import Split
from ode_runner.errors import SolverFailed
from ode_runner.field import VectorField
from ode_runner.loggers.several import Loggers
from ode_runner.plots.animation import Animation, Picture
from ode_runner.plots.phase_space import draw_phase_portrait
from ode_runner.plots.plane import animate_flow
from ode_runner.recording.display import Display
from ode_runner.recording.pictures import TRACEBACKS, save_pictures
from ode_runner.tasks.base import ModelView, Task
from ode_runner.tasks.dynamics.linear import Linear, PowerField
from ode_runner.tasks.dynamics.trajectories import Trajectories
from ode_runner.tasks.points.half_moons import HalfMoons
from tests.helpers import TINY, record_of, run_folder, typed

QUICK = ("trainer=quick", "trainer.max_steps=2", "logger=none", *TINY)


class Turning(VectorField):
    """Each coordinate is driven by its neighbours; a single one decays."""

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return torch.roll(y, 1, -1) - torch.roll(y, -1, -1) - 0.3 * y


def task_of(coordinates: int) -> Trajectories:
    @dataclass(kw_only=True, eq=False)
    class Own(Trajectories):
        names = tuple(f"y_{{{i}}}" for i in range(coordinates))

        def true_field(self) -> VectorField:
            return Turning()

    return Own(
        train=2, validation=1, test=2, box=[[-1.0, 1.0]] * coordinates, y0=[1.0] + [0.0] * (coordinates - 1),
        horizon=2.0, foresight=2, points=9, window=3, irregular=False, noise=0.0, seed=0, device=torch.device("cpu"),
    )  # fmt: skip


def findings_of(values: Any) -> ModelView:
    """Of a model whose outputs are `values` of the inputs and times."""
    history = [{"step": 1.0, "epoch": 1.0, "train/loss": 1.0, "eval/rmse": 1.0, "train/rmse": 1.0}]
    unasked: Any = None
    return ModelView(
        answer=unasked,
        history=history,
        predict=values,
        encode=unasked,
        decode=unasked,
        path=unasked,
        continuous=True,
        predict_finely=unasked,
        output_dir=Path(),
        sample=None,
    )


@pytest.mark.sampled(1)
@pytest.mark.parametrize("coordinates", [1, 2, 3, 30])
def test_states_of_any_number_of_coordinates_get_every_picture(coordinates: int) -> None:
    def predict(inputs: Tensor, ts: Tensor) -> Tensor:
        return inputs.float() + 0.1 * ts[:, None, None].float()

    drawn = dict(task_of(coordinates).figures(findings_of(predict)))
    assert set(drawn) == {"curves", "trajectory", "observations", "phase_portrait", "error"}
    for figure in drawn.values():
        width, height = figure.get_size_inches()
        assert max(width, height) < 20, "it can be looked at"
        figure.draw_without_rendering()


def test_a_learned_matrix_and_field_are_beside_the_true_ones_and_exact_ones_are_not() -> None:
    task = Linear(
        matrix=[[-0.1, -1.0], [1.0, -0.1]], power=1, train=2, validation=1, test=2, box=[[-1.0, 1.0]] * 2,
        y0=[1.0, 0.0], horizon=2.0, foresight=2, points=9, window=3, irregular=True, noise=0.1, seed=0,
        device=torch.device("cpu"),
    )  # fmt: skip
    view = findings_of(lambda inputs, ts: inputs.float() + 0.1 * ts[:, None, None].float())
    drawn = dict(task.figures(replace(view, field=PowerField([[0.0, -2.0], [2.0, 0.0]], 1))))
    found = [text.get_text() for text in drawn["matrix"].axes[1].texts]
    assert found == ["0", "-2", "2", "0"]
    titles = [axes.get_title() for axes in drawn["phase_portrait"].axes]
    assert titles[:2] == ["the true field, in grey", "the learned field, in grey"]
    dots = [line for line in drawn["observations"].axes[0].lines if line.get_label() == "observed"]
    assert np.allclose(dots[0].get_ydata(), task.observations[Split.TRAIN].values[0, :, 0])

    exact = dict(task.figures(replace(view, field=task.true_field(), exact=True)))
    assert not {"matrix", "observations"} & {*exact}
    assert [axes.get_title() for axes in exact["phase_portrait"].axes][:1] == titles[:1]


@pytest.mark.parametrize("coordinates", [1, 2, 3])
def test_states_that_stand_still_are_drawn(coordinates: int) -> None:
    still = torch.ones(1, coordinates).expand(5, 1, coordinates)  # (time, samples, state)
    names = ("x", "y", "z")[:coordinates]
    fields = {"true field": Turning()}
    ts = torch.linspace(0, 1, 5)
    drawn = draw_phase_portrait(still, still, ts=ts, fields=fields, names=names, label="model")
    drawn.draw_without_rendering()


class Raises(Figure):
    def savefig(self, *_: object, **__: object) -> None:
        raise ValueError("a slip\nover two lines")


class Exits(Figure):
    def savefig(self, *_: object, **__: object) -> None:
        raise SystemExit(1)


def saved(
    pictures: list[Any], folder: Path, capsys: pytest.CaptureFixture[str], **options: Any
) -> tuple[list[str], str]:
    """Names of those drawn, and what was said; an exception among the pictures is raised where it stands."""

    def one_by_one() -> Iterator[Any]:
        for picture in pictures:
            if isinstance(picture, BaseException):
                raise picture
            yield picture

    drawn = save_pictures(one_by_one, folder=folder, display=Display(), **options)
    return drawn, capsys.readouterr().out


def test_the_others_are_drawn_and_the_missing_one_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawn, said = saved([("a", Figure()), ("b", Raises()), ("c", Figure())], tmp_path / "plots", capsys)
    assert drawn == ["a", "c"]
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == ["a.png", "c.png", TRACEBACKS]
    assert said.count("\n") == 1
    assert "not all pictures could be drawn: 'b': ValueError: a slip over two lines; the result stands" in said
    assert "Traceback" in (tmp_path / "plots" / TRACEBACKS).read_text()


def test_signs_that_the_font_lacks_are_named_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = [(name, Figure()) for name in ("a", "b")]
    for _, picture in pictures:
        picture.text(0.5, 0.5, "漢字 and a")
    drawn, said = saved(pictures, tmp_path / "plots", capsys)
    assert drawn == ["a", "b"]
    assert said == "in pictures boxes stand for 字 漢, which matplotlib's font lacks\n"


@pytest.mark.parametrize(
    ("pictures", "drawn", "said"),
    [
        ([KeyError("slip")], [], "the first: KeyError: 'slip'"),
        (
            [("a", Figure()), SolverFailed("solver=dopri5 stopped at t=3.")],
            ["a"],
            "the one after 'a': solver=dopri5 stopped at t=3.",
        ),
        ([("a", Figure()), RecursionError()], ["a"], "the one after 'a': RecursionError"),
        ([("a", Figure()), SystemExit("usage: plot.py")], ["a"], "the one after 'a': SystemExit: usage: plot.py"),
        ([("a", Exits()), ("b", Figure())], ["b"], "'a': SystemExit: 1;"),
        ([("a", None), ("b", Figure())], ["b"], "'a': AttributeError: "),
        ([("c/d", Figure()), ("b", Figure())], ["b"], "'c/d': No such file or directory: "),
        ([(7, Figure()), ("b", Figure()), "no pair"], ["7", "b"], "the one after 'b': ValueError: "),
    ],
)
def test_whatever_goes_wrong_is_told(
    pictures: list[Any], drawn: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names, told = saved(pictures, tmp_path, capsys)
    assert list(map(str, names)) == drawn
    assert f"not all pictures could be drawn: {said}" in told
    assert told.count("\n") == 1


def test_an_interrupt_ends_the_drawing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        saved([("a", Figure()), KeyboardInterrupt()], tmp_path, capsys)


def test_a_file_where_the_pictures_should_be_costs_the_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plots").write_text("")
    drawn, said = saved([("a", Figure())], tmp_path / "plots", capsys)
    assert not drawn
    assert f"the first: File exists: {tmp_path / 'plots'}; the result stands.\n" in said


def test_a_full_disk_and_a_logger_cost_their_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = Loggers({})
    calls = itertools.count()

    def full(*_: object, **__: object) -> None:
        if next(calls) == 0:
            raise OSError(errno.ENOSPC, "No space left on device", "a.png")

    monkeypatch.setattr(Loggers, "picture", full)
    drawn, said = saved([("a", Figure()), ("b", Figure())], tmp_path, capsys, logger=logger)
    assert drawn == ["b"]
    assert "'a': No space left on device: a.png; the result stands" in said


def slips(self: Task, view: object) -> Iterator[tuple[str, Figure]]:
    yield "fine", Figure()
    raise KeyError("a slip in my own picture")


def test_a_slip_in_a_picture_of_ones_own_leaves_the_run_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HalfMoons, "figures", slips)
    monkeypatch.setattr(HalfMoons, "figures_of_per_sample_cost", slips)
    ended = typed(*QUICK, "solver.per_sample=true", cwd=tmp_path, pictures=True)
    folder = run_folder(tmp_path)
    assert ended.returncode == 0
    assert ended.stdout.count("the one after 'fine': KeyError: 'a slip in my own picture'; the result stands") == 2
    assert "test accuracy" in ended.stdout
    assert (record_of(tmp_path)["status"], record_of(tmp_path)["reason"]) == (
        "completed",
        "ended by trainer.max_steps=2 at step 2",
    )
    assert (folder / "plots" / TRACEBACKS).read_text().count("a slip in my own picture") >= 2
    again = typed(f"evaluate={folder.relative_to(tmp_path)}", cwd=tmp_path, pictures=True)
    assert again.returncode == 0, again.stderr
    assert "the one after 'fine'" in again.stdout


def test_an_audit_without_its_picture_has_its_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("no room")

    monkeypatch.setattr("ode_runner.commands.audit.draw_audit", broken)
    ended = typed("audit=true", "solver=euler", "solver.num_steps=2", *TINY, cwd=tmp_path, pictures=True)
    assert ended.returncode == 0, ended.stderr
    assert "not all pictures could be drawn: the first: ValueError: no room; the result stands" in ended.stdout
    assert "picture:" not in ended.stdout
    assert list(tmp_path.rglob("gradients.csv"))


@pytest.mark.slow
def test_a_picture_that_moves_is_a_gif(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ode_runner.tasks.points.base.FRAMES", 4)
    ended = typed(*QUICK, "trainer.animate=true", cwd=tmp_path, pictures=True)
    assert "not used" not in ended.stdout
    path = run_folder(tmp_path) / "plots" / "flow_in_motion.gif"
    with Image.open(path) as image:
        assert isinstance(image, GifImagePlugin.GifImageFile)
        assert (image.n_frames, image.info["loop"]) == (4, 0)
        frames = []
        for i in range(4):
            image.seek(i)
            frames.append(np.asarray(image.convert("L")))
    assert all((frames[i] != frames[i + 1]).any() for i in range(3))


@pytest.mark.slow
def test_points_in_space_move_in_a_projection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ode_runner.tasks.points.base.FRAMES", 3)
    few = ("task.train=60", "task.validation=20", "task.test=20", "trainer.epochs=1", "network.width=4", "logger=none")
    ended = typed("task=spheres", *few, "solver=euler", "trainer.animate=true", cwd=tmp_path, pictures=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert (run_folder(tmp_path) / "plots" / "flow_in_motion.gif").stat().st_size > 0
    assert (run_folder(tmp_path) / "plots" / "space.png").is_file()


def test_an_animation_shows_the_states_one_after_another() -> None:
    states = torch.arange(12.0).reshape(3, 2, 2)
    made = animate_flow(states, torch.tensor([0, 1]), lines=states[:, None], tested=2)
    for i in range(3):
        made.show(i)
        mesh, first, second = made.figure.axes[0].collections
        assert np.allclose(first.get_offsets(), states[i, :1])
        assert np.allclose(second.get_offsets(), states[i, 1:])
        assert np.allclose(mesh.get_segments()[0], states[i])
    assert made.frames == 3


def test_a_picture_that_stops_moving_costs_itself(tmp_path: Path) -> None:
    def broken(i: int) -> None:
        raise ZeroDivisionError("frame")

    def pictures() -> Iterator[tuple[str, Picture]]:
        yield "moving", Animation(figure=Figure(), show=broken, frames=2, per_second=1)
        yield "still", Figure()

    folder = tmp_path / "plots"
    assert save_pictures(pictures, folder=folder, display=Display()) == ["still"]
    assert {path.name for path in folder.iterdir()} == {"still.png", TRACEBACKS}


@pytest.mark.slow
def test_a_task_without_motion_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Linear, "figures", lambda self, view: [("still", Figure())])
    words = ("task=linear", "trainer=quick", "trainer.max_steps=1", "logger=none", "trainer.animate=true")
    ended = typed(*words, cwd=tmp_path, pictures=True)
    assert "trainer.animate=true is not used: this task has no picture that moves" in ended.stdout
