"""The observed order of convergence: the slope of an error over a sweep of step sizes."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

from ode_runner.report.quantities import FLOOR, SCALE
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
ROUNDING = {"fp64": 1e-12, "fp32": 1e-5}  # smaller errors, relative to the solution, are dominated by rounding
LARGE = 0.3  # larger errors, relative to the solution, do not yet fall with the order of the method
NEAR_THE_FLOOR = 2.0  # errors of less than so many floors are dominated by sampling, if a metric has a floor
FASTEST = 10.0  # of a method's order: errors that change faster with the step are those of unstable solves
JUMP = 10.0  # a smaller factor between two errors may be chance, however close their steps are


def with_orders(rows: Sequence[Row]) -> list[Row]:
    """The rows, each with the order of every error over the sweep that the row belongs to."""
    orders: dict[int, dict[str, SweptOrder]] = {id(row): {} for row in rows}
    for sweep in _sweeps(rows):
        for error in ERRORS:
            if (found := _fitted(with_errors_of_steps(sweep, error), error)) is not None:
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


def with_errors_of_steps(rows: Sequence[Row], error: str) -> list[Row]:
    """The rows whose error is made by the length of their steps: not by rounding or sampling, nor by instability."""
    return [row for sweep in _sweeps(rows) for row in _stable([row for row in sweep if _is_clear(row, error)], error)]


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


def _is_clear(row: Row, error: str) -> bool:
    """Whether the row's error is above rounding and sampling, and small beside the solution if its size is known."""
    statistic, floor, scale = (row.statistic(name) for name in (error, error + FLOOR, error + SCALE))
    if statistic is None:
        return False
    precision = str(row.runs[0].options.get("trainer.precision"))
    rounding = ROUNDING.get(precision, ROUNDING["fp32"]) * (scale.mean if scale else 1.0)
    least = max(rounding, NEAR_THE_FLOOR * floor.mean if floor else 0.0)
    return least < statistic.mean < (LARGE * scale.mean if scale else math.inf)


def _stable(rows: Sequence[Row], error: str) -> list[Row]:
    """The rows of a sweep without those whose steps are too long for a stable solve."""
    points = _points(rows, error)
    coarse = max((pair[0][0] for pair in itertools.pairwise(points) if _is_jump(*pair)), default=0.0)
    return [row for row in rows if (steps := _steps(row)) is None or steps > coarse]


def _is_jump(coarse: tuple[float, float], fine: tuple[float, float]) -> bool:
    """Whether the errors of two numbers of steps differ by more than an order could explain."""
    (few, before), (many, after) = coarse, fine
    return abs(math.log(after) - math.log(before)) > max(math.log(JUMP), FASTEST * math.log(many / few))


def _points(rows: Sequence[Row], error: str) -> list[tuple[float, float]]:
    """Steps (see `_steps`) and error of each row that has both, by increasing steps."""
    found = [(_steps(row), row.statistic(error)) for row in rows]
    return sorted((steps, off.mean) for steps, off in found if steps is not None and off is not None)


def _steps(row: Row) -> float | None:
    """The number of steps, or the inverse of the step size; None if the row has no column for either."""
    count, size = (row.columns.get(name) for name in STEPS)
    if isinstance(count, int):
        return float(count)
    return 1 / size if isinstance(size, int | float) and size > 0 else None


def _fitted(rows: Sequence[Row], error: str) -> SweptOrder | None:
    points = _points(rows, error)
    steps = [steps for steps, _ in points]
    if len(set(steps)) < 2:
        return None
    order = -slope(steps, [off for _, off in points])
    return SweptOrder(slope=order, over=f"{plain(steps[0])} to {plain(steps[-1])}")
