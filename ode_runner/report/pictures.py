"""Draws the pictures of a table from its runs."""

import math
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace
from functools import cached_property
from typing import Any

from ode_runner.plots.comparison import (
    LINES,
    Axis,
    Curve,
    Look,
    Point,
    draw_curves,
    draw_error_against_evaluations,
    draw_memory,
    draw_trade_offs,
)
from ode_runner.plots.figure_types import Figure
from ode_runner.plots.style import CLASSES
from ode_runner.recording.record import UNUSED
from ode_runner.report.curves import curves_of
from ode_runner.report.orders import slope, with_errors_of_steps
from ode_runner.report.picture_files import Failures, Picture, noting_failure
from ode_runner.report.quantities import PARAMETERS, direction, quality
from ode_runner.report.rows import Row, Statistic, labels
from ode_runner.report.table import Table
from ode_runner.report.visual_encoding import encode

MOST_CURVES = 12  # more cannot be distinguished
NUM_STEPS, GUIDANCE = "solver.num_steps", "model.guidance"
GUIDED = ("test/class_accuracy", "test/recall", "test/frechet")  # what guidance improves, and what it costs
FINENESS = (NUM_STEPS, "solver.step_size", "tolerance", "solver.rtol", "solver.atol")  # options of a solve's accuracy
SLOPED = 3  # points from which the slope is computed
WIDE = 20  # cost axes that span more than this factor are logarithmic


def draw_all(table: Table, undrawn: Failures) -> list[Picture]:
    """Every picture for which the runs of the table have data, task by task; failures go into `undrawn`."""
    tasks = list(dict.fromkeys(row.task for row in table.rows))
    pictures = []
    for task in tasks:
        shown = _OneTask([row for row in table.rows if row.task == task])
        of_task, ending = (f" ({task})", f"-{task}") if len(tasks) > 1 else ("", "")
        for name, draw in shown.pictures().items():
            with noting_failure(name + ending, undrawn):
                if drawn := draw():
                    caption, figure = drawn
                    pictures.append(Picture(name=name + ending, caption=caption + of_task, figure=figure))
    return pictures


