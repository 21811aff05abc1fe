"""The typed options, shortened for the name of a run's folder."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from ode_runner.config.arguments import root_of
from ode_runner.config.help import GROUPS
from ode_runner.recording.bookkeeping import (
    COMMAND_OPTIONS,
    COMMANDS,
    KNOWN_BY,
    OBSERVERS,
    PLACEMENT,
    PRESETS,
    PROCESSES,
    WATCHING,
)

MOST_SIGNS = 40  # characters of all options together: file systems allow names of 255, and people read fewer
UNSEEN = {
    "trainer.device",
    *(f"{group}.{option}" for known in (WATCHING, KNOWN_BY) for group, options in known.items() for option in options),
}
SILENT = {"hydra", "seed", *COMMANDS, *OBSERVERS, *PLACEMENT, *COMMAND_OPTIONS, *PRESETS, *PROCESSES}


def shortened_options(words: Sequence[str], *, named: Collection[str], unused: Collection[str]) -> list[str]:
    """Each option by the last part of its name, `lr=0.01`, and each choice by its value, `conv`.

    An option whose last part is also that of another is called by its whole name, `optimizer.lr=0.01`. As many as
    fit, then `+3` for three more. Options that do not change the result are left out.

    Args:
        words: overrides of one run, as typed.
        named: groups whose choice is already in the folder's name.
        unused: groups that the run does not use; their options are left out.
    """
    options, kept = dict(_options(words, named, unused)), list[str]()
    count = Counter(map(_last, options))
    names = {key: _last(key) if count[_last(key)] == 1 else _plain(key) for key in options}
    items = [shown if key in GROUPS else f"{names[key]}={shown}" for key, shown in options.items()]
    while items and len("-".join([*kept, items[0]])) <= MOST_SIGNS:
        kept.append(items.pop(0))
    return kept + ([f"+{len(items)}"] if items else [])


def _options(words: Sequence[str], named: Collection[str], unused: Collection[str]) -> Iterator[tuple[str, str]]:
    """The names and values of the options that are shown."""
    for word in words:
        key, _, value = word.lstrip("+").partition("=")
        root = root_of(word)
        shown = _plain(value)
        silent = root in SILENT or root in unused or key in named or key in UNSEEN
        if silent or word.startswith("~") or shown in ("", "null"):
            continue
        yield key, shown


def _plain(text: str) -> str:
    """With `_` for signs that names of folders may not have."""
    return re.sub(r"[^\w.+-]+", "_", text).strip("_")


def _last(key: str) -> str:
    return re.split(r"[.@]", key)[-1]
