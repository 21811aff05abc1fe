"""The curves of all runs as data, from which the page's script draws interactive curves."""

import json
import math
from collections.abc import Sequence
from typing import Any

from ode_runner.plots.style import CLASSES
from ode_runner.report.curves import logged, thinned
from ode_runner.report.page_runs import shown_options
from ode_runner.report.quantities import direction, objective
from ode_runner.report.rows import labels, value_of
from ode_runner.report.runs import Run

OF_ANY_MODEL = ("train/loss", "nfe/forward", "nfe/backward")
MOST_POINTS = 150_000  # in a page, which then has a few megabytes
LEAST, MOST = 20, 200  # points of a curve
DIGITS = 4


def curve_data(runs: Sequence[Run]) -> str | None:
    """JSON that is safe in a script element: names of the runs, colours, and for each scalar the curves of the runs.

    None if no run has logged anything.
    """
    candidates = _candidates(runs)
    points = [logged(run, candidates) for run in runs]
    names = [name for name in candidates if any(value for curves in points for _, value in curves[name])]
    count = sum(bool(curves[name]) for curves in points for name in names)
    if not count:
        return None
    most = max(LEAST, min(MOST, MOST_POINTS // count))
    options = shown_options(runs)
    data = {
        "runs": _named(runs, options),
        "colours": CLASSES,
        "colourable": 1 + len(options) + 2,  # columns that may set the colour, up to status
        "scalars": [_scalar(name, [curves[name] for curves in points], most=most) for name in names],
    }
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _candidates(runs: Sequence[Run]) -> list[str]:
    """The objective on the validation split, then what any model logs."""
    shared = objective(runs)
    measured = {name for run in runs for name in run.measurements if name.startswith("eval/")}
    validation = [shared.replace("test/", "eval/", 1)] if shared else sorted(measured)
    return [*validation, *OF_ANY_MODEL]


def _scalar(name: str, curves: Sequence[Sequence[tuple[float, float]]], *, most: int) -> dict[str, Any]:
    finite = [[point for point in curve if all(map(math.isfinite, point))] for curve in curves]
    drawn = {row: thinned(curve, most) for row, curve in enumerate(finite) if curve}
    return {
        "name": name,
        "log": direction(name) < 0 and not name.startswith("nfe/"),
        "curves": [{"row": row, "x": [_rounded(x) for x, _ in curve], "y": [_rounded(y) for _, y in curve]}
                   for row, curve in drawn.items()],
    }  # fmt: skip


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _named(runs: Sequence[Run], options: Sequence[str]) -> list[str]:
    """Names of the runs: what differs among them, and the seed."""
    said = labels([{name: value_of(run, name) for name in options} for run in runs])
    return [f"{name} seed={run.record.seed}".strip() for name, run in zip(said, runs, strict=True)]
