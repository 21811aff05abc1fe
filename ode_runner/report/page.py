"""One HTML page that needs nothing but itself: table, pictures, and links to the run folders."""

import base64
import datetime
import html
import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from ode_runner.errors import RefusedInput
from ode_runner.report.drawn import Failures, Picture, failure_sentences, rendered
from ode_runner.report.formats import Report, hypertext
from ode_runner.report.rows import differing_options, plain, value_of
from ode_runner.report.runs import Run

CSS = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1450px; margin: 2em auto; padding: 0 1.5em; }
h1 { font-size: 1.5em; margin-bottom: 0; } h2 { font-size: 1.15em; margin-top: 2.2em; } .small { color: #666; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; display: block; overflow-x: auto; }
th { text-align: left; border-bottom: 2px solid #222; vertical-align: bottom; } td { border-bottom: 1px solid #ddd; }
th, td { padding: .3em .9em .3em 0; white-space: nowrap; } .number { text-align: right; padding-left: .9em; }
td b { color: #006a4e; } .absent { padding-left: 1.2em; } .absent li { margin-bottom: .5em; }
.warning { background: #fff6e0; border-left: 4px solid #E69F00; padding: .4em .8em; }
figure { margin: 1.5em 0; } figure img { max-width: 100%; } figcaption { color: #444; }
a { color: #0072B2; }
"""


def write_page(
    path: Path,
    report: Report,
    pictures: Sequence[Picture],
    *,
    undrawn: Failures,
    runs: Sequence[Run],
    folders: Sequence[Path],
) -> None:
    """Write the page; what cannot be drawn is named in its place, and in `undrawn`.

    Raises:
        RefusedInput: it cannot be written there.
    """
    title = f"ode-report {' '.join(map(str, folders))}"
    when = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width">',
        f"<title>{html.escape(title)}</title><style>{CSS}</style></head><body>",
        f'<h1>{html.escape(title)}</h1><p class="small">{len(runs)} runs · {when}</p>',
        f"<h2>Configurations</h2>{hypertext(report)}",
        f'<p class="small">{_LEGEND}</p>' if report.table.rows else "",
        "<h2>Pictures</h2>" if pictures else "",
        *(_figure(picture, undrawn) for picture in pictures),
        *(f'<p class="warning">{html.escape(line)}</p>' for line in failure_sentences(undrawn)),
        f"<h2>Runs</h2>{_run_table(runs, path.parent)}</body></html>\n",
    ]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(parts), encoding="utf-8")
    except OSError as error:
        raise RefusedInput(f"cannot write the page to {path} ({error.strerror}).") from error


_LEGEND = "Mean ± standard deviation over seeds; the best of each task in bold. Results are of the test split."


def _figure(picture: Picture, undrawn: Failures) -> str:
    drawn = rendered(picture, "svg", undrawn)
    if drawn is None:
        return ""
    data = base64.b64encode(drawn).decode("ascii")
    caption = html.escape(picture.caption)
    image = f'<img alt="{caption}" src="data:image/svg+xml;base64,{data}">'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


def _run_table(runs: Sequence[Run], here: Path) -> str:
    """Every run with links that open from the page's own place."""
    names = differing_options(runs) or ["model", "solver", "gradient"]
    head = "".join(f"<th>{html.escape(name)}</th>" for name in [*names, "seed", "status", "folder", "look at"])
    lines = [f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>"]
    for run in runs:
        values = [plain(value_of(run, name)) for name in names]
        cells = [html.escape(value) for value in [*values, str(run.record.seed), run.record.status.value]]
        cells += [_link(run.folder, here, run.folder.name), _links(run, here)]
        lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return "\n".join([*lines, "</tbody>\n</table>"])


def _links(run: Run, here: Path) -> str:
    pictures = sorted(path for path in (run.folder / "plots").glob("*") if path.suffix in (".png", ".gif"))
    places = [*pictures, run.folder / "error.txt", run.folder / "record.json"]
    return " · ".join(_link(place, here, place.stem) for place in places if place.is_file())


def _link(place: Path, here: Path, words: str) -> str:
    relative = Path(os.path.relpath(place.resolve(), here.resolve())).as_posix()
    return f'<a href="{quote(relative)}">{html.escape(words)}</a>'
