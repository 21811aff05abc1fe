"""Remarks beside a table: runs that did not complete and why, and reasons why rows are hard to compare."""

import math
import re
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ode_runner.recording.own_code import CHOICES
from ode_runner.recording.record import AXES, RunStatus
from ode_runner.report.rows import Row, differing_options, label, value_of
from ode_runner.report.runs import Run
from ode_runner.report.table import Table

NOT_BEGUN = "not begun"
MOST_NAMED = 4  # runs with the same reason that are named
MACHINE = {"cpu": "unknown", "device": "unknown", "threads": "unknown", "processes": 1, "platform": "unknown"}


@dataclass(frozen=True, kw_only=True)
class Absence:
    """Runs that are not in the table, for the same reason."""

    status: str
    reason: str
    which: list[str]  # configuration and seed of each, in a few words
    folders: list[Path]

    @property
    def count(self) -> str:
        return _runs(len(self.folders))

    @property
    def named(self) -> str:
        """The first few names, and how many more there are."""
        names = self.which or [str(folder) for folder in self.folders]
        more = len(names) - MOST_NAMED
        return ", ".join(names[:MOST_NAMED]) + (f", and {more} more" if more > 0 else "")


def absences(runs: Sequence[Run], unreadable: Sequence[Path]) -> list[Absence]:
    """Runs that did not complete, grouped by reasons that are equal except for numbers; running ones come last."""
    others = [run for run in runs if run.begun and not run.completed]
    groups: dict[tuple[RunStatus, str], list[Run]] = {}
    for run in others:
        groups.setdefault((run.record.status, _signature(run)), []).append(run)
    order = list(RunStatus)
    later = [run for run in runs if not run.begun]
    differing = differing_options(runs) if others or later else []
    names = [name for name in differing if name != "task"] or ["model", "solver", "gradient"]
    found = [
        Absence(
            status=status.value,
            reason=_reason(group[0]) + (" (the first of these)" if len({_reason(run) for run in group}) > 1 else ""),
            which=_named(group, names),
            folders=[run.folder for run in group],
        )
        for (status, _), group in sorted(groups.items(), key=lambda item: -order.index(item[0][0]))
    ]
    if later:
        reason = "the sweep has not come this far; its command goes on with them"
        found.append(
            Absence(status=NOT_BEGUN, reason=reason, which=_named(later, names), folders=[run.folder for run in later])
        )
    if unreadable:
        reason = "record.json is absent or no record: the run has just begun, or was killed before it could write one"
        found.append(Absence(status="no record", reason=reason, which=[], folders=list(unreadable)))
    return found


def _named(group: Sequence[Run], names: Sequence[str]) -> list[str]:
    """Each run of a group by the options that distinguish it from other runs, and by its seed."""
    return [f"{label({name: value_of(run, name) for name in names})} seed {run.record.seed}" for run in group]


def mixture(runs: Sequence[Run], columns: Sequence[str]) -> list[str]:
    """A sentence if rows made by `columns` average over other options as well."""
    mixed = [name for name in differing_options(runs) if name not in columns]
    return [f"rows average over {', '.join(mixed)}, not over seeds alone."] if mixed else []


def left_out(table: Table) -> list[str]:
    """A sentence for each column in which a mean is over only some of a row's runs: others have no finite number."""
    found = []
    for name in [column.name for column in table.columns if column.is_metric]:
        counts = [(row, _finite(row, name)) for row in table.rows if name not in row.orders]
        fewer = [(row, count) for row, count in counts if 0 < count < len(row.completed)]
        if fewer:
            row, count = fewer[0]
            others = len(fewer) - 1
            more = f" (likewise in {others} more row{'s' * (others > 1)})" if others else ""
            of = f"{count} of {_runs(len(row.completed))}{more}"
            found.append(f"{name} of {row.label} is over {of}: the others have no finite number.")
    return found


def not_ranked(table: Table) -> list[str]:
    """A sentence for each column with values that are not what its name says, by the reason that the runs give."""
    found = []
    for name in [column.name for column in table.columns if column.is_metric]:
        reasons: dict[str, list[Row]] = {}
        for row in table.rows:
            reasons.setdefault(row.invalid(name), []).append(row)
        for reason, rows in reasons.items():
            if reason:
                more = f" (and of {len(rows) - 1} more row{'s' * (len(rows) > 2)})" if len(rows) > 1 else ""
                found.append(f"{name} of {rows[0].label}{more} is not ranked: it {reason}.")
    return found


def _finite(row: Row, name: str) -> int:
    """How many runs of a row have a finite number of this name."""
    return sum(math.isfinite(run.measurements.get(name, math.nan)) for run in row.completed)


def without_effect(rows: Sequence[Row]) -> list[str]:
    """A sentence for each swept option that changed nothing, such as a number of steps that a solver does not use.

    Rows that differ only in this option have equal test metrics, seed by seed, to the last digit.
    """
    found = []
    options = [name for name in rows[0].columns if name not in AXES] if rows else []
    for name in options:
        axis = name.partition(".")[0]
        for choice, groups in _alike_but_for(name, axis, rows).items():
            if all(_tested(row) == _tested(group[0]) for group in groups for row in group):
                where = f" for {axis}={choice}" if axis in AXES else ""
                found.append(f"{name} changes nothing{where}: rows that differ in it alone are equal.")
    return found


