"""The command that made a run, in `.hydra/` of its folder. It is read as data, for anybody may have written it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ode_runner.errors import RefusedInput
from ode_runner.recording.atomic_write import atomic_write
from ode_runner.recording.regular_file import read_regular

FOLDER = ".hydra"
OVERRIDES = Path(FOLDER, "overrides.yaml")
MOST_BYTES = 200_000  # nobody types a longer command, and a longer file would be parsed for seconds
DEEPEST = 20  # nested lists and mappings


def stored_overrides(folder: Path) -> list[str]:
    """The overrides of the command that made the run in `folder`, each as it was typed.

    Raises:
        RefusedInput: the file is missing or cannot be read, is not a list of texts, or contains a flag.
    """
    import yaml  # here, so that a report that only looks for runs does not wait for it

    path = folder / OVERRIDES
    words = _loaded(path, yaml.BaseLoader)  # which keeps 1e-3 and true as texts
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise _refusal(path, "it is no list of options")
    if flag := next((word for word in words if word.startswith("-")), None):
        raise _refusal(path, f"{flag[:40]} among its options is a flag")
    return words


def write_command(folder: Path, files: Mapping[str, str]) -> None:
    """Write `.hydra/` into a run folder, from the content of each file by name.

    Hydra itself would do so before the folder is checked, and overwrite the command of whichever run is there.
    """
    command_folder = folder / FOLDER
    if command_folder.is_symlink():  # it might point out of the folder; files that are links are replaced, too
        command_folder.unlink()
    command_folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        _write(command_folder / name, content)


def _write(path: Path, content: str) -> None:
    atomic_write(path, lambda file: file.write(content.encode()))


def stored_yaml(path: Path) -> Any:
    """The content of a yaml file that has neither tags nor aliases.

    Raises:
        RefusedInput: it is missing, cannot be read, or has tags or aliases.
    """
    import yaml

    return _loaded(path, yaml.SafeLoader)


def _loaded(path: Path, loader: Any) -> Any:
    import yaml

    try:
        text = read_regular(path, most_bytes=MOST_BYTES).decode("utf-8")
        _check_plain(text)
        content = yaml.load(text, loader)
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = next(line for line in [*str(error).splitlines(), type(error).__name__] if line.strip())
        problem = getattr(error, "strerror", None) or getattr(error, "problem", None)
    else:
        return content
    raise _refusal(path, problem or reason)  # outside the except block, so that no cause is shown in its place


def _check_plain(text: str) -> None:
    """Raises ValueError for tags, aliases and deep nesting, before loading: aliases multiply, tags make objects."""
    import yaml

    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):  # lazily, because deep nesting takes long to parse
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent) or depth > DEEPEST or getattr(event, "tag", None) is not None:
            raise ValueError("it holds more than plain lists and texts")


def _refusal(path: Path, reason: str) -> RefusedInput:
    return RefusedInput(
        f"{path} does not say how the run was started ({reason}). The run's own command, typed again, rewrites it."
    )
