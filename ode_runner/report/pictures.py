"""Which pictures a table calls for, drawn from the runs behind it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from ode_runner.errors import RefusedInput
from ode_runner.plots.comparison import LINES, Axis, Curve, Look, Point, draw_curves, draw_memory, draw_trade_offs
from ode_runner.plots.style import CLASSES
from ode_runner.report.curves import curves_of
from ode_runner.report.encoding import encode
from ode_runner.report.quantities import direction, objective
from ode_runner.report.rows import Row, Statistic, label
from ode_runner.report.table import Table

MOST_CURVES = 12  # more cannot be told apart
NUM_STEPS = "solver.num_steps"
WIDE = 20  # cost axes that span more than this factor are logarithmic


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure, its file name without ending, and what it shows."""

    name: str
    caption: str
    figure: Figure


def draw_all(table: Table) -> list[Picture]:
    """Every picture that the runs of the table have something to show in, task by task."""
    tasks = list(dict.fromkeys(row.task for row in table.rows))
    pictures = []
    for task in tasks:
        rows = [row for row in table.rows if row.task == task]
        of_task = f" ({task})" if len(tasks) > 1 else ""
        ending = f"-{task}" if len(tasks) > 1 else ""
        for name, caption, figure in _of_one_task(rows):
            pictures.append(Picture(name=name + ending, caption=caption + of_task, figure=figure))
    return pictures