def _alike_but_for(name: str, axis: str, rows: Sequence[Row]) -> dict[str, list[list[Row]]]:
    """Groups of two or more rows that differ only in an option, by the choice of its axis."""
    groups: dict[tuple[str, Hashable], list[Row]] = {}
    for row in rows:
        others = tuple(repr(value) for other, value in row.columns.items() if other != name)
        groups.setdefault((str(row.runs[0].options.get(axis, "")), others), []).append(row)
    by_choice: dict[str, list[list[Row]]] = {}
    for (choice, _), group in groups.items():
        if len(group) > 1:
            by_choice.setdefault(choice, []).append(group)
    return by_choice


def own_versions(runs: Sequence[Run], *, what: str = "rows") -> list[str]:
    """A sentence for each module of the user's own of which the runs, called `what`, have several versions."""
    found = []
    for place in dict.fromkeys(
        place for run in runs for place in run.record.code if not place.startswith(f"{CHOICES}/")
    ):
        made_with = [run for run in runs if place in run.record.code]
        files = _tally(made_with, lambda run, place=place: run.record.code[place][:7])  # type: ignore[misc]
        if len(files) > 1:
            found.append(f"{what} come from different versions of {place}: {_counts_in_words(files)}.")
    return found


def warnings(runs: Sequence[Run], repeats: int) -> list[str]:
    """Sentences on what makes the runs of the table hard to compare: code, versions, machines, repeats."""
    found = []
    code = _tally(runs, lambda run: str(run.record.environment.get("git_sha", ""))[:7] or "no commit")
    if len(code) > 1:
        found.append(f"rows come from different code: {_counts_in_words(code)}.")
    dirty = sum(bool(run.record.environment.get("git_dirty")) for run in runs)
    if dirty:
        found.append(
            f"{dirty} of {_runs(len(runs))} came from uncommitted changes: the commit is not the code that ran."
        )
    found += own_versions(runs)
    for package in dict.fromkeys(name for run in runs for name in _packages(run)):
        versions = _tally(runs, lambda run, package=package: _packages(run).get(package, "unknown"))  # type: ignore[misc]
        if len(versions) > 1:
            found.append(f"rows come from different versions of {package}: {_counts_in_words(versions)}.")
    for part, unsaid in MACHINE.items():
        machines = _tally(runs, lambda run, part=part, unsaid=unsaid: str(run.record.environment.get(part, unsaid)))  # type: ignore[misc]
        if len(machines) > 1:
            found.append(f"times and memory are not comparable, {part} differs: {_counts_in_words(machines)}.")
    notes = _tally([run for run in runs if run.record.reason], lambda run: run.record.reason.partition(" at step ")[0])
    found += [f"{_runs(count)} {reason}." for reason, count in notes.items()]
    if repeats:
        found.append(f"{_runs(repeats)} with the configuration and seed of another left out; the latest counts.")
    return found


def _tested(row: Row) -> dict[int, dict[str, Any]]:
    """The test metrics, by seed."""
    return {
        run.record.seed: {name: value for name, value in run.record.metrics.items() if name.startswith("test/")}
        for run in row.completed
    }


def _reason(run: Run) -> str:
    if run.record.status is RunStatus.RUNNING:
        return _standing(run)
    return run.record.reason.partition(" (traceback in ")[0]


def _signature(run: Run) -> str:
    """A key that failures of one kind have in common; runs that are still running have each their own."""
    reason = _reason(run)
    return reason if run.record.status is RunStatus.RUNNING else re.sub(r"(?<![a-z_])[-+]?\d[\d.e+-]*", "#", reason)


def _standing(run: Run) -> str:
    """The progress of a run that is running, and the age of its last line: its process may be dead."""
    path = run.folder / "metrics.jsonl"
    try:
        minutes = (time.time() - path.stat().st_mtime) / 60
    except OSError:
        return "nothing logged yet"
    epoch = max((row.get("epoch", 0) for row in run.rows()), default=0)
    epochs = run.options.get("trainer.epochs", "?")
    ago = f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.0f} h"
    return f"epoch {epoch:.3g} of {epochs}, last line logged {ago} ago"


def _packages(run: Run) -> dict[str, str]:
    environment = run.record.environment
    packages = environment.get("packages")
    named = {"python": environment.get("python", "unknown"), **(packages if isinstance(packages, dict) else {})}
    return {name: str(version) for name, version in named.items()}


def _tally(runs: Iterable[Run], key: Callable[[Run], Hashable]) -> dict[Any, int]:
    counts: dict[Any, int] = {}
    for run in runs:
        counts[key(run)] = counts.get(key(run), 0) + 1
    return counts


def _counts_in_words(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} ({_runs(count)})" for name, count in counts.items())


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"
