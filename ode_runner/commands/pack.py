"""`ode-run pack RUN`: a run with its code, its choices and its environment in one archive.

Unpacking runs nothing. The archive's README says what to type, and whose code that runs.
"""

import ast
import importlib.metadata
import re
import shlex
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ode_runner.commands.run_files import find
from ode_runner.config.arguments import root_of
from ode_runner.config.help import targets_in
from ode_runner.errors import RefusedInput
from ode_runner.recording.attempts import FILE as ATTEMPT
from ode_runner.recording.display import byte_count
from ode_runner.recording.lock import FILE as LOCK
from ode_runner.recording.lock import in_use
from ode_runner.recording.own_code import CHOICES, named_classes
from ode_runner.recording.own_code import FOLDER as CODE
from ode_runner.recording.record import RunRecord, RunStatus
from ode_runner.recording.stored_command import stored_overrides
from ode_runner.report.runs import read_run
from ode_runner.report.verify import NOT_REPEATED

PROGRAM = "ode-run"
ELSEWHERE = "extra ==|platform"  # marks requirements of an extra or of one system, which pip handles
MOST_DATA = 50_000_000  # bytes of a data file that is packed


def pack(folder: Path, archive: Path | None = None) -> None:
    """Write the archive, by default `<run folder's name>.zip`, and print what is in it.

    Raises:
        RefusedInput: there is no run, it is still running, the archive exists already, or it cannot be written.
    """
    run = read_run(folder)
    if in_use(run.folder):
        raise RefusedInput(f"{run.folder} is in use by another ode-run process. Wait for it.")
    packed = _Packed(folder=run.folder, record=run.record, words=stored_overrides(run.folder))
    archive = archive or Path(f"{packed.name}.zip")
    if archive.exists():
        raise RefusedInput(
            f"{archive} is there already. Name another: ode-run pack {shlex.quote(str(folder))} ARCHIVE.zip"
        )
    try:
        with zipfile.ZipFile(archive, "x", zipfile.ZIP_DEFLATED, strict_timestamps=False) as file:
            for place, source in packed.files().items():
                file.write(source, f"{packed.name}/{place}")
            file.writestr(f"{packed.name}/requirements.txt", packed.requirements())
            file.writestr(f"{packed.name}/README.txt", packed.readme())
    except OSError as error:
        archive.unlink(missing_ok=True)
        raise RefusedInput(f"cannot write {archive} ({error.strerror}).") from error
    print(packed.readme(), end="")
    print(f"\n{archive}: {byte_count(archive.stat().st_size)}")