class _OneTask:
    """The rows of one task, and the pictures of them."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows

    def pictures(self) -> dict[str, Callable[[], tuple[str, Figure] | None]]:
        """By name of a picture, a function that returns caption and figure, or None if there is nothing to show."""
        return {
            "learning_curves": self._learning_curves,
            "nfe": self._evaluations,
            "trade_offs": self._trade_offs,
            "memory": self._memory,
            "errors": self._errors,
            "guidance": self._guidance,
        }

    @cached_property
    def quality(self) -> str | None:
        return quality([run for row in self.rows for run in row.completed])

    @cached_property
    def validation(self) -> str:
        return f"eval/{self.quality.removeprefix('test/')}" if self.quality else ""

    @cached_property
    def looks(self) -> dict[str, Look]:
        return _looks(self.rows)

    @cached_property
    def shown(self) -> list[Row]:
        return _best_rows(self.rows, self.quality)

    @cached_property
    def curves(self) -> dict[str, list[Curve]]:
        return curves_of(self.shown, self.looks, ["train/loss", self.validation, "nfe/forward", "nfe/backward"])

    @property
    def some(self) -> str:
        few = len(self.shown) < len(self.rows)
        return f" The best {len(self.shown)} of {len(self.rows)} configurations." if few else ""

    def _learning_curves(self) -> tuple[str, Figure] | None:
        of_validation = f"Validation {self.validation.removeprefix('eval/')}"
        panels = {
            "Training loss": (Axis(label="", log=True), self.curves["train/loss"]),
            of_validation: (_axis(self.validation, ""), self.curves[self.validation]),
        }
        caption = f"Learning curves: mean over seeds, and the band from the least to the most of them.{self.some}"
        return _drawn_curves(caption, panels)

    def _evaluations(self) -> tuple[str, Figure] | None:
        panels = {
            "NFE per step, forward": (Axis(label="", from_zero=True), self.curves["nfe/forward"]),
            "NFE per step, backward": (Axis(label="", from_zero=True), _not_all_zero(self.curves["nfe/backward"])),
        }
        return _drawn_curves(f"Evaluations of the field in a training step, against the epoch.{self.some}", panels)

    def _trade_offs(self) -> tuple[str, Figure] | None:
        many = encode(self.rows) if len(self.rows) > MOST_CURVES else None
        looks, legend, note = (many.looks, many.legend, many.caption) if many else (self.looks, (), "")
        if not self.quality or not (panels := _trade_offs(self.rows, looks, self.quality)):
            return None
        caption = f"Quality against cost. Bars: standard deviation over seeds. {note}".rstrip()
        higher = direction(self.quality) > 0
        quality = _axis(self.quality, self.quality)
        return caption, draw_trade_offs(panels, quality, higher_is_better=higher, legend=legend)

    def _memory(self) -> tuple[str, Figure] | None:
        if not (memory := _memory(self.rows)):
            return None
        return "Memory for the backward pass against the number of solver steps.", draw_memory(memory)

    def _errors(self) -> tuple[str, Figure] | None:
        alone = [row for row in self.rows if row.runs[0].options["gradient"] == UNUSED]  # no learned error
        for rows, evaluations, error in (
            (self.rows, "nfe/sample", "test/endpoint_rmse"),
            (self.rows, "nfe/sample", "test/bigram_tv"),
            (alone, "nfe/eval", "test/rmse"),
        ):
            if curves := _errors_against(rows, evaluations, error):
                caption = (
                    f"{error} against evaluations of the field, and the slope of each curve's last {SLOPED} points "
                    "that rounding, sampling or instability do not dominate."
                )
                return caption, draw_error_against_evaluations(curves, error=error, evaluations=evaluations)
        return None

    def _guidance(self) -> tuple[str, Figure] | None:
        panels = {name: (_axis(name, ""), _against(self.rows, GUIDANCE, name)) for name in GUIDED}
        drawn = {name.removeprefix("test/").replace("_", " "): panel for name, panel in panels.items() if panel[1]}
        if not drawn:
            return None
        caption = "The effect of guidance: more samples of the right class, less of the variety of the data."
        return caption, draw_curves(drawn, x=GUIDANCE)


def _drawn_curves(caption: str, panels: Mapping[str, tuple[Axis, list[Curve]]]) -> tuple[str, Figure] | None:
    """A picture of the panels that have curves; None if none has."""
    drawn = {title: panel for title, panel in panels.items() if panel[1]}
    return (caption, draw_curves(drawn)) if drawn else None


def _looks(rows: Sequence[Row]) -> dict[str, Look]:
    """Looks by label: the first differing column sets the colour, the others the line style, if there are enough."""
    names = [name for name in rows[0].columns if len({repr(row.columns[name]) for row in rows}) > 1]
    keys = [[repr(row.columns[name]) for name in names] for row in rows]
    colours = list(dict.fromkeys(str(key[:1]) for key in keys))
    shapes = list(dict.fromkeys(str(key[1:]) for key in keys))
    said = [name or row.label for name, row in zip(labels([row.columns for row in rows]), rows, strict=True)]
    if len(colours) > len(CLASSES) or len(shapes) > len(LINES):
        numbered = enumerate(zip(rows, said, strict=True))
        return {row.label: Look(label=name, colour=i, shape=i // len(CLASSES)) for i, (row, name) in numbered}
    return {
        row.label: Look(label=name, colour=colours.index(str(key[:1])), shape=shapes.index(str(key[1:])))
        for row, key, name in zip(rows, keys, said, strict=True)
    }


def _best_rows(rows: Sequence[Row], quality: str | None) -> list[Row]:
    if len(rows) <= MOST_CURVES or quality is None:
        return list(rows[:MOST_CURVES])
    measured = [row for row in rows if row.ranked(quality) is not None]
    measured.sort(key=lambda row: -direction(quality) * _mean(row.ranked(quality)))
    chosen = measured[:MOST_CURVES]
    return [row for row in rows if row in chosen]


def _trade_offs(rows: Sequence[Row], looks: dict[str, Look], quality: str) -> dict[Axis, list[Point]]:
    """Quality against parameters (if they differ), evaluations, time and memory, for costs that two rows have."""
    sizes = {run.measurements.get(PARAMETERS) for row in rows for run in row.completed}
    costs = ({"parameters": ([PARAMETERS], 1.0)} if len(sizes) > 1 else {}) | {
        "evaluations of the field for a batch of samples": (["nfe/sample"], 1.0),
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
    telling = {axis: points for axis, points in panels.items() if len({point.x for point in points}) > 1}
    return telling or panels  # a cost that is equal for all rows distinguishes none


def _point(row: Row, look: Look, costs: Sequence[str], factor: float, quality: str) -> Point | None:
    sums = [
        factor * sum(run.measurements[name] for name in costs)
        for run in row.completed
        if all(name in run.measurements for name in costs)
    ]
    x, y = Statistic.of(sums), row.ranked(quality)
    if x is None or y is None:
        return None
    return Point(look=look, x=x.mean, y=y.mean, x_deviation=x.deviation or 0.0, y_deviation=y.deviation or 0.0)


def _memory(rows: Sequence[Row]) -> list[Curve]:
    """Saved bytes against the number of steps."""

    def point(row: Row) -> tuple[float, float] | None:
        steps, saved = row.runs[0].options.get(NUM_STEPS), row.statistic("cost/saved_bytes")
        return (steps, 1e-6 * saved.mean) if isinstance(steps, int) and saved is not None and saved.mean > 0 else None

    return _curves_through(rows, point, but_for=(NUM_STEPS,))[:MOST_CURVES]


def _errors_against(rows: Sequence[Row], evaluations: str, error: str) -> list[Curve]:
    """Errors against evaluations, over rows that differ only in the accuracy of the solve."""

    def point(row: Row) -> tuple[float, float] | None:
        cost, off = row.statistic(evaluations), row.statistic(error)
        return (cost.mean, off.mean) if cost is not None and off is not None and off.mean > 0 else None

    telling = {point(row) for row in with_errors_of_steps(rows, error)}
    return [_with_slope(curve, telling) for curve in _curves_through(rows, point, but_for=FINENESS)]


def _with_slope(curve: Curve, telling: Set[tuple[float, float] | None]) -> Curve:
    """The curve, named with the slope through the last of its points that are `telling`."""
    points = [point for point in zip(curve.x, curve.mean, strict=True) if point in telling][-SLOPED:]
    fitted = slope([x for x, _ in points], [y for _, y in points])
    if math.isnan(fitted):  # for example if all points have the same number of evaluations
        return curve
    named = f"{curve.look.label or 'error'}, slope {fitted:.1f}"
    return replace(curve, look=replace(curve.look, label=named))


def _against(rows: Sequence[Row], option: str, metric: str) -> list[Curve]:
    """A metric against an option that is a number."""

    def point(row: Row) -> tuple[float, float] | None:
        value, found = row.runs[0].options.get(option), row.statistic(metric)
        return (value, found.mean) if isinstance(value, int | float) and found is not None else None

    return _curves_through(rows, point, but_for=(option,))


def _curves_through(
    rows: Sequence[Row], point: Callable[[Row], tuple[float, float] | None], *, but_for: Sequence[str]
) -> list[Curve]:
    """A curve through the points of rows that are equal except for some columns, if there are several such rows."""
    groups: dict[str, tuple[Mapping[str, Any], list[tuple[float, float]]]] = {}
    for row in rows:
        columns = {name: value for name, value in row.columns.items() if name not in but_for}
        if (found := point(row)) is not None:
            groups.setdefault(repr(columns), (columns, []))[1].append(found)
    several = [(columns, sorted(points)) for columns, points in groups.values() if len(points) > 1]
    curves = []
    for place, (name, (_, points)) in enumerate(zip(labels([columns for columns, _ in several]), several, strict=True)):
        x, y = [x for x, _ in points], [y for _, y in points]
        look = Look(label=name, colour=place, shape=place + place // len(CLASSES))  # no two curves have the same pair
        curves.append(Curve(look=look, x=x, mean=y, least=y, most=y))
    return curves


def _axis(name: str, words: str) -> Axis:
    is_accuracy = name.endswith("accuracy")
    return Axis(label=words, percent=is_accuracy, log=not is_accuracy and direction(name) < 0)


def _not_all_zero(curves: Sequence[Curve]) -> list[Curve]:
    return [curve for curve in curves if any(curve.mean)]


def _mean(statistic: Statistic | None) -> float:
    assert statistic is not None
    return statistic.mean
