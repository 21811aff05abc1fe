"""Finds the files that the options of a run name, from whatever directory the command is typed in."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from ode_runner.errors import RefusedInput
from ode_runner.recording.record import RunRecord
from ode_runner.recording.stored_command import FOLDER, stored_yaml
from ode_runner.tasks.images.data_folder import data_folder


def where_files_are(folder: Path, record: RunRecord, *, typed: Collection[str]) -> Iterator[str]:
    """An override with the absolute path for each option of the run that names a file by a relative path.

    Options are left out that are `typed` now, whose file is not found, or whose relative path is right from the present
    directory. The content of a file is not checked.
    """
    for option in record.contents:
        name = option if "." in option else f"task.{option}"
        path = _named(record, name)
        found = find(folder, path)
        if found is not None and found.resolve() != Path(str(path)).resolve() and name not in typed:
            escaped = str(found).replace("'", r"\'")
            yield f"{name}='{escaped}'"


def find(folder: Path, name: str | None) -> Path | None:
    """The file or folder with a relative path that was typed for the run in `folder`.

    It is searched in the directory in which the run was started, in the present one, and in all parents of the run
    folder, because a project may have been moved. None if it is not found, or the path is absolute.
    """
    if name is None or Path(name).is_absolute():
        return None
    places = [*_started_in(folder), Path.cwd(), *folder.resolve().parents]
    return next((place / name for place in places if (place / name).exists()), None)


def _named(record: RunRecord, name: str) -> str | None:
    """The path in an option; for an unset data_dir, the default folder."""
    group, _, option = name.partition(".")
    value: Any = record.config.get(group, {}).get(option)
    if value is None and option == "data_dir":
        value = str(data_folder(None))
    return value if isinstance(value, str) else None


def _started_in(folder: Path) -> list[Path]:
    """The directory in which the run was started, in a list; empty if its folder does not tell."""
    try:
        return [Path(stored_yaml(folder / FOLDER / "hydra.yaml")["hydra"]["runtime"]["cwd"])]
    except (RefusedInput, KeyError, TypeError):
        return []
