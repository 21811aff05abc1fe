"""Prints the table to a terminal or, without colour, to a file or pipe."""

import sys

from rich.console import Console
from rich.text import Text

from ode_runner.recording.printable import on_one_line, printable
from ode_runner.report.formats import Report
from ode_runner.report.matching import matchings
from ode_runner.report.orders import legend
from ode_runner.report.table import Cell, Column

WIDE = 10_000  # columns of a file or pipe, so that nothing is wrapped or cut
GAP = "  "


def show(report: Report) -> None:
    """Print the table without wrapping its lines, then what is not in it, and warnings."""
    is_terminal = sys.stdout.isatty()
    console = Console(width=None if is_terminal else WIDE, highlight=False)

    def say(text: str, style: str | None = None) -> None:
        console.print(printable(text), style=style, markup=False, soft_wrap=True)

    if report.shared:
        say(f"all rows: {report.shared}")
    if report.table.rows:
        widths = _widths(report, is_terminal)
        count = _fitting(report.table.columns, widths, console.width)
        console.print(_grid(report, widths[:count], is_terminal), no_wrap=True, crop=False, overflow="ignore")
        say(_legend(report, is_terminal))
        if left_out := report.table.columns[count:]:
            say(f"no room for {', '.join(column.name for column in left_out)}: widen the window, or use --metrics")
        for matching in matchings(report.table):
            for line in matching.lines:
                say(line)
    else:
        say("no run is completed yet")
    for absence in report.absences:
        say(f"{absence.status} ({absence.count}: {absence.named})", style="bold")
        say(f"  {absence.reason}")
    for warning in report.warnings:
        say(f"note: {warning}", style="yellow")


def _grid(report: Report, widths: list[int], is_terminal: bool) -> Text:
    """All lines as one text: a rich.table.Table of a thousand rows takes half a second to lay out."""
    columns = report.table.columns
    shown = list(zip(columns, widths, strict=False))
    grid = Text()
    for i in (0, 1) if any(column.unit for column, _ in shown) else (0,):
        heads = [_aligned(_padded((on_one_line(column.title), column.unit)[i], column, is_terminal), column, width)
                 for column, width in shown]  # fmt: skip
        grid.append(GAP.join(heads).rstrip() + "\n", style="bold")
    grid.append("─" * (sum(widths) + len(GAP) * (len(widths) - 1)) + "\n")
    for cells in report.table.cells:
        for i, ((column, width), cell) in enumerate(zip(shown, cells, strict=False)):
            text = _aligned(_marked(cell, column, is_terminal), column, width)
            text = text.rstrip() if i == len(shown) - 1 else text
            grid.append((GAP if i else "") + text, style="bold green" if cell.best else None)
        grid.append("\n")
    grid.right_crop()
    return grid


def _widths(report: Report, is_terminal: bool) -> list[int]:
    """The width of every column."""
    bodies = zip(*report.table.cells, strict=True)
    return [
        max(
            *(len(_padded(text, column, is_terminal)) for text in (on_one_line(column.title), column.unit)),
            *(len(_marked(cell, column, is_terminal)) for cell in body),
        )
        for column, body in zip(report.table.columns, bodies, strict=True)
    ]


def _fitting(columns: list[Column], widths: list[int], room: int) -> int:
    """How many columns to show without cutting a number; at least up to the first measurement."""
    first = next((i for i, column in enumerate(columns) if column.is_metric), len(columns))
    count = len(columns)
    while count > first + 1 and sum(widths[:count]) + len(GAP) * (count - 1) > room:
        count -= 1
    return count


def _padded(text: str, column: Column, is_terminal: bool) -> str:
    return text if is_terminal or not column.is_metric else f"{text}  "


def _marked(cell: Cell, column: Column, is_terminal: bool) -> str:
    """The text of a cell. Without bold, the best has a star and others are padded, so that digits are aligned."""
    text = on_one_line(cell.text)
    return f"{text} *" if cell.best and not is_terminal else _padded(text, column, is_terminal)


def _aligned(text: str, column: Column, width: int) -> str:
    return text.rjust(width) if column.is_metric else text.ljust(width)


def _legend(report: Report, is_terminal: bool) -> str:
    parts = []
    if any(cell.statistic and cell.statistic.deviation is not None for cells in report.table.cells for cell in cells):
        parts.append("mean ± standard deviation")
    if any(cell.best for cells in report.table.cells for cell in cells):
        parts.append("best in bold" if is_terminal else "* best")
    if orders := legend(report.table.rows, [column.name for column in report.table.columns]):
        parts.append(orders)
    return "; ".join(parts)
