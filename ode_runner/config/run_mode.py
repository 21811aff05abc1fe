"""Tells one run from a sweep by the words of the command line, if they suffice, without composing a configuration."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hydra._internal.hydra import Hydra

from ode_runner.config.arguments import parse, root_of

MAKE_SWEEPS = ("grid", "search")  # the built-in groups whose choices set hydra.mode
ELSEWHERE = ("--config-dir", "--config-path", "--config-name")


@contextmanager
def known_from_words(words: Sequence[str]) -> Iterator[None]:
    """Inside, Hydra composes the configuration once to run it, and not once before that to read `hydra.mode`.

    Composing takes a sixth of a second. It is still done twice if a word, a preset or a user's yaml may set the mode.
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
    """Replaces `Hydra.get_mode`: the configuration sets neither RUN nor MULTIRUN, so the flag -m decides."""
