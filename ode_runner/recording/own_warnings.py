"""Warnings of the engine, which a script sees as Python's, as lines of a run."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parents[1]


@contextmanager
def warnings_told(say: Callable[[str], None]) -> Iterator[None]:
    """Hand the sentence of each warning of this package to `say`, once; those of others are shown as they were.

    Python itself says it again after any change of its filters, which torch makes on its way.
    """
    with warnings.catch_warnings():
        shown, said = warnings.showwarning, set[str]()

        def tell(message: Warning | str, category: type[Warning], filename: str, *where: Any, **more: Any) -> None:
            if PACKAGE not in Path(filename).resolve().parents:
                shown(message, category, filename, *where, **more)
            elif str(message) not in said:
                said.add(str(message))
                say(str(message))

        warnings.showwarning = tell
        yield
