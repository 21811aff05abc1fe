"""Tables of numbers as csv: a line for each row, ended by a line feed, with values as Python writes them."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from ode_runner.recording.atomic_write import atomic_write


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """The table as text; every row has as many values as the header, and None is an empty field."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write the table into `path`, whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    content = csv_text(header, rows).encode()
    atomic_write(path, lambda file: file.write(content))
