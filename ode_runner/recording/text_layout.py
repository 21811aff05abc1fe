"""Text in columns and in lines: no trailing blanks, and no path broken that could stand whole."""

import shutil
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

GAP = "  "


def aligned(rows: Sequence[Sequence[str]], *, right: Collection[int] = (), gap: str = GAP) -> list[str]:
    """A line for each row; columns are aligned to the left, those named to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        gap.join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def with_folder(text: str, folder: Path) -> list[str]:
    """One line, or two where the terminal is so narrow that it would break the path, which is there to be copied."""
    line = f"{text}      {folder}"
    fits = not sys.stdout.isatty() or len(line) <= shutil.get_terminal_size().columns
    return [line] if fits else [text, f"{GAP}{folder}"]
