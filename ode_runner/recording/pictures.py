"""Saves pictures into files and the logger; one that cannot be drawn is left out and reported."""

import io
import re
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ode_runner.errors import in_short
from ode_runner.plots.animation import Animation, Picture
from ode_runner.recording.atomic_write import atomic_write
from ode_runner.recording.display import Display
from ode_runner.recording.logger import MetricLogger
from ode_runner.recording.regular_file import check_regular

MISSING = re.compile(r"Glyph (\d+) .* missing from")  # a warning of matplotlib's
TRACEBACKS = "error.txt"  # beside the pictures

Pictures = Callable[[], Iterable[tuple[str, Picture]]]  # file names without extension, and figures or animations


def save_pictures(
    pictures: Pictures, *, folder: Path, display: Display, logger: MetricLogger | None = None, step: int = 0
) -> list[str]:
    """Save pictures as files in `folder` and in the logger; returns the names of those that could be drawn.

    The results exist already, so exceptions are caught, as is sys.exit() in a plotting script, but not an interrupt.
    One line says which picture is missing and why. The tracebacks are in a file beside the pictures.
    """
    with _missing_signs_printed(display):
        return _saved(pictures, folder, display, logger, step)


def _saved(pictures: Pictures, folder: Path, display: Display, logger: MetricLogger | None, step: int) -> list[str]:
    latest, drawn, failures = "", list[str](), dict[str, BaseException]()
    try:
        folder.mkdir(exist_ok=True)
        for latest, picture in pictures():
            try:
                image = _save(picture, folder, latest)
                if logger is not None and not isinstance(picture, Animation):
                    logger.picture(latest, image, step=step)
                drawn.append(latest)
            except (Exception, SystemExit) as error:
                failures[f"'{latest}'"] = error
    except (Exception, SystemExit) as error:  # raised by the generator itself, which then yields no more
        failures[f"the one after '{latest}'" if latest else "the first"] = error
    if failures:
        _report(failures, folder, display)
    return drawn


@contextmanager
def _missing_signs_printed(display: Display) -> Iterator[None]:
    """Print once which characters are boxes in pictures; matplotlib warns at each occurrence."""
    shown, missing = warnings.showwarning, set[str]()

    def tell(message: Warning | str, *where: Any, **more: Any) -> None:
        if found := MISSING.match(str(message)):
            missing.add(chr(int(found[1])))
        else:
            shown(message, *where, **more)

    with warnings.catch_warnings():
        warnings.filterwarnings("always", MISSING.pattern)
        warnings.showwarning = tell
        yield
    if missing:
        display.say(f"in pictures boxes stand for {' '.join(sorted(missing))}, which matplotlib's font lacks")


def _save(picture: Picture, folder: Path, name: str) -> bytes:
    """Save a figure as NAME.png, or an animation as NAME.gif; returns the file's content."""
    if isinstance(picture, Animation):
        content, ending = picture.gif(), "gif"
    else:
        image = io.BytesIO()
        picture.savefig(image, format="png")
        content, ending = image.getvalue(), "png"
    atomic_write(folder / f"{name}.{ending}", lambda file: file.write(content))
    return content


def _report(failures: Mapping[str, BaseException], folder: Path, display: Display) -> None:
    reasons = "; ".join(f"{which}: {in_short(error)}" for which, error in failures.items())
    kept = "the result stands."
    try:
        text = "\n".join("".join(traceback.format_exception(error)) for error in failures.values())
        with suppress(FileNotFoundError):
            check_regular(folder / TRACEBACKS)
        with (folder / TRACEBACKS).open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        kept = f"the result stands (traceback in {folder / TRACEBACKS})."
    except OSError:  # the disk is full, or the path is not a regular file
        pass
    display.say(f"not all pictures could be drawn: {reasons}; {kept}", style="yellow")
