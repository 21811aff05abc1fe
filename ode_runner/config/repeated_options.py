"""Options that are typed twice, as behind an alias or a shell variable: the later value counts, as in Hydra."""

from collections import Counter
from collections.abc import Sequence

from ode_runner.config.help import GROUPS
from ode_runner.config.overrides import is_sweep


def last_of_each(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """The overrides without options that are typed again later, and a sentence for each that had another value.

    Choices of groups and options with several values are left as they are, and are refused later.
    """
    pairs = [(_option(word), word) for word in overrides]
    counts = Counter(name for name, _ in pairs if name)
    swept = {name for name, word in pairs if counts[name] > 1 and is_sweep(word)}
    last = {name: i for i, (name, _) in enumerate(pairs) if name and name not in swept}
    kept, remarks = list[str](), list[str]()
    for i, (name, word) in enumerate(pairs):
        later = overrides[last.get(name, i)]
        if last.get(name, i) == i:
            kept.append(word)
        elif word != later:
            remarks.append(f"{word} is not used, because {later} is typed after it")
    return kept, remarks


def _option(word: str) -> str:
    """The name of the option that an override sets, with a `+` as typed; "" for choices of groups and other words."""
    name, equals, _ = word.partition("=")
    plain = name.lstrip("+")
    other = not equals or plain in GROUPS or "@" in plain or "/" in plain or plain.startswith("~")
    return "" if other else name