def write_pictures(pictures: Iterable[Picture], folder: Path) -> None:
    """As PNG files.

    Raises:
        RefusedInput: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for picture in pictures:
            picture.figure.savefig(folder / f"{picture.name}.png")
    except OSError as error:
        raise RefusedInput(f"cannot write pictures to {folder} ({error.strerror}).") from error


def _of_one_task(rows: Sequence[Row]) -> Iterable[tuple[str, str, Figure]]:
    looks = _looks(rows)
    quality = _quality(rows)
    shown = _best_rows(rows, quality)
    some = f" The best {len(shown)} of {len(rows)} configurations." if len(shown) < len(rows) else ""
    validation = f"eval/{quality.removeprefix('test/')}" if quality else ""
    curves = curves_of(shown, looks, ["train/loss", validation, "nfe/forward", "nfe/backward"])
    learning = {
        "Training loss": (Axis(label="", log=True), curves["train/loss"]),
        f"Validation {validation.removeprefix('eval/')}": (_axis(validation, ""), curves[validation]),
    }
    learning = {title: panel for title, panel in learning.items() if panel[1]}
    if learning:
        caption = f"Learning curves: mean over seeds, and the band from the least to the most of them.{some}"
        yield "learning_curves", caption, draw_curves(learning)
    evaluations = {
        "NFE per step, forward": (Axis(label="", from_zero=True), curves["nfe/forward"]),
        "NFE per step, backward": (Axis(label="", from_zero=True), _not_all_zero(curves["nfe/backward"])),
    }
    evaluations = {title: panel for title, panel in evaluations.items() if panel[1]}
    if evaluations:
        yield "nfe", f"Evaluations of the field in a training step, against the epoch.{some}", draw_curves(evaluations)
    many = encode(rows) if len(rows) > MOST_CURVES else None
    if quality and (panels := _trade_offs(rows, many.looks if many else looks, quality)):
        higher, legend = direction(quality) > 0, many.legend if many else ()
        caption = f"What quality costs. Bars: standard deviation over seeds. {many.caption if many else ''}".rstrip()
        yield (
            "trade_offs",
            caption,
            draw_trade_offs(panels, _axis(quality, quality), higher_is_better=higher, legend=legend),
        )
    if memory := _memory(rows, looks):
        yield "memory", "Memory for the backward pass against the number of solver steps.", draw_memory(memory)


def _looks(rows: Sequence[Row]) -> dict[str, Look]:
    """By label: the first column that differs decides on the colour, the others on the line, if there are enough."""
    names = [name for name in rows[0].columns if len({repr(row.columns[name]) for row in rows}) > 1]
    keys = [[repr(row.columns[name]) for name in names] for row in rows]
    colours = list(dict.fromkeys(str(key[:1]) for key in keys))
    shapes = list(dict.fromkeys(str(key[1:]) for key in keys))
    if len(colours) > len(CLASSES) or len(shapes) > len(LINES):
        return {row.label: Look(label=row.label, colour=i, shape=i // len(CLASSES)) for i, row in enumerate(rows)}
    return {
        row.label: Look(label=row.label, colour=colours.index(str(key[:1])), shape=shapes.index(str(key[1:])))
        for row, key in zip(rows, keys, strict=True)
    }


def _quality(rows: Sequence[Row]) -> str | None:
    """The objective, or else the first test metric of which it is known which way is better."""
    runs = [run for row in rows for run in row.completed]
    names = [objective(runs), *(name for run in runs for name in run.measurements if name.startswith("test/"))]
    return next((name for name in names if name and direction(name)), None)


def _best_rows(rows: Sequence[Row], quality: str | None) -> list[Row]:
    if len(rows) <= MOST_CURVES or quality is None:
        return list(rows[:MOST_CURVES])
    measured = [row for row in rows if row.statistic(quality) is not None]
    measured.sort(key=lambda row: -direction(quality) * _mean(row.statistic(quality)))
    chosen = measured[:MOST_CURVES]
    return [row for row in rows if row in chosen]


def _trade_offs(rows: Sequence[Row], looks: dict[str, Look], quality: str) -> dict[Axis, list[Point]]:
    """Quality against evaluations, time and memory, where there are at least two to compare."""
    costs = {
        "NFE per training step, forward + backward": (["cost/nfe_forward", "cost/nfe_backward"], 1.0),
        "training [s]": (["cost/train_seconds"], 1.0),
        "saved for the backward pass [MB]": (["cost/saved_bytes"], 1e-6),
    }
    panels: dict[Axis, list[Point]] = {}
    for words, (names, factor) in costs.items():
        points = [point for row in rows if (point := _point(row, looks[row.label], names, factor, quality)) is not None]
        if len(points) > 1:
            least, most = min(point.x for point in points), max(point.x for point in points)
            panels[Axis(label=words, log=least > 0 and most / least > WIDE)] = points
    return panels


def _point(row: Row, look: Look, costs: Sequence[str], factor: float, quality: str) -> Point | None:
    sums = [
        factor * sum(run.measurements[name] for name in costs)
        for run in row.completed
        if all(name in run.measurements for name in costs)
    ]
    x, y = Statistic.of(sums), row.statistic(quality)
    if x is None or y is None:
        return None
    return Point(look=look, x=x.mean, y=y.mean, x_deviation=x.deviation or 0.0, y_deviation=y.deviation or 0.0)


def _memory(rows: Sequence[Row], looks: dict[str, Look]) -> list[Curve]:
    """Saved bytes of rows that are alike but for the number of steps."""
    groups: dict[str, dict[float, tuple[Row, float]]] = {}
    for row in rows:
        steps, saved = row.runs[0].options.get(NUM_STEPS), row.statistic("cost/saved_bytes")
        if isinstance(steps, int) and saved is not None:
            key = label({name: value for name, value in row.columns.items() if name != NUM_STEPS})
            groups.setdefault(key, {})[steps] = (row, saved.mean)
    curves = []
    several = [(key, group) for key, group in groups.items() if len(group) > 1]
    for colour, (key, by_steps) in enumerate(several[:MOST_CURVES]):
        x = sorted(by_steps)
        megabytes = [1e-6 * by_steps[steps][1] for steps in x]
        look = Look(label=key or "saved bytes", colour=colour, shape=colour)
        curves.append(Curve(look=look, x=x, mean=megabytes, least=megabytes, most=megabytes))
    return curves


def _axis(name: str, words: str) -> Axis:
    is_accuracy = name.endswith("accuracy")
    return Axis(label=words, percent=is_accuracy, log=not is_accuracy and direction(name) < 0)


def _not_all_zero(curves: Sequence[Curve]) -> list[Curve]:
    return [curve for curve in curves if any(curve.mean)]


def _mean(statistic: Statistic | None) -> float:
    assert statistic is not None
    return statistic.mean
