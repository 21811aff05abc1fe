"""`ode-run new PATH` and `ode-run pack RUN`: subcommands without a configuration. No torch and no Hydra here."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ode_runner.commands.new_project import new_project
from ode_runner.commands.pack import pack
from ode_runner.errors import RefusedInput
from ode_runner.recording.printable import on_one_line

USAGE = {"new": "new PATH", "pack": "pack RUN_FOLDER [ARCHIVE.zip]"}
MOST_PATHS = {"new": 1, "pack": 2}


def run_subcommand(words: Sequence[str]) -> int:
    """Run the subcommand; returns the exit code."""
    name, *paths = words
    try:
        if not 1 <= len(paths) <= MOST_PATHS[name] or any(path.startswith("-") or not path for path in paths):
            raise RefusedInput(f"type: ode-run {USAGE[name]}")
        commands: dict[str, Callable[..., None]] = {"new": new_project, "pack": pack}
        commands[name](*map(Path, paths))
    except RefusedInput as refusal:
        print(f"ode-run: {on_one_line(str(refusal))}", file=sys.stderr)
        return 2
    return 0
