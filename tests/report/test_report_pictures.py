"""The pictures and the page of `ode-report`."""

import base64
import itertools
import json
import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from ode_runner.plots.comparison import MARKERS, Axis, Look, Point, draw_trade_offs, pareto_front
from ode_runner.recording.record import RunStatus
from ode_runner.report.curves import curves_of, thinned
from ode_runner.report.pictures import draw_all
from ode_runner.report.rows import by_configuration, labels
from ode_runner.report.runs import find_runs
from ode_runner.report.table import make_table
from ode_runner.report.visual_encoding import encode
from tests.reporting import reported, write_run

LOOK = Look(label="a", colour=0, shape=0)


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Two solvers, two seeds each, three step counts of one of them; and a ResNet."""
    root = tmp_path / "outputs" / "a sweep #1"
    for seed in (0, 1):
        for steps in (2, 8, 32):
            cost = {"nfe_forward": steps, "nfe_backward": 0.0, "saved_bytes": 1e3 * steps, "train_seconds": steps / 10}
            metrics = {"test/accuracy": 0.8 + steps / 200 + seed / 100, "eval/accuracy": 0.8}
            options = {"solver": {"num_steps": steps}}
            write_run(root, f"e{steps}-{seed}", seed=seed, options=options, metrics=metrics, cost=cost, rows=4)
        write_run(root, f"dopri5-{seed}", solver="dopri5", seed=seed, rows=4)
    write_run(root, "resnet", model="resnet", solver="-", rows=4)
    failed = write_run(root, "failed", solver="rk4", status=RunStatus.FAILED, metrics={})
    (failed / "error.txt").write_text("Traceback")
    (root / "resnet" / "plots").mkdir()
    (root / "resnet" / "plots" / "curves.png").write_bytes(b"")
    (root / "resnet" / "plots" / "flow_in_motion.gif").write_bytes(b"")
    return tmp_path


def test_the_front_is_what_nothing_else_beats_in_both() -> None:
    def front(*pairs: tuple[float, float], higher: bool) -> list[tuple[float, float]]:
        points = [Point(look=LOOK, x=x, y=y) for x, y in pairs]
        return [(point.x, point.y) for point in pareto_front(points, higher_is_better=higher)]

    points = ((3.0, 0.9), (1.0, 0.5), (2.0, 0.4), (4.0, 0.9), (1.0, 0.6), (5.0, 0.95))
    assert front(*points, higher=True) == [(1.0, 0.6), (3.0, 0.9), (5.0, 0.95)]
    assert front(*points, higher=False) == [(1.0, 0.5), (2.0, 0.4)]
    assert front(higher=True) == []


def test_a_curve_is_the_mean_of_its_seeds_in_the_band_between_them(sweep: Path) -> None:
    rows = by_configuration(find_runs([sweep / "outputs"]).runs)
    looks = {row.label: LOOK for row in rows}
    euler = [row for row in rows if row.columns.get("solver.num_steps") == 2]
    [curve] = curves_of(euler, looks, ["train/loss"])["train/loss"]
    assert curve.x == [1, 2, 3, 4]
    assert curve.mean == pytest.approx([1.05, 0.55, 1 / 3 + 0.05, 0.3])
    assert curve.least == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4])
    assert curve.most == pytest.approx([1.1, 0.6, 1 / 3 + 0.1, 0.35])


def test_a_model_that_solves_nothing_has_no_curve_of_evaluations(sweep: Path) -> None:
    rows = by_configuration(find_runs([sweep / "outputs"]).runs)
    curves = curves_of(rows, {row.label: LOOK for row in rows}, ["nfe/forward", "train/loss"])
    assert len(curves["train/loss"]) - len(curves["nfe/forward"]) == 1


def test_long_curves_are_thinned_to_their_means() -> None:
    points = [(float(i), float(i % 2)) for i in range(1000)]
    assert thinned(points, most=100)[:2] == [(9.0, 0.5), (19.0, 0.5)]
    assert len(thinned(points, most=100)) == 100
    assert thinned(points[:7], most=100) == points[:7]


def test_every_picture_that_has_something_to_show_is_drawn(sweep: Path) -> None:
    names = {picture.name for picture in draw_all(make_table(find_runs([sweep / "outputs"]).runs), {})}
    assert names == {"learning_curves", "nfe", "trade_offs", "memory"}

    resnets = [run for run in find_runs([sweep / "outputs"]).runs if run.record.choices["solver"] == "-"]
    assert {picture.name for picture in draw_all(make_table(resnets), {})} == {"learning_curves"}
    assert draw_all(make_table([run for run in find_runs([sweep / "outputs"]).runs if not run.completed]), {}) == []


def test_memory_is_drawn_against_steps_with_all_else_equal(sweep: Path) -> None:
    [memory] = [p for p in draw_all(make_table(find_runs([sweep / "outputs"]).runs), {}) if p.name == "memory"]
    [line] = memory.figure.axes[0].get_lines()
    assert list(line.get_xdata()) == [2, 8, 32]
    assert list(line.get_ydata()) == pytest.approx([2e-3, 8e-3, 32e-3]), "megabytes"
    assert line.get_label() == "odenet euler"


def test_what_is_below_zero_is_drawn_and_what_saves_nothing_has_no_memory(tmp_path: Path) -> None:
    """The loss of a log density is; a logarithmic axis warned, and left it out."""
    for steps in (2, 8):
        options, cost = {"solver": {"num_steps": steps}}, {"saved_bytes": 0.0, "train_seconds": 1.0}
        metrics = {"test/nll": -1.0 - steps, "eval/nll": -1.0 - steps}
        folder = write_run(tmp_path, f"{steps}", options=options, metrics=metrics, cost=cost)
        rows = [{"step": i, "epoch": i, "train/loss": -0.5 - i, "eval/nll": -1.0 - i} for i in range(3)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    drawn = {picture.name: picture.figure for picture in draw_all(make_table(find_runs([tmp_path]).runs), {})}
    assert "memory" not in drawn
    assert {axes.get_yscale() for axes in drawn["learning_curves"].axes} == {"linear"}


def test_each_task_has_pictures_of_its_own(tmp_path: Path) -> None:
    for task, metric in (("half_moons", "accuracy"), ("pendulum", "rmse")):
        for solver in ("euler", "rk4"):
            metrics = {f"test/{metric}": 0.5, f"eval/{metric}": 0.5}
            write_run(tmp_path, f"{task}-{solver}", task=task, solver=solver, metrics=metrics, rows=3)
    assert reported(".", "--plots", "drawn", cwd=tmp_path).returncode == 0
    drawn = {path.name for path in (tmp_path / "drawn").iterdir()}
    names = ("learning_curves", "nfe", "trade_offs")
    assert drawn == {f"{name}-{task}.png" for name in names for task in ("half_moons", "pendulum")}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (tmp_path / "drawn").iterdir())


def test_more_configurations_than_can_be_told_apart_are_reduced_to_the_best(tmp_path: Path) -> None:
    for i in range(20):
        metrics = {"test/accuracy": i / 20, "eval/accuracy": 0.5}
        write_run(tmp_path, f"{i}", options={"optimizer": {"lr": i + 1}}, metrics=metrics, rows=2)
    [curves, *_] = draw_all(make_table(find_runs([tmp_path]).runs), {})
    assert "The best 12 of 20 configurations." in curves.caption
    labels = {line.get_label() for line in curves.figure.axes[0].get_lines()}
    assert labels == {f"lr={i}" for i in range(9, 21)}
    looks = {(line.get_color(), line.get_linestyle()) for line in curves.figure.axes[0].get_lines()}
    assert len(looks) == 12


def test_samplers_of_one_training_are_compared_by_their_samples(tmp_path: Path) -> None:
    """Their loss is one and the same, and so is what their training has cost."""
    for steps, distance in ((4, 0.2), (8, 0.1), (16, 0.06)):
        metrics = {"test/loss": 1.4, "eval/loss": 1.3, "test/endpoint_rmse": 1 / steps, "test/sw2": distance}
        write_run(
            tmp_path, f"{steps}", options={"solver": {"num_steps": steps}}, training="abc",
            metrics=metrics | {"nfe/sample": steps},
        )  # fmt: skip
    [picture] = [p for p in draw_all(make_table(find_runs([tmp_path]).runs), {}) if p.name == "trade_offs"]
    [axes] = picture.figure.axes
    assert axes.get_xlabel() == "evaluations of the field for a batch of samples"
    assert axes.get_ylabel() == "test/sw2"


@pytest.mark.parametrize("count", [13, 60])
def test_the_legend_of_many_configurations_says_what_varies(count: int, tmp_path: Path) -> None:
    for i in range(count):
        solver = ("euler", "rk4", "dopri5")[i % 3]
        options: dict = {"network": {"width": 2 ** (i // 3 % 4)}, "optimizer": {"lr": 0.001 * (i + 1)}}
        cost = {"nfe_forward": i + 1.0, "nfe_backward": 0.0, "saved_bytes": 1e5 * (i + 1), "train_seconds": i + 1.0}
        metrics = {"test/accuracy": i / count, "eval/accuracy": 0.5}
        write_run(tmp_path, f"{i}", solver=solver, options=options, metrics=metrics, cost=cost)
    [picture] = [p for p in draw_all(make_table(find_runs([tmp_path]).runs), {}) if p.name == "trade_offs"]
    assert picture.caption.endswith(" Colour: solver; marker: network.width; not distinguished: optimizer.lr.")
    [legend] = picture.figure.legends
    words = [text.get_text() for text in legend.get_texts()]
    assert words == ["Pareto front", "dopri5", "euler", "rk4", "width 1", "width 2", "width 4", "width 8"]
    picture.figure.draw_without_rendering()
    assert picture.figure.bbox.contains(*legend.get_window_extent().min), "all of it is on the paper"
    points = {
        (line.get_color(), line.get_marker())
        for line in picture.figure.axes[0].get_lines()
        if len(line.get_xdata()) == 1
    }
    assert len(points) == 12


def test_values_too_many_for_colours_are_ranges(tmp_path: Path) -> None:
    for i in range(30):
        options: dict = {"solver": {"num_steps": i + 1}} if i % 2 else {}
        options |= {"optimizer": {"lr": 0.001 * (i + 1)}}
        write_run(tmp_path, f"{i}", solver="euler" if i % 2 else "dopri5", options=options)
    encoding = encode(by_configuration(find_runs([tmp_path]).runs))
    assert [look.label for look in encoding.legend][:2] == ["dopri5", "euler"]
    assert [look.label for look in encoding.legend][2:4] == ["num_steps 2 to 6", "num_steps 8 to 10"]
    assert encoding.legend[-1].label == "num_steps none"
    assert len(encoding.legend) <= 2 + len(MARKERS)
    shapes = {row: look.shape for row, look in encoding.looks.items()}
    assert len(set(shapes.values())) == len(encoding.legend) - 2


def test_the_page_needs_nothing_but_itself_and_its_links_open(sweep: Path) -> None:
    ended = reported("outputs", "--html", "pages/all.html", cwd=sweep)
    assert ended.returncode == 0, ended.stderr
    page = sweep / "pages" / "all.html"
    text = page.read_text(encoding="utf-8")
    sources = re.findall(r'src="([^"]*)"', text)
    assert len(sources) == 4
    for source in sources:
        kind, _, data = source.partition(";base64,")
        assert kind == "data:image/svg+xml"
        assert b"<svg" in base64.b64decode(data)
    assert not re.findall("<script[^>]*src|<link", text)
    assert "http" not in re.sub(r'src="[^"]*"', "", text)
    addresses = re.findall(r'href="([^"]*)"', text)
    assert not {" ", "#"} & set("".join(addresses))
    links = [unquote(address) for address in addresses]
    assert all((page.parent / link).exists() for link in links)
    assert {Path(link).name for link in links} >= {
        "curves.png",
        "flow_in_motion.gif",
        "error.txt",
        "record.json",
        "failed",
        "resnet",
    }
    assert "<b>failed</b>" in text


def _cannot(*_: object, **__: object) -> None:
    raise ZeroDivisionError("of the picture")


@pytest.mark.sampled(1)
@pytest.mark.parametrize("where", ["draw_memory", "_memory", "draw_curves", "encode"])
def test_a_picture_that_cannot_be_drawn_costs_itself(where: str, sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"ode_runner.report.pictures.{where}", _cannot)
    monkeypatch.setattr("ode_runner.report.pictures.MOST_CURVES", 1)  # so that encode is asked
    ended = reported("outputs", "--plots", "drawn", "--html", "all.html", cwd=sweep)
    assert ended.returncode == 0
    lost = {"draw_curves": ["learning_curves", "nfe"], "encode": ["trade_offs"]}.get(where, ["memory"])
    drawn = {path.stem for path in (sweep / "drawn").iterdir()}
    assert drawn == {"learning_curves", "nfe", "trade_offs", "memory"} - set(lost)
    reason = "could not be drawn: ZeroDivisionError: of the picture"
    written = "; the rest of the report is written."
    assert ended.stderr.splitlines() == [f"ode-report: the picture '{name}' {reason}{written}" for name in lost]
    page = (sweep / "all.html").read_text(encoding="utf-8")
    assert page.count("<img") == 4 - len(lost)
    assert page.count("ZeroDivisionError: of the picture") == len(lost)
    assert "euler" in ended.stdout, "the table"


def test_a_picture_that_cannot_be_rendered_costs_itself(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", _cannot)
    ended = reported("outputs", "--plots", "drawn", "--html", "all.html", cwd=sweep)
    assert (ended.returncode, ended.stderr.count("\n")) == (0, 4)
    assert not list((sweep / "drawn").iterdir())
    assert "<h2>Runs</h2>" in (sweep / "all.html").read_text(encoding="utf-8")


def test_errors_of_samples_have_a_curve_and_a_slope_for_each_solver(tmp_path: Path) -> None:
    """Of those with several numbers of steps; a slope of order 2, without the unstable solve, and of order 1."""
    for solver, order in (("rk4", 2), ("euler", 1)):
        for steps in (4, 8, 16):
            error = 1e9 if (solver, steps) == ("rk4", 4) else steps**-order
            metrics = {"test/endpoint_rmse": error, "nfe/sample": float(order * steps)}
            write_run(
                tmp_path, f"{solver}{steps}", solver=solver, options={"solver": {"num_steps": steps}}, metrics=metrics
            )
    write_run(tmp_path, "alone", solver="dopri5", metrics={"test/endpoint_rmse": 0.1, "nfe/sample": 4.0})
    table = make_table(find_runs([tmp_path]).runs)
    [picture] = [picture for picture in draw_all(table, {}) if picture.name == "errors"]
    labels = [text.get_text() for text in picture.figure.legends[0].get_texts()]
    assert sorted(labels) == ["euler, slope -1.0", "rk4, slope -2.0"]


def test_bigrams_have_a_curve_for_each_sampler_of_texts(tmp_path: Path) -> None:
    """One that takes as many evaluations whatever its steps has a point, and no slope."""
    for steps in (4, 8, 16):
        for solver, evaluations, apart in (("euler", steps, 1 / steps), ("rk4", 16, 0.01)):
            metrics = {"test/bigram_tv": apart, "nfe/sample": float(evaluations)}
            options = {"solver": {"num_steps": steps}}
            name = f"{solver}{steps}"
            write_run(tmp_path, name, solver=solver, options=options, metrics=metrics)
    table = make_table(find_runs([tmp_path]).runs)
    [picture] = [picture for picture in draw_all(table, {}) if picture.name == "errors"]
    labels = [text.get_text() for text in picture.figure.legends[0].get_texts()]
    assert sorted(labels) == ["euler, slope -1.0", "rk4"]


def test_lines_are_named_by_what_differs_among_them() -> None:
    """Not by what all have, nor by an option that one does without, unless nothing else tells it from another."""
    one: dict = {"solver": "ddim", "task.path": "vp", "task.clock": None}
    assert labels([one, {**one, "solver": "edm_heun", "task.clock": "rho"}]) == ["ddim", "edm_heun clock=rho"]
    assert labels([one, {**one, "task.clock": "rho"}]) == ["clock=null", "clock=rho"]
    assert labels([one, {**one, "task.path": "ve"}, one]) == ["path=vp", "path=ve", "path=vp"], "two seeds of one"
    assert labels([{"model": "odenet", "solver": "euler"}]) == ["odenet euler"], "nothing differs"
    assert labels([]) == []


def test_the_legend_of_errors_says_what_differs(tmp_path: Path) -> None:
    for solver, clock in (("euler", None), ("rk4", "rho")):
        for steps in (4, 8):
            metrics = {"test/endpoint_rmse": 1 / steps, "nfe/sample": float(steps)}
            options: dict = {"solver": {"num_steps": steps}, "task": {"clock": clock}}
            write_run(tmp_path, f"{solver}{steps}", solver=solver, options=options, metrics=metrics)
    table = make_table(find_runs([tmp_path]).runs)
    [picture] = [picture for picture in draw_all(table, {}) if picture.name == "errors"]
    told = [text.get_text() for text in picture.figure.legends[0].get_texts()]
    assert sorted(told) == ["euler, slope -1.0", "rk4 clock=rho, slope -1.0"]


def test_pictures_are_written_for_a_paper_too(sweep: Path) -> None:
    assert reported("outputs", "--plots", "pictures", "--plots-as", "pdf", cwd=sweep).returncode == 0
    files = list((sweep / "pictures").iterdir())
    assert files
    assert all(path.suffix == ".pdf" and path.read_bytes().startswith(b"%PDF") for path in files)
    assert "Add --plots FOLDER." in reported("outputs", "--plots-as", "pdf", cwd=sweep).stderr


def test_sizes_that_are_close_have_few_ticks() -> None:
    points = [Point(look=LOOK, x=x, y=y) for x, y in ((4814, 1.1), (4834, 1.0))]
    panels = {Axis(label=f"cost {i}"): points for i in range(4)}
    figure = draw_trade_offs(panels, Axis(label="error"), higher_is_better=False)
    figure.draw_without_rendering()
    for axes in figure.axes:
        low, high = axes.get_xlim()
        shown = [tick for tick in axes.get_xticklabels() if low <= tick.get_position()[0] <= high]
        boxes = [tick.get_window_extent() for tick in shown]
        assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))