@dataclass(frozen=True, kw_only=True)
class _Packed:
    """A run, and the places of its parts: code in the folder where commands are typed, the run in its outputs/."""

    folder: Path
    record: RunRecord
    words: list[str]  # overrides of its command

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def place(self) -> str:
        return f"outputs/{Path(self.record.choices['task']).name}/{self.name}"

    @cached_property
    def code(self) -> dict[str, Path]:
        return {path.relative_to(self.folder / CODE).as_posix(): path for path in _regular(self.folder / CODE)}

    @cached_property
    def data(self) -> dict[str, Path]:
        """Files in the run's working directory that options of the task name, such as task.file=measurements.csv."""
        named = [self.record.config.get("task", {}).get(option) for option in self.record.contents]
        paths = [Path(value) for value in named if isinstance(value, str) and ".." not in Path(value).parts]
        found = {path.as_posix(): find(self.folder, str(path)) for path in paths}
        files = {place: path for place, path in found.items() if path is not None and path.is_file()}
        return {place: path for place, path in files.items() if path.stat().st_size <= MOST_DATA}

    def files(self) -> dict[str, Path]:
        """All files to copy, by place in the archive."""
        within = {path.relative_to(self.folder).as_posix(): path for path in _regular(self.folder)}
        run = {f"{self.place}/{place}": path for place, path in within.items() if place not in (LOCK, ATTEMPT)}
        return {**run, **self.data, **self.code}

    def requirements(self) -> str:
        """The packages that this program and the run's code need, in the run's versions or, if unknown, today's."""
        recorded = self.record.environment.get("packages", {})
        versions = {name: str(recorded.get(name) or now).partition("+")[0] for name, now in _needed(self.code).items()}
        commit = self.record.environment.get("git_sha", "")
        own = f"# {PROGRAM} {recorded.get(PROGRAM, '')}" + (f" at commit {commit}" if commit else "")
        lines = [f"# Python {self.record.environment.get('python', '')}", own]
        return "\n".join([*lines, *(f"{name}=={version}" for name, version in sorted(versions.items()))]) + "\n"

    def readme(self) -> str:
        """The text of README.txt: what is in the archive and how to use it."""
        modules = [place for place in self.code if place.endswith(".py")]
        lines = [
            f"{self.name}: a run of {PROGRAM} ({self.record.status}), packed.",
            "",
            f"  {self.place}    the run",
            *([f"  {', '.join(modules)}    code of whoever made it"] if modules else []),
            *([f"  {CHOICES}    choices of whoever made it"] if self._flags() else []),
            *([f"  {', '.join(self.data)}    data"] if self.data else []),
            f"  requirements.txt    packages besides {PROGRAM} itself, in the versions that made it",
            "",
            "Unpacking runs nothing. In the folder that holds this file:",
            "",
            *(f"  {command}" for command in self._commands()),
            "",
        ]
        if modules:
            lines.append(f"These import {', '.join(modules)}: read them first, unless you know whose they are.")
        if missing := self._missing():
            lines.append(f"Not in here: {', '.join(missing)}.")
        return "\n".join(lines).rstrip() + "\n"

    def _flags(self) -> list[str]:
        return ["-cd", CHOICES] if any(place.startswith(f"{CHOICES}/") for place in self.code) else []

    def _commands(self) -> Iterator[str]:
        known = {name for place, path in self.code.items() if place.endswith(".yaml") for name in targets_in(path)}
        foreign = {name for name in named_classes(self.record.config) if f"{name.split('.')[0]}.py" in self.code}
        trust = ["trust=true"] if foreign - known else []
        for command in ("evaluate", "predict") if self.record.status is RunStatus.COMPLETED else ():
            yield shlex.join([PROGRAM, *self._flags(), f"{command}={self.place}", *trust])
        repeated = [word for word in self.words if root_of(word) not in NOT_REPEATED]
        yield shlex.join([PROGRAM, *self._flags(), *repeated]) + "    the run's own command: resumes it, or shows it"

    def _missing(self) -> list[str]:
        """What the run was made with but the archive does not have."""
        values = {name: self.record.config.get("task", {}).get(name) for name in self.record.contents}
        names = [f"task.{name}={value}" for name, value in values.items() if value and str(value) not in self.data]
        return (
            names if self.record.code or not self.record.config_dirs else [*names, "code, of which the run kept none"]
        )


def _regular(folder: Path) -> list[Path]:
    """Files in a folder, at any depth, without links, which might point out of it."""
    if folder.is_symlink():
        return []
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _needed(code: dict[str, Path]) -> dict[str, str]:
    """The installed versions, by name, of the packages that this program and the code need, directly or indirectly."""
    providing = importlib.metadata.packages_distributions()
    imported = {name for path in code.values() if path.suffix == ".py" for name in _imports(path)}
    waiting = [PROGRAM, *(package for name in imported for package in providing.get(name, []))]
    versions: dict[str, str] = {}
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in versions:
            continue
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:  # for another system, or optional
            continue
        versions[name] = found.version
        plain = [line for line in found.requires or [] if not re.search(ELSEWHERE, line)]
        waiting += [match[0] for line in plain if (match := re.match(r"[\w.-]+", line))]
    versions.pop(PROGRAM, None)
    return versions


def _imports(path: Path) -> set[str]:
    """Top-level names that a module imports."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return set()
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level]
    return {name.partition(".")[0] for name in names}
