"""Curves over epochs, with one curve for all seeds of a configuration."""

import math
from collections.abc import Mapping, Sequence

from ode_runner.plots.comparison import Curve, Look
from ode_runner.recording.record import UNUSED
from ode_runner.report.rows import Row
from ode_runner.report.runs import Run

MOST_POINTS = 200  # of a curve; more are averaged, which reduces noise and the size of a page


def curves_of(rows: Sequence[Row], looks: Mapping[str, Look], names: Sequence[str]) -> dict[str, list[Curve]]:
    """By scalar, a curve for each row that has logged it. Each metrics.jsonl is read once."""
    curves: dict[str, list[Curve]] = {name: [] for name in names}
    for row in rows:
        points = [logged(run, names) for run in row.completed]
        for name in names:
            curve = _together([thinned(run[name]) for run in points], looks[row.label])
            if curve is not None:
                curves[name].append(curve)
    return curves


def logged(run: Run, names: Sequence[str]) -> dict[str, list[tuple[float, float]]]:
    """(epoch, value) of the scalars; evaluations of a model that makes no solves are left out."""
    points: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    solves = run.options["solver"] != UNUSED
    for row in run.rows():
        for name in names:
            value, epoch = row.get(name), row.get("epoch")
            if isinstance(value, int | float) and epoch is not None and (solves or not name.startswith("nfe/")):
                points[name].append((epoch, float(value)))
    return points


def thinned(points: Sequence[tuple[float, float]], most: int = MOST_POINTS) -> list[tuple[float, float]]:
    """The points, with neighbours averaged so that at most `most` are left."""
    size = -(-len(points) // most) or 1
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(group[-1][0], math.fsum(value for _, value in group) / len(group)) for group in groups]


def _together(seeds: Sequence[Sequence[tuple[float, float]]], look: Look) -> Curve | None:
    by_epoch: dict[float, list[float]] = {}
    for points in seeds:
        for epoch, value in points:
            by_epoch.setdefault(epoch, []).append(value)
    if not by_epoch:
        return None
    x = sorted(by_epoch)
    values = [by_epoch[epoch] for epoch in x]
    return Curve(
        look=look,
        x=x,
        mean=[math.fsum(seeds) / len(seeds) for seeds in values],
        least=[min(seeds) for seeds in values],
        most=[max(seeds) for seeds in values],
    )
