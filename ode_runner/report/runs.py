"""Finds run folders and reads their records, also of runs that are still running."""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from ode_runner.config.command_names import is_command
from ode_runner.config.help import conf_dir, targets_in
from ode_runner.errors import RefusedInput
from ode_runner.recording.lock import in_use
from ode_runner.recording.record import AXES, FILE, UNUSED, RunRecord, RunStatus, computed, flat
from ode_runner.recording.regular_file import read_regular
from ode_runner.recording.stored_command import stored_overrides
from ode_runner.recording.unbegun import never_begun

NOT_TIMED = ("cost/train_seconds", 0)  # means unknown, for a run of a single step; it must not be the best of a column
NUMERICS = ("nfe", "solver")  # prefixes of measurements that only a run with evaluations has


@cache
def _as_typed(group: str, target: str) -> str:
    """The built-in choice of a group with this class; the name of the class if there is none, or several."""
    named = [path.stem for path in (conf_dir() / group).glob("*.yaml") if target in targets_in(path)]
    return named[0] if len(named) == 1 else target.rpartition(".")[2]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run folder with a record."""

    folder: Path
    record: RunRecord
    begun: bool = True  # False: a sweep that has ended, or goes on, has not come to it yet, and there is no folder

    @property
    def completed(self) -> bool:
        return self.begun and self.record.status is RunStatus.COMPLETED

    @cached_property
    def _computed(self) -> dict[str, Any]:
        return computed(self.record.config, self.record.choices)

    @cached_property
    def options(self) -> dict[str, Any]:
        """Choices and options by name: the axes, then every option in use, without the seed."""
        record = self.record
        options: dict[str, Any] = {axis: record.choices.get(axis, UNUSED) for axis in AXES}
        for group, content in self._computed.items():
            if not isinstance(content, dict):
                options[group] = content
                continue
            if group not in record.choices and "_target_" in content:
                options[group] = _as_typed(group, str(content["_target_"]))
            options |= flat(content, f"{group}.")
        return options

    @cached_property
    def identity(self) -> str:
        """Equal for runs that differ in their seed only; the record's fingerprint is too short for thousands."""
        return json.dumps([self.record.choices, self._computed], sort_keys=True, default=str)

    @cached_property
    def measurements(self) -> dict[str, float]:
        """Final metrics by their names, and `cost/...`."""
        record = self.record
        named = {**record.metrics, **{f"cost/{key}": value for key, value in record.cost.items()}}
        solves = record.choices.get("solver") != UNUSED or bool(record.cost.get("nfe_forward"))
        return {
            name: value
            for name, value in named.items()
            if isinstance(value, int | float)
            and not isinstance(value, bool)
            and (name, value) != NOT_TIMED
            and (solves or name.removeprefix("cost/").partition("/")[0].partition("_")[0] not in NUMERICS)
        }

    def rows(self) -> Iterator[dict[str, float]]:
        """The rows of metrics.jsonl; an incomplete last line is left out."""
        try:
            lines = read_regular(self.folder / "metrics.jsonl").decode("utf-8", errors="replace").splitlines()
        except OSError:
            return
        for line in lines:
            with suppress(ValueError, RecursionError, AttributeError):  # an incomplete line, or not an object
                yield {name: value for name, value in json.loads(line).items() if isinstance(value, int | float)}


@dataclass(frozen=True, kw_only=True)
class FoundRuns:
    """The runs below the named folders."""

    runs: list[Run]
    unreadable: list[Path]  # run folders whose record is missing or damaged
    unbegun: list[Run]  # of sweeps: runs that were never begun, each with its own configuration or seed


def find_runs(folders: Iterable[Path]) -> FoundRuns:
    """Every run below the folders, each once, in the order of their names.

    Raises:
        RefusedInput: a folder does not exist or holds no run.
    """
    runs: dict[Path, Run] = {}
    unreadable, above = dict[Path, None](), dict[Path, None]()
    for folder in folders:
        if not folder.is_dir():
            raise RefusedInput(f"no folder '{folder}'.")
        run_folders = list(_run_folders(folder))
        if not run_folders:
            raise RefusedInput(f"'{folder}' holds no runs: there is no {FILE} in it or below it.")
        for run_folder in run_folders:
            above |= dict.fromkeys(path for path in run_folder.parents if path.is_relative_to(folder))
            record = RunRecord.read(run_folder)
            if record is None:
                unreadable[Path(os.path.realpath(run_folder))] = None
            else:
                run = Run(folder=run_folder, record=_as_it_stands(record, run_folder))
                runs[Path(os.path.realpath(run_folder))] = run
    unbegun = _unbegun(above, {(run.identity, run.record.seed) for run in runs.values()})
    return FoundRuns(runs=list(runs.values()), unreadable=list(unreadable), unbegun=unbegun)


def _unbegun(folders: Iterable[Path], there: set[tuple[str, int]]) -> list[Run]:
    """The runs that sweeps in these folders have not come to, but for those that are there."""
    found: dict[tuple[str, int], Run] = {}
    for folder in folders:
        for path, record in never_begun(folder):
            run = Run(folder=path, record=record, begun=False)
            found.setdefault((run.identity, record.seed), run)
    return [run for key, run in found.items() if key not in there]


def read_run(folder: Path) -> Run:
    """The run in a folder, or the only one below it.

    Raises:
        RefusedInput: there is none, or more than one.
    """
    found = find_runs([folder])
    if not found.runs:
        raise RefusedInput(f"the record in '{found.unreadable[0]}' cannot be read.")
    if len(found.runs) > 1:
        raise RefusedInput(
            f"'{folder}' holds {len(found.runs)} runs. Name the folder of one, e.g. {found.runs[0].folder}"
        )
    return found.runs[0]


def _run_folders(folder: Path) -> Iterator[Path]:
    """Folders with a record, or with the `.hydra` that is written before the record; their subfolders are not searched.

    The folder of a command that only asks about a model, such as `audit=true`, is not a run.
    """
    waiting, seen = [folder], set[tuple[int, int]]()
    while waiting:
        path = waiting.pop()
        try:
            status = path.stat()
            names = sorted(os.listdir(path))
        except OSError:  # removed meanwhile, not permitted, or a file
            continue
        if (status.st_dev, status.st_ino) in seen:  # visited already: a link may point upwards
            continue
        seen.add((status.st_dev, status.st_ino))
        if FILE not in names and ".hydra" not in names:
            waiting += [path / name for name in reversed(names) if (path / name).is_dir()]
        elif FILE in names or not _is_command_folder(path):
            yield path


def _is_command_folder(folder: Path) -> bool:
    try:
        return is_command(stored_overrides(folder))
    except RefusedInput:
        return False


def _as_it_stands(record: RunRecord, folder: Path) -> RunRecord:
    """The record, with status interrupted if it says running but no process holds the folder's lock."""
    if record.status is not RunStatus.RUNNING or in_use(folder):
        return record
    reason = "its process ended without a message (killed, or a power cut); the same command resumes it"
    return replace(record, status=RunStatus.INTERRUPTED, reason=reason)
