"""Options that are typed twice, as behind an alias or a shell variable: the later value counts, as in Hydra."""

from collections.abc import Sequence

from ode_runner.config.help import GROUPS
from ode_runner.config.overrides import is_sweep


def last_of_each(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """The overrides without options that are typed again later, and a sentence for each that had another value.

    Choices of groups and options with several values are left as they are, and are refused later.
    """
    last = {name: word for word in overrides if (name := _option(word))}
    kept = [word for i, word in enumerate(overrides) if not _option(word) or word not in overrides[i + 1 :]]
    replaced = [word for word in kept if word != last.get(_option(word), word)]
    remarks = [f"{word} is not used, because {last[_option(word)]} is typed after it" for word in replaced]
    return [word for word in kept if word not in replaced], remarks


def _option(word: str) -> str:
    """The name of the option that an override sets to one value, with a `+` as typed; "" for other overrides."""
    name, equals, _ = word.partition("=")
    plain = name.lstrip("+")
    other = not equals or plain in GROUPS or "@" in plain or "/" in plain or plain.startswith("~")
    return "" if other or is_sweep(word) else name
