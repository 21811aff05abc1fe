"""The table before any format: columns, cells as text, and which are best."""

from collections.abc import Hashable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from ode_runner.errors import RefusedInput
from ode_runner.recording.record import AXES, UNUSED
from ode_runner.report.names import resolve, resolve_first, split_names
from ode_runner.report.orders import ENDING, with_orders
from ode_runner.report.quantities import BOTH_WAYS, Style, direction, known, usual
from ode_runner.report.rows import Row, Statistic, by_columns, by_configuration, plain
from ode_runner.report.runs import Run
from ode_runner.report.same_data import data_groups

COUNT = "seeds"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The value of one row in one column."""

    text: str
    statistic: Statistic | None = None
    best: bool = False


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column: its heading, and whether its numbers are measurements."""

    name: str  # as it can be typed: an option, a metric, or the count
    unit: str = ""
    is_metric: bool = False

    @property
    def title(self) -> str:
        if self.name.endswith(ENDING):
            return f"order ({self.name.removesuffix(ENDING).rpartition('/')[2]})"
        return self.name.removeprefix("cost/")


@dataclass(frozen=True, kw_only=True)
class Table:
    """Columns of options, the count of seeds, and columns of measurements."""

    columns: list[Column]
    rows: list[Row]
    cells: list[list[Cell]]  # one list for each row
    shared: dict[str, str] = field(default_factory=dict)  # the axes that are the same in all rows


def make_table(
    runs: Sequence[Run], *, metrics: str | None = None, by: str | None = None, sort: str | None = None,
    reverse: bool = False, left_out: Mapping[str, str] = MappingProxyType({}),
) -> Table:  # fmt: skip
    """The table of the rows that have at least one completed run, sorted.

    Raises:
        RefusedInput: a metric or column does not exist.
    """
    completed = [run for run in runs if run.completed]
    rows = with_orders(by_columns(runs, _chosen_columns(runs, by)) if by else by_configuration(runs))
    chosen = _chosen_metrics(completed, rows, metrics, left_out)
    rows = _sorted(rows, chosen, sort, reverse, known(completed))
    options = [Column(name=name) for name in (rows[0].columns if rows else [])]
    styles = {name: _style(name, rows) for name in chosen}
    measured = [Column(name=name, unit=styles[name].unit, is_metric=True) for name in chosen]
    groups = data_groups(rows)
    best = {name: _best(name, rows, styles[name], groups) for name in chosen}
    cells = [
        [Cell(text=plain(value)) for value in row.columns.values()]
        + [Cell(text=_count(row), statistic=Statistic(mean=len(row.completed), deviation=None))]
        + [
            _measured_cell(row, name, styles[name], None if row.invalid(name) else best[name].get(group))
            for name in chosen
        ]
        for row, group in zip(rows, groups, strict=True)
    ]
    return Table(columns=[*options, Column(name=COUNT if by is None else "runs"), *measured], rows=rows, cells=cells,
                 shared=_shared(rows))  # fmt: skip


def _chosen_metrics(
    completed: Sequence[Run], rows: Sequence[Row], typed: str | None, left_out: Mapping[str, str]
) -> list[str]:
    """The metrics typed; otherwise the usual ones, each error followed by its order."""
    orders = list({name: None for row in rows for name in row.orders})
    names = known(completed) + orders
    if typed is None:
        shown = usual(completed)
        return [name for metric in shown for name in (metric, *({metric + ENDING} & {*orders}))]
    if not names:
        return split_names(typed)  # nothing has been measured yet, so names cannot be checked
    chosen = list(dict.fromkeys(resolve(name, [*names, *left_out], "metric") for name in split_names(typed)))
    for name in chosen:
        if name in left_out and name not in names:
            raise RefusedInput(left_out[name])
    return chosen


