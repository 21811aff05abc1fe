"""What Hydra asks first, one run or a sweep, answered from the words of a command line where they suffice."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hydra._internal.hydra import Hydra

from ode_runner.config.arguments import parse, root_of

MAKE_SWEEPS = ("grid", "search")  # the built-in groups whose choices set hydra.mode
ELSEWHERE = ("--config-dir", "--config-path", "--config-name")


@contextmanager
def known_from_words(words: Sequence[str]) -> Iterator[None]:
    """Within it, Hydra does not compose the configuration only to read `hydra.mode` and then once more to run it.

    Composing takes a sixth of a second. Where a word, a preset or a yaml of one's own may set the mode, it still does.
    """
    asked = Hydra.get_mode
    if not _may_set_mode(words):
        Hydra.get_mode = _none_set  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        Hydra.get_mode = asked  # type: ignore[method-assign]


def _may_set_mode(words: Sequence[str]) -> bool:
    arguments = parse(words)
    own = any(flag.name in ELSEWHERE for flag in arguments.flags)
    return own or any(root_of(word) in (*MAKE_SWEEPS, "hydra") for word in arguments.overrides)


def _none_set(hydra: Hydra, config_name: str | None, overrides: list[str]) -> None:
    """In place of `Hydra.get_mode`: neither RUN nor MULTIRUN is set, so the flag -m decides."""
