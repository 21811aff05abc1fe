"""Whose code a command runs: opening a run executes no code that its files name or that is beside them."""

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ode_runner.config.arguments import parse
from ode_runner.config.booleans import check_boolean
from ode_runner.config.command_names import names_a_run
from ode_runner.config.help import conf_dir, targets_in, user_folders
from ode_runner.errors import RefusedInput

ASKED = "trust=true"
LIBRARY = re.compile(r"torchvision\.transforms\.v2\.[A-Z]\w*")  # also trusted: a library's code


def set_import_path(words: list[str]) -> None:
    """Put the working directory on sys.path, or remove it if a run is opened without -cd or trust=true.

    A user's classes are in the working directory. But if evaluate=FOLDER is typed among somebody else's files, none of
    these may be imported: neither a model that the run names, nor a folder hydra_plugins, which Hydra would import.
    """
    cwd = os.getcwd()
    opened = any(names_a_run(word) for word in parse(words).overrides)
    if opened and not user_folders(words) and ASKED not in words:
        sys.path[:1] = [place for place in sys.path[:1] if place not in ("", cwd)]  # put there by `python -m`
    elif not sys.flags.safe_path:  # python -P, PYTHONSAFEPATH
        sys.path.insert(0, cwd)


def check_trust(config: Mapping[str, Any], folders: Sequence[Path], *, opened: Path, trust: object) -> None:
    """Refuse code that an opened run brings along.

    Args:
        config: the unresolved configuration of the run.
        folders: folders of choices that the user has named by -cd; their code is trusted, as is that of built-in ones.
        opened: the run folder, for the message.
        trust: the option of that name; true allows any code.

    Raises:
        RefusedInput: the configuration names a class or a resolver that no trusted yaml names.
    """
    check_boolean("trust", trust)
    trusted = [conf_dir(), *folders]
    known = {name for folder in trusted for path in folder.rglob("*.yaml") for name in targets_in(path)}
    foreign = sorted({name for name in code_named(config) if name not in known and not LIBRARY.fullmatch(name)})
    if foreign and not trust:
        raise RefusedInput(
            f"the run in {opened} asks for code that is not this program's: {', '.join(foreign)}. Add -cd FOLDER where "
            f"your own choices name it, or {ASKED} if you know whose it is and want it run."
        )


def code_named(value: Any) -> Iterator[str]:
    """Every class, and every interpolation with a resolver (`${oc.env:HOME}`), in an unresolved configuration."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key == "_target_":
                yield str(inner)
            yield from code_named(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from code_named(inner)
    elif isinstance(value, str):
        yield from (match[0] for match in re.finditer(r"\$\{[^{}]*:.*\}", value, re.DOTALL))
