"""Groups of rows with equal cost: with equal parameters, and with equal evaluations, the best first.

Among equal parameters, more evaluations look free; among equal evaluations, more layers do. Only both comparisons
together show what a scheme gains.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ode_runner.recording.record import UNUSED
from ode_runner.report.quantities import PARAMETERS, direction
from ode_runner.report.rows import Row, plain
from ode_runner.report.same_data import data_groups
from ode_runner.report.table import Column, Table

EVALUATIONS = "cost/nfe_forward"
ALIKE = 1.01  # largest ratio of parameter counts that are taken as equal: a scheme may have a few weights of its own
IN_WORDS = {PARAMETERS: "equal parameters (within 1%)", EVALUATIONS: "equal evaluations (nfe_forward)"}


@dataclass(frozen=True, kw_only=True)
class Matching:
    """Groups of rows in which one quantity is equal, in increasing order of the quantity."""

    title: str
    entries: str  # a description of the entries
    groups: Mapping[str, Sequence[str]]  # by value of the quantity: entries of choices and result, the best first


def matchings(table: Table) -> Sequence[Matching]:
    """Both matchings; none if one of them has nothing to compare, or rows are of different data."""
    metric = _first_metric(table)
    if metric is None or not direction(metric.name) or len({*data_groups(table.rows)}) != 1:
        return []
    found = [_matching(table, metric, *pair) for pair in ((PARAMETERS, EVALUATIONS), (EVALUATIONS, PARAMETERS))]
    return found if all(matching.groups for matching in found) else []


def _first_metric(table: Table) -> Column | None:
    """The first metric in which rows differ; if there is none (all at 0 %, for example), the first metric."""
    metrics = [column for column in table.columns if column.is_metric]
    different = (column for column in metrics if len({row.statistic(column.name) for row in table.rows}) > 1)
    return next(different, metrics[0] if metrics else None)


def _matching(table: Table, metric: Column, equal: str, other: str) -> Matching:
    names = [name for name in table.rows[0].columns if name != "task"]
    place, sign = table.columns.index(metric), direction(metric.name)
    said = {id(row): cells[place].text for row, cells in zip(table.rows, table.cells, strict=True)}
    groups = {}
    measured = [row for row in table.rows if all(row.statistic(name) for name in (equal, other, metric.name))]
    for rows in _alike(measured, equal):
        if len({_mean(row, other) for row in rows}) > 1:
            value = _mean(rows[0], equal)  # the least of the group
            rows.sort(key=lambda row: -sign * _mean(row, metric.name))
            groups[f"{value:,.4g}" if value < 1000 else f"{value:,.0f}"] = [
                f"{_choices(row, names)}: {said[id(row)]}" for row in rows
            ]
    unit = f" [{metric.unit}]" if metric.unit else ""
    return Matching(title=f"at {IN_WORDS[equal]}", entries=f"{', '.join(names)}, {metric.name}{unit}", groups=groups)


def _alike(rows: Sequence[Row], name: str) -> Sequence[list[Row]]:
    """Groups of rows with an equal number of this name, in increasing order."""
    groups: list[list[Row]] = []
    for row in sorted(rows, key=lambda row: _mean(row, name)):
        if groups and _mean(row, name) <= _mean(groups[-1][0], name) * (ALIKE if name == PARAMETERS else 1):
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


def _choices(row: Row, names: Sequence[str]) -> str:
    return " ".join(plain(row.columns[name]) for name in names if row.columns[name] not in (None, UNUSED))


def _mean(row: Row, name: str) -> float:
    statistic = row.statistic(name)
    assert statistic is not None
    return statistic.mean
