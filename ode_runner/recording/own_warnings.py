"""Prints the warnings of this package as lines of a run; in a script they remain Python warnings."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parents[1]


@contextmanager
def warnings_printed(say: Callable[[str], None]) -> Iterator[None]:
    """Pass each warning of this package to `say`, once. Other warnings are shown as before.

    Python alone would show one repeatedly: torch changes the warning filters, which resets Python's memory of them.
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
