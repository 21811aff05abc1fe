"""A list, in a sweep's folder, of the cells left to run: a cell that has not begun has no folder of its own."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from ode_runner.recording.atomic_write import atomic_write
from ode_runner.recording.record import FILE as RECORD
from ode_runner.recording.record import RunRecord
from ode_runner.recording.regular_file import read_regular
from ode_runner.recording.strict_json import to_json

FILE = "unbegun.json"


def note_due(folder: Path, due: Mapping[Path, RunRecord]) -> None:
    """Replace the list by these runs, by folder; without any, remove it."""
    if not due:
        (folder / FILE).unlink(missing_ok=True)
        return
    content = to_json({os.path.relpath(run, folder): asdict(record) for run, record in due.items()}, indent=1).encode()
    atomic_write(folder / FILE, lambda file: file.write(content))


def never_begun(folder: Path) -> Iterator[tuple[Path, RunRecord]]:
    """The listed runs that have no record yet, each with its folder."""
    try:
        noted = json.loads(read_regular(folder / FILE).decode("utf-8"))
        due = {folder / name: RunRecord.of(content) for name, content in noted.items()}
    except (OSError, ValueError, AttributeError, RecursionError):
        return
    for run, record in due.items():
        if record is not None and not (run / RECORD).exists():
            yield run, record
