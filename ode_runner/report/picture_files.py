"""Writes the pictures of a report into files; one that cannot be drawn is left out and reported."""

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ode_runner.errors import RefusedInput, in_short
from ode_runner.plots.figure_types import Figure


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure, its file name without extension, and a caption."""

    name: str
    caption: str
    figure: Figure


Failures = dict[str, str]  # the reason, by the name of a picture that could not be drawn


def rendered(picture: Picture, kind: str, undrawn: Failures) -> bytes | None:
    """The content of a file of the format `kind`, such as `png`; None, with the reason in `undrawn`, on failure."""
    with noting_failure(picture.name, undrawn):
        content = io.BytesIO()
        picture.figure.savefig(content, format=kind)
        return content.getvalue()
    return None


def write_pictures(pictures: Iterable[Picture], folder: Path, kind: str, undrawn: Failures) -> None:
    """Write the pictures that can be drawn as files of the format `kind`.

    Raises:
        RefusedInput: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for picture in pictures:
            if content := rendered(picture, kind, undrawn):
                (folder / f"{picture.name}.{kind}").write_bytes(content)
    except OSError as error:
        raise RefusedInput(f"cannot write pictures to {folder} ({error.strerror}).") from error


def failure_sentences(undrawn: Failures) -> list[str]:
    """A sentence for each picture that is missing."""
    return [f"the picture '{name}' could not be drawn: {reason}" for name, reason in undrawn.items()]


@contextmanager
def noting_failure(name: str, undrawn: Failures) -> Iterator[None]:
    """Put the reason of any exception raised inside into `undrawn`, under the picture's name, and go on."""
    try:
        yield
    except Exception as error:
        undrawn[name] = in_short(error)
