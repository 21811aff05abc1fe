"""Text in aligned columns without trailing blanks, and paths that are not broken over lines."""

import shutil
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

GAP = "  "


def aligned(rows: Sequence[Sequence[str]], *, right: Collection[int] = (), gap: str = GAP) -> list[str]:
    """A line for each row. Columns are left-aligned, except those with an index in `right`."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        gap.join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def with_folder(text: str, folder: Path) -> list[str]:
    """One line, or two if a narrow terminal would break the path, so that it can be copied."""
    line = f"{text}      {folder}"
    fits = not sys.stdout.isatty() or len(line) <= shutil.get_terminal_size().columns
    return [line] if fits else [text, f"{GAP}{folder}"]
