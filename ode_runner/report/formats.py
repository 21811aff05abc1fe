"""The table as Markdown, CSV, LaTeX or HTML, with failures and warnings if the format has a place for text."""

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ode_runner.recording.csv_table import csv_text
from ode_runner.report.matching import Matching, matchings
from ode_runner.report.quantities import direction
from ode_runner.report.remarks import Absence
from ode_runner.report.table import Cell, Column, Table

FEW = 5  # reasons why runs are not in a table: more are folded


@dataclass(frozen=True, kw_only=True)
class Report:
    """A table, with the runs that are not in it and the warnings about it."""

    table: Table
    absences: list[Absence] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def shared(self) -> str:
        return " · ".join(f"{axis}={value}" for axis, value in self.table.shared.items())


def heading(column: Column) -> str:
    """The title of a column, with its unit in brackets."""
    return f"{column.title} [{column.unit}]" if column.unit else column.title


def markdown(report: Report) -> str:
    """A pipe table, then lists: matchings, what is not in the table, and warnings."""
    table = report.table
    rules = ["---:" if column.is_metric else "---" for column in table.columns]
    lines = [f"All rows: {report.shared}", ""] if report.shared else []
    lines += [_piped([_piped_text(heading(column)) for column in table.columns]), _piped(rules)]
    lines += [_piped([_bold(cell, "**", "**", _piped_text) for cell in cells]) for cells in table.cells]
    lines += [line for matching in matchings(table) for line in _listed_in_markdown(matching)]
    lines += ["", *(f"- **{a.status}** ({a.count}: {a.named}): {a.reason}" for a in report.absences)]
    lines += ["", *(f"> {warning}" for warning in report.warnings)]
    return "\n".join(lines).rstrip() + "\n"


def _listed_in_markdown(matching: Matching) -> list[str]:
    return ["", matching.heading, "", *(f"- {value}: {' · '.join(rows)}" for value, rows in matching.groups.items())]


def comma_separated(report: Report) -> str:
    """Raw numbers in the units of the record, mean and standard deviation in separate columns; empty if missing."""
    table = report.table
    head: list[str] = []
    for column in table.columns:
        head += [column.name, f"{column.name} std"] if column.is_metric else [column.name]
    lines: list[list[str]] = []
    for cells in table.cells:
        line: list[str] = []
        for column, cell in zip(table.columns, cells, strict=True):
            line += _numbers(cell) if column.is_metric else [str(cell.statistic.mean) if cell.statistic else cell.text]
        lines.append(line)
    return csv_text(head, lines)


def latex(report: Report) -> str:
    """A tabular in the style of booktabs; matchings, failures and warnings are comments."""
    table = report.table
    kinds = "".join("r" if column.is_metric else "l" for column in table.columns)
    lines = [f"% {line}" for matching in matchings(table) for line in matching.lines]
    lines += [f"% {line}" for line in _remarks(report)]
    lines += ["% needs \\usepackage{booktabs}", f"\\begin{{tabular}}{{{kinds}}}", "\\toprule"]
    lines.append(" & ".join(_tex(heading(column)) for column in table.columns) + " \\\\")
    lines.append("\\midrule")
    lines += [" & ".join(_bold(cell, "\\textbf{", "}", _tex) for cell in cells) + " \\\\" for cells in table.cells]
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


def fragment(report: Report) -> str:
    """The table, remarks and matchings as an HTML fragment."""
    return "\n".join([hypertext(report).rstrip("\n"), *matched(report.table)]) + "\n"


def hypertext(report: Report) -> str:
    """A table element, and lists of what is not in it and of warnings."""
    table = report.table
    head = "".join(head_cell(column) for column in table.columns)
    body = "\n".join(
        "<tr>" + "".join(
            _cell(_bold(cell, "<b>", "</b>", html.escape), column)
            for column, cell in zip(table.columns, cells, strict=True)
        ) + "</tr>"
        for cells in table.cells
    )  # fmt: skip
    lines = [f"<p>All rows: {html.escape(report.shared)}</p>"] if report.shared else []
    lines.append(f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>")
    lines += _listed(report.absences)
    lines += [f'<p class="warning">{html.escape(warning)}</p>' for warning in report.warnings]
    return "\n".join(lines) + "\n"


def matched(table: Table) -> list[str]:
    """Two lists side by side; not tables, because the page's script would make those sortable."""
    if not (both := matchings(table)):
        return []
    lists = [f"<div><h3>{html.escape(one.title)}</h3><dl>{_groups(one)}</dl></div>" for one in both]
    said = f'<p class="small">{html.escape(both[0].entries)}; the best first.</p>'
    return ["<h2>Of equal size, and of equal work</h2>", said, f'<div class="beside">{"".join(lists)}</div>']


def _groups(matching: Matching) -> str:
    return "".join(
        f"<dt>{html.escape(value)}</dt><dd>{'<br>'.join(map(html.escape, entries))}</dd>"
        for value, entries in matching.groups.items()
    )


def _listed(absences: Sequence[Absence]) -> list[str]:
    """A list of what is not in the table; folded if it is long, so that what follows stays in sight."""
    if not absences:
        return []
    items = [
        f"<li><b>{html.escape(absence.status)}</b> ({html.escape(f'{absence.count}: {absence.named}')})<br>"
        f"{html.escape(absence.reason)}</li>"
        for absence in absences
    ]
    found = ['<ul class="absent">', *items, "</ul>"]
    if len(absences) <= FEW:
        return found
    runs = sum(len(absence.folders) for absence in absences)
    return [f"<details><summary>{runs} runs are not in the table</summary>", *found, "</details>"]


def head_cell(column: Column) -> str:
    """A heading; for measurements, with the direction in which the page sorts first, so that the best come first."""
    words = html.escape(heading(column))
    if not column.is_metric:
        return f"<th>{words}</th>"
    first = "descending" if direction(column.name) > 0 else "ascending"
    return f'<th class="number" data-first="{first}">{words}</th>'


FORMATS: dict[str, Callable[[Report], str]] = {
    "md": markdown,
    "csv": comma_separated,
    "latex": latex,
    "html": fragment,
}


def _remarks(report: Report) -> list[str]:
    """Absences and warnings, one line each."""
    return [f"{a.status} ({a.count}: {a.named}): {a.reason}" for a in report.absences] + report.warnings


def _numbers(cell: Cell) -> list[str]:
    if cell.statistic is None:
        return ["", ""]
    deviation = cell.statistic.deviation
    return [repr(cell.statistic.mean), "" if deviation is None else repr(deviation)]


def _bold(cell: Cell, before: str, after: str, escape: Callable[[str], str]) -> str:
    return f"{before}{escape(cell.text)}{after}" if cell.best else escape(cell.text)


def _piped(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _piped_text(text: str) -> str:
    return text.replace("|", "\\|")


def _cell(content: str, column: Column) -> str:
    return f'<td class="number">{content}</td>' if column.is_metric else f"<td>{content}</td>"


def _tex(text: str) -> str:
    special = {"\\": "\\textbackslash{}", "^": "\\^{}", "~": "\\~{}", "±": "$\\pm$"}
    special |= {character: f"\\{character}" for character in "%_&#${}"}
    return "".join(special.get(character, character) for character in text)
