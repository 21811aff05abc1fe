"""A self-contained HTML page: tables to sort and filter, curves, pictures, links to the run folders.

`page.css` and `page.js` are its style and its script.
"""

import base64
import datetime
import html
from collections.abc import Sequence
from pathlib import Path

from ode_runner.errors import RefusedInput
from ode_runner.report.formats import Report, hypertext, matched
from ode_runner.report.orders import ENDING
from ode_runner.report.page_curves import curve_data
from ode_runner.report.page_runs import run_table
from ode_runner.report.picture_files import Failures, Picture, failure_sentences, noting_failure, rendered
from ode_runner.report.runs import Run


def write_page(
    path: Path,
    report: Report,
    pictures: Sequence[Picture],
    *,
    undrawn: Failures,
    runs: Sequence[Run],
    folders: Sequence[Path],
) -> None:
    """Write the page; pictures that cannot be drawn are named in it, and in `undrawn`.

    Raises:
        RefusedInput: the page cannot be written there.
    """
    title = f"ode-report {' '.join(map(str, folders))}"
    when = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    count = f"{len(runs)} run{'s' * (len(runs) != 1)}"
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width">',
        f"<title>{html.escape(title)}</title><style>{_beside('page.css')}</style></head><body>",
        f'<h1>{html.escape(title)}</h1><p class="small">{count} · {when}</p>',
        f'<h2>Configurations</h2><div id="configurations">{hypertext(report)}</div>',
        f'<p class="small">{_LEGEND}</p>' if report.table.rows else "",
        *matched(report.table),
        f'<h2>Runs</h2><div id="runs">{run_table(runs, _metrics(report), path.parent)}</div>',
        *_curves(runs, undrawn),
        "<h2>Pictures</h2>" if pictures else "",
        *(_figure(picture, undrawn) for picture in pictures),
        *(f'<p class="warning">{html.escape(line)}</p>' for line in failure_sentences(undrawn)),
        f"<script>{_beside('page.js')}</script></body></html>\n",
    ]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(parts), encoding="utf-8")
    except OSError as error:
        raise RefusedInput(f"cannot write the page to {path} ({error.strerror}).") from error


_LEGEND = "Mean ± standard deviation over seeds; the best of each task in bold. Results are of the test split."


def _beside(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _metrics(report: Report) -> list[str]:
    """The measurements in the report's table that a single run has as well: all but orders."""
    return [column.name for column in report.table.columns if column.is_metric and not column.name.endswith(ENDING)]


def _curves(runs: Sequence[Run], undrawn: Failures) -> list[str]:
    with noting_failure("curves", undrawn):
        if data := curve_data(runs):
            return [
                '<h2>Curves</h2><p class="small">Of the runs shown above. A click on one leads to its row.</p>',
                f'<div id="curves"></div><script type="application/json" id="curve-data">{data}</script>',
            ]
    return []


def _figure(picture: Picture, undrawn: Failures) -> str:
    drawn = rendered(picture, "svg", undrawn)
    if drawn is None:
        return ""
    data = base64.b64encode(drawn).decode("ascii")
    caption = html.escape(picture.caption)
    image = f'<img alt="{caption}" src="data:image/svg+xml;base64,{data}">'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"
