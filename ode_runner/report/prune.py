"""`ode-report prune`: lists, or removes, runs without a result, and runs superseded by a later one beside them."""

import json
import os
import shlex
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ode_runner.errors import InUse
from ode_runner.recording.attempts import FILE as ATTEMPT
from ode_runner.recording.display import counted
from ode_runner.recording.fresh_folder import is_fresh
from ode_runner.recording.lock import FILE as LOCK
from ode_runner.recording.lock import in_use, lock
from ode_runner.recording.own_code import FOLDER as CODE
from ode_runner.recording.printable import printable
from ode_runner.recording.record import FILE as RECORD
from ode_runner.recording.record import RunRecord, RunStatus
from ode_runner.recording.stored_command import FOLDER as COMMAND
from ode_runner.report.quantities import Style
from ode_runner.report.rows import without_repeats
from ode_runner.report.runs import FoundRuns, Run, find_runs

FAILED = (RunStatus.FAILED, RunStatus.DIVERGED, RunStatus.SOLVER_FAILED, RunStatus.OUT_OF_MEMORY)
WRITTEN = {RECORD, COMMAND, LOCK, ATTEMPT, "checkpoints", "plots", "metrics.jsonl", "ode-run.log", "config.yaml",
           "error.txt", "crash.pt", "wandb", CODE}  # fmt: skip
PATTERNS = ("events.out.tfevents.*", "*.csv")  # results of evaluate= and others are not among them


@dataclass(frozen=True, kw_only=True)
class Prunable:
    """A run folder that may be removed, and why; `kept_for` is the reason why it is kept nevertheless."""

    folder: Path
    kind: str  # failed, refused or superseded
    reason: str
    kept_for: str = ""

    @property
    def bytes(self) -> int:
        """The approximate size of its files on the disk, in bytes."""
        return sum(path.lstat().st_size for path in self.folder.rglob("*") if not path.is_dir())


def prune(folders: Sequence[Path], *, remove: bool) -> None:
    """List the run folders below `folders` that may be removed, and remove them if `remove`.

    Raises:
        RefusedInput: a folder does not exist or has no run.
    """
    found = find_runs(folders)
    listed = list(prunable(found))
    going = [item for item in listed if not item.kept_for]
    for kind in dict.fromkeys(item.kind for item in going):
        alike = [item for item in going if item.kind == kind]
        print(f"{kind} ({len(alike)})")
        for item in alike:
            print(printable(f"  {item.folder}: {item.reason}"))
    if kept := [item for item in listed if item.kept_for]:
        print(f"left as they are ({len(kept)})")
        for item in kept:
            print(printable(f"  {item.folder}: {item.kind}, but {item.kept_for}"))
    if not going:
        print(f"nothing to remove: {counted(len(found.runs), 'run')}.")
        return
    size = _in_units(sum(item.bytes for item in going))
    if remove:
        removed = sum(_remove(item, folders) for item in going)
        print(f"removed {removed} of {len(going)} folders, {size}.")
    else:
        names = shlex.join(map(str, folders))
        print(printable(f"{size} in {len(going)} folders. To remove them: ode-report prune {names} --remove"))


def _in_units(size: int) -> str:
    style = Style.of("bytes", [size])
    return f"{style.write(size)} {style.unit}"


def prunable(found: FoundRuns) -> Iterator[Prunable]:
    """Folders of runs that failed, were refused, or are superseded by a later run beside them."""
    superseded = _superseded(found.runs)
    needed = _named_by(run for run in found.runs if run.folder not in superseded)
    for run in found.runs:
        kind, reason = _why(run, superseded.get(run.folder))
        if kind:
            yield Prunable(folder=run.folder, kind=kind, reason=reason, kept_for=_kept_for(run.folder, needed))
    for folder in found.unreadable:
        if is_fresh(folder):
            reason = "begun, and refused before there was a record"
            yield Prunable(folder=folder, kind="refused", reason=reason, kept_for=_kept_for(folder, needed))


def _why(run: Run, by: Path | None) -> tuple[str, str]:
    record = run.record
    if by is not None:
        return "superseded", f"the same run as {by.name} beside it, which is completed"
    if record.status is RunStatus.INCOMPATIBLE:
        return "refused", record.reason
    return ("failed", f"{record.status}: {record.reason}") if record.status in FAILED else ("", "")


def _superseded(runs: Sequence[Run]) -> dict[Path, Path]:
    """By folder, the completed run beside it with the same configuration, seed, data and code.

    Runs of a sweep are not superseded by runs outside of it, because these are in another folder.
    """
    alike: dict[str, list[Run]] = {}
    for run in runs:
        what = [str(run.folder.parent), run.identity, run.record.seed, run.record.contents, run.record.code]
        alike.setdefault(json.dumps(what, sort_keys=True), []).append(run)
    later: dict[Path, Path] = {}
    for group in alike.values():
        [kept], _ = without_repeats(group)
        if kept.completed:
            later |= {run.folder: kept.folder for run in group if run is not kept}
    return later


def _named_by(runs: Iterator[Run]) -> set[str]:
    """Real paths of the folders that configurations of runs name, such as a teacher's."""
    return {os.path.realpath(text) for run in runs for text in _texts(run.record.config) if os.sep in text}


def _texts(config: object) -> Iterator[str]:
    if isinstance(config, str):
        yield config
    elif isinstance(config, dict | list):
        for value in config.values() if isinstance(config, dict) else config:
            yield from _texts(value)


def _kept_for(folder: Path, needed: set[str]) -> str:
    if folder.is_symlink():
        return "it is a link"
    if os.path.realpath(folder) in needed:
        return "another run names it"
    if in_use(folder):
        return "another process works there"
    own = {path for pattern in PATTERNS for path in folder.glob(pattern)}
    if foreign := sorted(path.name for path in folder.iterdir() if path.name not in WRITTEN and path not in own):
        return f"it holds {', '.join(foreign)}"
    return ""


def _remove(item: Prunable, roots: Sequence[Path]) -> bool:
    """Remove a folder and parents that are then empty; returns False if a process has begun to work there."""
    before = RunRecord.read(item.folder)
    try:
        with lock(item.folder):
            if RunRecord.read(item.folder) != before:
                return False
            for path in item.folder.iterdir():
                if path.name != LOCK:
                    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    except InUse:
        return False
    shutil.rmtree(item.folder)
    within = [parent for parent in item.folder.parents if any(root in parent.parents for root in roots)]
    with suppress(OSError):  # a parent that is not empty
        for parent in within:
            parent.rmdir()
    return True
