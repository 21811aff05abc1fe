"""Pictures of a report on their way into files: one that cannot be drawn costs itself and nothing else."""

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from ode_runner.errors import RefusedInput, in_short


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure, its file name without ending, and what it shows."""

    name: str
    caption: str
    figure: Figure


Undrawn = dict[str, str]  # by the name of a picture that could not be drawn, why


def rendered(picture: Picture, kind: str, undrawn: Undrawn) -> bytes | None:
    """The content of a file of the kind, `png` or `svg`; None, and a word in `undrawn`, where there is none."""
    with noted(picture.name, undrawn):
        content = io.BytesIO()
        picture.figure.savefig(content, format=kind)
        return content.getvalue()
    return None


def write_pictures(pictures: Iterable[Picture], folder: Path, undrawn: Undrawn) -> None:
    """As PNG files, all that can be drawn.

    Raises:
        RefusedInput: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for picture in pictures:
            if content := rendered(picture, "png", undrawn):
                (folder / f"{picture.name}.png").write_bytes(content)
    except OSError as error:
        raise RefusedInput(f"cannot write pictures to {folder} ({error.strerror}).") from error


def told(undrawn: Undrawn) -> list[str]:
    """A sentence for each picture that is missing."""
    return [f"the picture '{name}' could not be drawn: {reason}" for name, reason in undrawn.items()]


@contextmanager
def noted(name: str, undrawn: Undrawn) -> Iterator[None]:
    """Whatever goes wrong while a picture is made costs that picture only."""
    try:
        yield
    except Exception as error:
        undrawn[name] = in_short(error)
