"""The roles of the columns in a file of series: as typed, or chosen by default from the file's columns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ode_runner.config.help import did_you_mean
from ode_runner.errors import RefusedInput, as_typed
from ode_runner.tasks.series.table_file import check_names, list_option, with_names


@dataclass(frozen=True, kw_only=True)
class Roles:
    """The role of each column. None and [] leave the choice to the defaults, or mean that no column has this role."""

    time: str | None  # None: the first column that has no other role
    series: str | None  # None: all rows are of one series
    values: tuple[str, ...] | None  # None: all columns without another role
    inputs: tuple[str, ...]
    label: str | None
    sort: bool  # whether to sort the rows of each series by time

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "Roles":
        """The roles that a task's options give to columns."""
        values = options.get("values")
        return cls(
            time=options.get("time"),
            series=options.get("series"),
            values=None if values is None else tuple(values),
            inputs=tuple(options.get("inputs") or ()),
            label=options.get("label"),
            sort=bool(options.get("sort")),
        )


def resolved(table: pd.DataFrame, roles: Roles, path: Path) -> Roles:
    """The roles with a name for every column.

    Raises:
        RefusedInput: a column does not exist or has two roles, or none is left for the values.
    """
    there = [str(name) for name in table.columns]
    taken = (roles.series, roles.label, *roles.inputs, *(roles.values or ()))
    time = roles.time or next((name for name in there if name not in taken), there[0])
    others = [name for name in (time, roles.series, roles.label) if name is not None]
    values = roles.values or tuple(name for name in there if name not in others and name not in roles.inputs)
    single = {"time": roles.time, "series": roles.series, "label": roles.label}
    named = [(option, name) for option, name in single.items() if name is not None]
    named += [(option, name) for option in ("values", "inputs") for name in getattr(roles, option) or []]
    for option, name in named:
        if name not in there:
            close = did_you_mean(name, there)
            raise RefusedInput(f"task.{option}: {path} has no column '{name}'.{close} It has: {', '.join(there)}.")
    for name in values:
        if name in others or values.count(name) > 1:
            raise RefusedInput(f"task.values: the column '{name}' of {path} has another role. Name others.")
    if not values:
        raise RefusedInput(f"{path} has no column of values besides {', '.join(others)}.")
    _check_taken(roles, there, [] if roles.time else [time], [] if roles.values else values, path)
    return Roles(time=time, series=roles.series, values=values, inputs=roles.inputs, label=roles.label, sort=roles.sort)


def _check_taken(roles: Roles, there: Sequence[str], times: Sequence[str], values: Sequence[str], path: Path) -> None:
    """Raises RefusedInput if the time or a value would by default be a column without a name."""
    free = [name for name in with_names(there) if name not in (roles.series, roles.label, *roles.inputs)]
    time = roles.time or next((name for name in free if name not in (roles.values or ())), "")
    learned = [name for name in free if name != time]
    options = [f"task.time={as_typed(time)}"] if times else []
    options += [list_option("task.values", learned)] if not roles.values else []
    instead = " ".join(options) if time and learned else ""
    check_names(times, path, role="taken for the time", instead=instead)
    check_names(values, path, role="learned", instead=instead)
