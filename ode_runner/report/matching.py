"""Groups of rows with equal cost: with equal parameters, and with equal evaluations, the best first.

Among equal parameters, more evaluations look free; among equal evaluations, more layers do. Only both comparisons
together show what a scheme gains.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

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

    @property
    def heading(self) -> str:
        return f"{self.title}: {self.entries}; the best first"

    @property
    def lines(self) -> list[str]:
        """The heading, and a line for each group."""
        width = max(map(len, self.groups))
        return [self.heading, *(f"  {value.rjust(width)}   {' · '.join(rows)}" for value, rows in self.groups.items())]


def matchings(table: Table) -> Sequence[Matching]:
    """Both matchings; none unless rows alike in one quantity differ in the other, and all rows are of the same data."""
    metric = _first_metric(table)
    if metric is None or not direction(metric.name) or len({*data_groups(table.rows)}) != 1:
        return []
    measured = [row for row in table.rows if row.ranked(metric.name) and all(row.statistic(name) for name in IN_WORDS)]
    alike = {equal: [rows for rows in _alike(measured, equal) if len(rows) > 1] for equal in IN_WORDS}
    if not all(_differ(alike[equal], other) for equal, other in permutations(IN_WORDS)):
        return []
    return [_matching(table, metric, equal, groups) for equal, groups in alike.items()]


def _differ(groups: Sequence[Sequence[Row]], name: str) -> bool:
    """Whether the rows of some group differ in a quantity."""
    return any(len(_alike(rows, name)) > 1 for rows in groups)


def _first_metric(table: Table) -> Column | None:
    """The first metric in which rows differ; if there is none (all at 0 %, for example), the first metric."""
    metrics = [column for column in table.columns if column.is_metric]
    different = (column for column in metrics if len({row.statistic(column.name) for row in table.rows}) > 1)
    return next(different, metrics[0] if metrics else None)


def _matching(table: Table, metric: Column, equal: str, alike: Sequence[list[Row]]) -> Matching:
    names = [name for name in table.rows[0].columns if name != "task"]
    place, sign = table.columns.index(metric), direction(metric.name)
    said = {id(row): cells[place].text for row, cells in zip(table.rows, table.cells, strict=True)}
    groups = {}
    for rows in alike:
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
