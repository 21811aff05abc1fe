"""From runs to rows: one row for each configuration, with all its seeds."""

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ode_runner.recording.record import AXES, UNUSED
from ode_runner.report.runs import Run

SMALL = 2.0**-600  # a factor with which squares and sums of numbers do not overflow


@dataclass(frozen=True, kw_only=True)
class Statistic:
    """Mean and standard deviation (n - 1) over seeds; no deviation for a single one."""

    mean: float
    deviation: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Statistic | None":
        """Mean and deviation of the finite values; None if there are none."""
        values = [value for value in values if math.isfinite(value)]
        if not values:
            return None
        if min(values) == max(values):  # a sum divided by the count may be rounded
            return cls(mean=values[0], deviation=0.0 if len(values) > 1 else None)
        try:
            mean = math.fsum(values) / len(values)
            deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
        except OverflowError:  # numbers near the largest float
            scaled = cls.of([value * SMALL for value in values])
            assert scaled is not None
            return cls(mean=scaled.mean / SMALL, deviation=(scaled.deviation or 0.0) / SMALL)
        return cls(mean=mean, deviation=deviation)


@dataclass(frozen=True, kw_only=True)
class SweptOrder:
    """The order at which an error falls over the sweep of steps that a row belongs to."""

    slope: float
    over: str  # the range of steps over which it is fitted


@dataclass(frozen=True, kw_only=True)
class Row:
    """The runs of one row of the table."""

    runs: list[Run]
    columns: dict[str, Any] = field(default_factory=dict)  # options that distinguish the rows
    orders: Mapping[str, SweptOrder] = field(default_factory=dict)  # by the name of their column

    @cached_property
    def completed(self) -> list[Run]:
        return [run for run in self.runs if run.completed]

    def statistic(self, name: str) -> Statistic | None:
        """The statistic over the completed runs that measured it; for an order, its slope."""
        if name in self.orders:
            return Statistic(mean=self.orders[name].slope, deviation=None)
        return Statistic.of([run.measurements[name] for run in self.completed if name in run.measurements])

    def ranked(self, name: str) -> Statistic | None:
        """The statistic, if every run says that its value is what the name says: only such rows are compared."""
        return None if self.invalid(name) else self.statistic(name)

    def invalid(self, name: str) -> str:
        """Why the value of a run is not what the name says; "" if none says so."""
        return next((run.record.invalid[name] for run in self.completed if name in run.record.invalid), "")

    @property
    def task(self) -> str:
        """The task of all its runs; "" if they have several."""
        tasks = {str(run.options["task"]) for run in self.runs}
        return tasks.pop() if len(tasks) == 1 else ""

    @property
    def label(self) -> str:
        return label(self.columns) or label({axis: self.runs[0].options[axis] for axis in ("model", "solver")})


def without_repeats(runs: Iterable[Run]) -> tuple[list[Run], int]:
    """One run for each configuration and seed, and how many were left out.

    The same command in a sweep and by itself makes two folders; counted as two seeds, they would make the deviation too
    small. A completed run is preferred to one that is not, and a later one to an earlier one.
    """
    chosen: dict[tuple[str, int], Run] = {}
    count = 0
    for run in sorted(runs, key=lambda run: (run.completed, run.record.finished)):
        chosen.pop(key := (run.identity, run.record.seed), None)
        chosen[key] = run
        count += 1
    kept = sorted(chosen.values(), key=lambda run: run.folder)
    return kept, count - len(kept)


def by_configuration(runs: Sequence[Run]) -> list[Row]:
    """A row for each configuration with a completed run, distinguished by the options that differ."""
    groups = [group for group in _grouped(runs, lambda run: run.identity) if any(run.completed for run in group)]
    shown = differing_options([group[0] for group in groups]) or ["model", "solver", "gradient"]
    return [_row(group, shown) for group in groups]


def by_columns(runs: Sequence[Run], names: Sequence[str]) -> list[Row]:
    """A row for each combination of values of the named columns; its runs may differ in other options."""
    groups = _grouped(runs, lambda run: tuple(repr(value_of(run, name)) for name in names))
    return [_row(group, names) for group in groups if any(run.completed for run in group)]


def differing_options(runs: Sequence[Run]) -> list[str]:
    """Names of the options that differ among runs of the same task and the same choice of their own group.

    If `solver.num_steps` differs only because every solver has its own default, it adds nothing to `solver`. Nor does a
    solver count as different if a ResNet merely does not use it.
    """
    seen: dict[str, dict[Hashable, set[str]]] = {}
    for name in dict.fromkeys(name for run in runs for name in run.options):
        seen[name] = {}
        for run in runs:
            seen[name].setdefault(_context(name, run), set()).add(repr(run.options.get(name, UNUSED)))
            if name in AXES:
                seen[name][_context(name, run)].discard(repr(UNUSED))
    differing = [name for name, contexts in seen.items() if any(len(values) > 1 for values in contexts.values())]
    return sorted(differing, key=_place)


def value_of(run: Run, name: str) -> Any:
    """The value of an option, or of the seed."""
    return run.record.seed if name == "seed" else run.options.get(name, UNUSED)


def label(columns: Mapping[str, Any]) -> str:
    """A configuration in a few words: choices by their value only, options as name=value."""
    words = [
        str(value) if name in AXES else f"{name.rpartition('.')[2]}={plain(value)}"
        for name, value in columns.items()
        if name != "task" and value != UNUSED
    ]
    return " ".join(words)


def labels(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of configurations that are shown together, by what differs among them.

    A null option is named only if nothing else distinguishes a configuration from another.
    """
    names = dict.fromkeys(name for line in lines for name in line)
    differing = [name for name in names if len({repr(line.get(name, UNUSED)) for line in lines}) > 1]
    whole = [{name: line[name] for name in differing if name in line} or line for line in lines]
    short = [label({name: value for name, value in line.items() if value is not None}) for line in whole]
    meant: dict[str, set[str]] = {}
    for name, line in zip(short, whole, strict=True):
        meant.setdefault(name, set()).add(repr(line))
    return [name if name and len(meant[name]) == 1 else label(line) for name, line in zip(short, whole, strict=True)]


def plain(value: Any) -> str:
    """An option's value as one would type it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _context(name: str, run: Run) -> Hashable:
    if name in ("task", "model", "solver", "gradient"):
        return ()
    group, _, option = name.partition(".")
    return (run.options["task"], run.options.get(group) if option else None)


def _place(name: str) -> int:
    """Axes first, then the options of the axes, then the rest."""
    group = name.partition(".")[0]
    return (len(AXES) if "." in name else 0) + (AXES.index(group) if group in AXES else 2 * len(AXES))


def _grouped(runs: Sequence[Run], key: Callable[[Run], Hashable]) -> list[list[Run]]:
    groups: dict[Hashable, list[Run]] = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run)
    return list(groups.values())


def _row(runs: list[Run], names: Sequence[str]) -> Row:
    return Row(runs=runs, columns={name: value_of(runs[0], name) for name in names})
