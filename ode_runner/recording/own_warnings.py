"""Warnings of the engine, which a script sees as Python's, as lines of a run."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parents[1]


@contextmanager
def warnings_told(say: Callable[[str], None]) -> Iterator[None]:
    """Hand the sentence of each warning of this package to `say`; those of others are shown as they were."""
    with warnings.catch_warnings():
        shown = warnings.showwarning

        def tell(message: Warning | str, category: type[Warning], filename: str, *where: Any, **more: Any) -> None:
            if PACKAGE in Path(filename).resolve().parents:
                say(str(message))
            else:
                shown(message, category, filename, *where, **more)

        warnings.showwarning = tell
        yield