def _chosen_columns(runs: Sequence[Run], typed: str) -> list[str]:
    names = list({name: None for run in runs for name in run.options})
    chosen = [resolve(name, [*names, "seed"], "column") for name in split_names(typed)]
    if not chosen:
        raise RefusedInput("--by names no column. Try --by model,solver")
    return list(dict.fromkeys(chosen))


def _sorted(
    rows: list[Row], shown: Sequence[str], sort: str | None, reverse: bool, measured: Sequence[str]
) -> list[Row]:
    """Rows sorted by the columns from left to right, or by `sort`; metrics from the best, unranked ones last.

    Args:
        shown: the metrics of the table, which are meant first if `sort` is the end of several names.
        measured: all metrics.
    """
    names = columns = list(rows[0].columns) if rows else []
    if sort and rows:
        typed = split_names(sort)
        names = [resolve_first(name, [*shown, *columns], measured, "column") for name in typed]
    metrics = {*shown, *measured}
    for name in reversed(names):
        absent = [row for row in rows if name in metrics and row.ranked(name) is None]
        present = [row for row in rows if row not in absent]
        present.sort(key=lambda row, name=name: _key(row, name, metrics), reverse=reverse)  # type: ignore[misc]
        rows = present + absent
    return rows


def _key(row: Row, name: str, metrics: Set[str]) -> Any:
    if name not in metrics:
        value = row.columns[name]
        is_number = isinstance(value, int | float)
        return (not is_number, value if is_number else 0, plain(value))
    statistic = row.statistic(name)
    assert statistic is not None
    return statistic.mean * (-1 if direction(name) > 0 else 1)


def _style(name: str, rows: Sequence[Row]) -> Style:
    statistics = [statistic for row in rows if (statistic := row.statistic(name)) is not None]
    style = Style.of(name, [statistic.mean for statistic in statistics])
    return replace(style, deviations=any(statistic.deviation for statistic in statistics))


def _best(name: str, rows: Sequence[Row], style: Style, groups: Sequence[Hashable]) -> dict[Hashable, str]:
    """The best mean of each group of rows, as it is written, so that digits which are not shown do not count.

    A group has none if half of its rows reach it, as with zero backward evaluations in exact modes.
    """
    means: dict[Hashable, list[float]] = {}
    for row, group in zip(rows, groups, strict=True):
        both_ways = name in BOTH_WAYS and row.statistic(BOTH_WAYS[name]) is not None
        if (statistic := row.ranked(name)) is not None and not both_ways:
            means.setdefault(group, []).append(statistic.mean)
    sign = direction(name)
    compared = {group: values for group, values in means.items() if sign and len(values) > 1}
    best = {group: style.write(sign * max(sign * value for value in values)) for group, values in compared.items()}
    written = {group: list(map(style.write, values)) for group, values in compared.items()}
    return {group: text for group, text in best.items() if written[group].count(text) < max(2, len(written[group]) / 2)}


def _measured_cell(row: Row, name: str, style: Style, best: str | None) -> Cell:
    statistic = row.statistic(name)
    if statistic is None:
        return Cell(text="-")
    if name in row.orders:
        return Cell(text=f"{statistic.mean:.2f} ({row.orders[name].over})", statistic=statistic)
    mean = text = style.write(statistic.mean)
    if statistic.deviation is not None and style.deviations:
        text += f" ± {style.write(statistic.deviation)}"
    return Cell(text=text, statistic=statistic, best=best == mean)


def _count(row: Row) -> str:
    """The number of completed seeds, such as `2 of 3` if not all completed."""
    completed, all_runs = len(row.completed), len(row.runs)
    return str(completed) if completed == all_runs else f"{completed} of {all_runs}"


def _shared(rows: Sequence[Row]) -> dict[str, str]:
    """The axes on which all rows that use them have the same choice."""
    options = [run.options for row in rows for run in row.completed]
    values = {axis: {str(run[axis]) for run in options} - {UNUSED} for axis in AXES}
    return {axis: found.pop() for axis, found in values.items() if len(found) == 1 and axis not in rows[0].columns}
