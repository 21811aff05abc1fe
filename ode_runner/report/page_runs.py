"""The table of all runs in the page: options, measurements, a thumbnail, and links to files of the run folder."""

import html
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from ode_runner.recording.relative_path import relative_path
from ode_runner.report.formats import head_cell
from ode_runner.report.quantities import Style
from ode_runner.report.rows import differing_options, plain, value_of
from ode_runner.report.runs import Run
from ode_runner.report.table import Column
from ode_runner.report.thumbnails import pictures_of, thumbnail


def shown_options(runs: Sequence[Run]) -> list[str]:
    """The options that are the first columns of the table; seed and status come after them."""
    return differing_options(runs) or ["model", "solver", "gradient"]


def run_table(runs: Sequence[Run], metrics: Sequence[str], here: Path) -> str:
    """A row for every run, with links that are relative to the folder `here`."""
    names = shown_options(runs)
    values = {name: [run.measurements[name] for run in runs if name in run.measurements] for name in metrics}
    styles = {name: Style.of(name, values[name]) for name in metrics}
    columns = [Column(name=name, unit=styles[name].unit, is_metric=True) for name in metrics]
    head = ["<th data-plain>picture</th>", *(f"<th>{html.escape(name)}</th>" for name in [*names, "seed", "status"])]
    head += [*map(head_cell, columns), "<th>folder</th><th data-plain>look at</th>"]
    lines = [f"<table>\n<thead><tr>{''.join(head)}</tr></thead>\n<tbody>"]
    for run in runs:
        small, *places = _places(run, here)
        texts = [plain(value_of(run, name)) for name in [*names, "seed"]] + [run.record.status.value]
        cells = [f"<td>{content}</td>" for content in (small, *map(html.escape, texts))]
        cells += [f'<td class="number">{_measured(run, name, styles[name])}</td>' for name in metrics]
        cells += [f"<td>{content}</td>" for content in places]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return "\n".join([*lines, "</tbody>\n</table>"])


def _measured(run: Run, name: str, style: Style) -> str:
    return style.write(run.measurements[name]) if name in run.measurements else "-"


def _places(run: Run, here: Path) -> list[str]:
    """A thumbnail, the folder, and the files to open in it, each as links."""
    pictures = pictures_of(run)
    small = next((f'<img class="thumbnail" alt="" src="{data}">' for data in map(thumbnail, pictures[:1]) if data), "")
    places = [*pictures, run.folder / "error.txt", run.folder / "record.json"]
    links = " · ".join(_link(place, here, html.escape(place.stem)) for place in places if place.is_file())
    return [
        _link(pictures[0], here, small) if small else "",
        _link(run.folder, here, html.escape(run.folder.name)),
        links,
    ]


def _link(place: Path, here: Path, content: str) -> str:
    way = relative_path(place.resolve(), here.resolve())
    address = way.as_uri() if way.is_absolute() else quote(way.as_posix())
    return f'<a href="{address}">{content}</a>'
