"""The observed order of convergence: the slope of an error over a sweep of step sizes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ode_runner.report.rows import Row, SweptOrder, plain

ENDING = "/order"  # suffix of a column: test/rmse/order is the order of test/rmse
STEPS = ("solver.num_steps", "solver.step_size")  # rows of a sweep differ only in these
ERRORS = (  # metrics that converge to zero as the grid gets finer
    "test/rmse",
    "test/global_error",
    "test/strong_error",
    "test/weak_error",
    "test/tv",
    "test/endpoint_rmse",
)
ROUNDING = {"fp64": 1e-12, "fp32": 1e-5}  # smaller errors are dominated by rounding
NEAR_THE_FLOOR = 2.0  # errors of less than so many floors are dominated by sampling, if a metric has a floor


@dataclass(frozen=True, kw_only=True)
class _Point:
    """The error of a row, and its steps (see `_steps`)."""

    row: Row
    steps: float
    error: float


def with_orders(rows: Sequence[Row]) -> list[Row]:
    """The rows, each with the order of every error over the sweep that the row belongs to."""
    orders: dict[int, dict[str, SweptOrder]] = {id(row): {} for row in rows}
    for sweep in _sweeps(rows):
        for error in ERRORS:
            points = [point for row in sweep if (point := _point(row, error)) is not None]
            if (found := _fitted(points)) is not None:
                for row in sweep:
                    orders[id(row)][error + ENDING] = found
    return [replace(row, orders=orders[id(row)]) for row in rows]


def legend(rows: Sequence[Row], names: Sequence[str]) -> str:
    """What the columns of orders mean; "" if there are none."""
    shown = [name.removesuffix(ENDING) for name in names if name.endswith(ENDING)]
    if not any(row.orders for row in rows) or not shown:
        return ""
    return (
        f"order: how fast {' and '.join(shown)} falls with the step, as a slope of logarithms, and over which "
        "numbers of steps it is fitted"
    )


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """The slope of the least-squares line through the logarithms; NaN if there is none."""
    if len(set(x)) < 2 or min(*x, *y) <= 0:
        return math.nan
    across, up = [math.log(value) for value in x], [math.log(value) for value in y]
    mean = math.fsum(across) / len(x)
    spread = math.fsum((value - mean) ** 2 for value in across)
    return math.fsum((a - mean) * b for a, b in zip(across, up, strict=True)) / spread


def _sweeps(rows: Sequence[Row]) -> list[list[Row]]:
    """Groups of rows that differ only in their steps. Numbers of steps and step sizes have no common scale."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        others = {name: value for name, value in row.columns.items() if name not in STEPS}
        counted = isinstance(row.columns.get(STEPS[0]), int)
        groups.setdefault(f"{row.task} {counted} {others!r}", []).append(row)
    return list(groups.values())


def _point(row: Row, error: str) -> _Point | None:
    """None if the row has no such error or no fixed steps, or if its error is dominated by rounding or sampling."""
    statistic, steps = row.statistic(error), _steps(row)
    if statistic is None or steps is None:
        return None
    floor = row.statistic(f"{error}_floor")
    precision = str(row.runs[0].options.get("trainer.precision"))
    least = max(ROUNDING.get(precision, ROUNDING["fp32"]), NEAR_THE_FLOOR * floor.mean if floor else 0.0)
    return _Point(row=row, steps=steps, error=statistic.mean) if statistic.mean > least else None


def _steps(row: Row) -> float | None:
    """The number of steps, or the inverse of the step size; None if the row has no column for either."""
    count, size = (row.columns.get(name) for name in STEPS)
    if isinstance(count, int):
        return float(count)
    return 1 / size if isinstance(size, int | float) and size > 0 else None


def _fitted(points: Sequence[_Point]) -> SweptOrder | None:
    if len({point.steps for point in points}) < 2:
        return None
    order = -slope([point.steps for point in points], [point.error for point in points])
    first, last = (chosen(point.steps for point in points) for chosen in (min, max))
    return SweptOrder(slope=order, over=f"{plain(first)} to {plain(last)}")
