"""The page of `ode-report --html` under the mouse, in headless Chromium."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ode_runner.recording.record import RunStatus
from ode_runner.report.page_curves import MOST_POINTS, curve_data
from ode_runner.report.runs import find_runs
from ode_runner.report.thumbnails import pictures_of, thumbnail
from tests.chromium import Page, browser
from tests.reporting import reported, write_run

ACCURACY = {"euler": 0.9, "rk4": 0.99, "dopri5": 0.5}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """Of three solvers with two seeds each, and a run that failed."""
    root = tmp_path_factory.mktemp("page")
    for solver, accuracy in ACCURACY.items():
        for seed in (0, 1):
            metrics = {"test/accuracy": accuracy + seed / 1000, "test/loss": 1 - accuracy, "eval/accuracy": 0.8}
            folder = write_run(root / "outputs", f"{solver}-{seed}", solver=solver, seed=seed, metrics=metrics, rows=5)
            (folder / "plots").mkdir()
            Image.new("RGB", (600, 400), "orange").save(folder / "plots" / "decision_regions.png")
    write_run(root / "outputs", "failed", solver="rk4", seed=2, status=RunStatus.FAILED, metrics={}, cost={"epochs": 0})
    ended = reported("outputs", "--html", "page.html", cwd=root)
    assert ended.returncode == 0, ended.stderr
    with browser() as opened:
        opened.open(root / "page.html")
        yield opened


def column(page: Page, number: int, table: str = "#runs") -> list[str]:
    """The texts of a column, from the top."""
    return page.value(f"[...document.querySelectorAll('{table} tbody tr')].map(r => r.cells[{number}].textContent)")


def heading(words: str, table: str = "#runs", inside: str = "") -> str:
    """The JavaScript for the heading that begins so."""
    return f"[...document.querySelectorAll('{table} thead th{inside}')].find(e => e.textContent.startsWith('{words}'))"


def test_a_click_on_a_heading_sorts_from_the_best_and_another_the_other_way(page: Page) -> None:
    page.click(heading("test/accuracy", inside=" button"))
    accuracies = column(page, 4)
    assert accuracies == ["99.10", "99.00", "90.10", "90.00", "50.10", "50.00", "-"]
    assert page.value(heading("test/accuracy") + ".getAttribute('aria-sort')") == "descending"
    page.click(heading("test/accuracy", inside=" button"))
    assert column(page, 4) == [*reversed(accuracies[:-1]), "-"], "what is absent stays last"
    page.click(heading("test/loss", inside=" button"))
    assert column(page, 1)[:2] == ["rk4", "rk4"], "of a loss, the lowest first"
    page.click(heading("solver", inside=" button"))
    assert column(page, 1) == ["dopri5"] * 2 + ["euler"] * 2 + ["rk4"] * 3
    assert page.value(heading("test/loss") + ".getAttribute('aria-sort')") is None


def test_tables_are_sorted_apart(page: Page) -> None:
    page.click(heading("seed", inside=" button"))
    runs = column(page, 1)
    page.click(heading("test/accuracy", "#configurations", " button"))
    assert column(page, 0, "#configurations") == ["rk4", "euler", "dopri5"]
    assert column(page, 1) == runs


def test_rows_are_found_by_words_lists_and_bounds(page: Page) -> None:
    search = "document.querySelector('#runs input[type=search]')"
    filters = "document.querySelector('#runs .filters')"
    count = "document.querySelector('#runs .count').textContent"
    page.click(search)
    page.type("euler 1")
    assert (column(page, 1), page.value(count)) == (["euler", "euler"], "2 of 7")
    clear(page, search)
    choose(page, f"{filters}.cells[1].querySelector('select')", "rk4")
    assert column(page, 1) == ["rk4"] * 3
    choose(page, f"{filters}.cells[1].querySelector('select')", "")
    page.click(f"{filters}.cells[4].querySelector('input')")
    page.type(">= 90.1")
    assert sorted(column(page, 4)) == ["90.10", "99.00", "99.10"]
    clear(page, f"{filters}.cells[4].querySelector('input')")
    assert page.value(count) == "7 of 7"


def clear(page: Page, box: str) -> None:
    page.value(f"(e => {{e.value = ''; e.dispatchEvent(new Event('input'))}})({box})")


def choose(page: Page, box: str, value: str) -> None:
    """A list unfolds in a window of its own, where no pointer of a headless browser gets to."""
    page.value(f"(e => {{e.value = '{value}'; e.dispatchEvent(new Event('change'))}})({box})")


def test_the_head_stays_while_rows_scroll(page: Page) -> None:
    top = "document.querySelector('#runs thead').getBoundingClientRect().top"
    scroll = "document.querySelector('#runs .scroll')"
    page.value(f"{scroll}.style.maxHeight = '200px'")
    before = page.value(top)
    page.value(f"{scroll}.scrollTop = 150")
    assert page.value(f"{scroll}.scrollTop") > 100
    assert page.value(top) == before
    page.value(f"{scroll}.style.maxHeight = ''")


def test_a_curve_says_what_it_is_and_leads_to_its_row(page: Page) -> None:
    tip, plot = "document.querySelector('.tip')", "document.querySelector('.plot')"
    choose(page, "document.querySelector('select.scalar')", "1")  # train/loss: 1 / epoch and a tenth of the seed more
    page.point(plot, "b.width - 15", "b.height - 42")
    assert page.value(f"{tip}.textContent") in [f"{solver} seed=0 · epoch 5: 0.2" for solver in ACCURACY]
    assert not page.value(f"{tip}.hidden")
    assert page.value("document.querySelectorAll('tr.pointed').length") == 1
    page.point(plot, "b.width / 2", "12")
    assert page.value(f"{tip}.hidden")
    keys = page.value("[...document.querySelectorAll('.keys span')].map(e => e.textContent)")
    assert keys == ["dopri5", "euler", "rk4"]


def test_a_curve_of_few_epochs_is_found_between_them_too_and_ticks_are_whole(page: Page) -> None:
    tip = "document.querySelector('.tip')"
    told = []
    for down in range(20, 300, 20):
        page.point("document.querySelector('.plot')", "b.width * 0.65", str(down))  # between epochs 3 and 4
        told += [page.value(f"{tip}.textContent")] if not page.value(f"{tip}.hidden") else []
    assert told
    assert all("epoch 4: " in words for words in told)
    assert page.value("ticks(1, 4, 1)") == [1, 2, 3, 4]


def test_a_curve_of_one_epoch_is_a_dot(tmp_path: Path) -> None:
    write_run(tmp_path / "outputs", "short", rows=1)
    ended = reported("outputs", "--html", "page.html", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    drawn = """(c => {const d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data; let n = 0;
        for (let i = 0; i < d.length; i += 4) n += d[i + 3] > 0 && d[i] < 40 && d[i + 2] > 150; return n;})"""
    with browser() as opened:
        opened.open(tmp_path / "page.html")
        assert opened.value(f"{drawn}(document.querySelector('canvas'))") > 5


def test_curves_are_of_the_rows_shown(page: Page) -> None:
    search = "document.querySelector('#runs input[type=search]')"
    page.click(search)
    page.type("rk4-1")
    page.point("document.querySelector('.plot')", "b.width - 15", "b.height - 42")
    assert page.value("document.querySelector('.tip').textContent").startswith("rk4 seed=1")
    clear(page, search)


def test_each_run_has_a_small_picture_that_opens_the_whole_one(page: Page) -> None:
    assert page.value("document.querySelectorAll('#runs img.thumbnail').length") == 6
    size = page.value("(i => [i.naturalWidth, i.naturalHeight])(document.querySelector('#runs img.thumbnail'))")
    assert size == [180, 120]
    link = page.value("document.querySelector('#runs td a').href")
    assert link.endswith("plots/decision_regions.png")


def test_the_small_picture_is_of_the_task_and_a_damaged_one_is_none(tmp_path: Path) -> None:
    plots = write_run(tmp_path, "run") / "plots"
    plots.mkdir()
    for name in ("curves.png", "error.png", "flow.png", "zoom.gif"):
        (plots / name).write_bytes(b"\x89PNG\r\n\x1a\n, torn")
    [run] = find_runs([tmp_path]).runs
    assert [path.name for path in pictures_of(run)] == ["flow.png", "zoom.gif", "curves.png", "error.png"]
    assert thumbnail(plots / "flow.png") is None


def test_the_data_of_curves_hold_no_markup_and_only_numbers(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "run", model="</script><b>", rows=3)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "epoch": 4.0, "train/loss": NaN}\n{"step": 5, "epoch": 5.0, "train/loss": 123456.7}\n')
    text = curve_data(find_runs([tmp_path]).runs)
    assert text is not None
    assert "<" not in text
    loss = next(scalar for scalar in json.loads(text)["scalars"] if scalar["name"] == "train/loss")
    assert loss["curves"] == [{"row": 0, "x": [1, 2, 3, 5], "y": [1, 0.5, 0.3333, 123500]}]
    assert curve_data([]) is None


@pytest.mark.slow
def test_a_thousand_runs_are_sorted_while_one_waits(tmp_path: Path) -> None:
    for i in range(1000):
        options: dict[str, Any] = {"optimizer": {"lr": 0.001 * (i % 50)}, "solver": {"num_steps": i // 50}}
        write_run(
            tmp_path / "outputs", f"{i}", seed=i % 5, options=options, metrics={"test/accuracy": i / 1000}, rows=60
        )
    assert reported("outputs", "--html", "page.html", cwd=tmp_path).returncode == 0
    assert (tmp_path / "page.html").stat().st_size < 15e6
    points = curve_data(find_runs([tmp_path / "outputs"]).runs)
    assert points is not None
    assert sum(len(c["x"]) for scalar in json.loads(points)["scalars"] for c in scalar["curves"]) <= MOST_POINTS
    with browser() as page:
        page.open(tmp_path / "page.html")
        assert page.value("document.querySelector('#runs .count').textContent") == "1000 of 1000"
        button, began = heading("test/accuracy", inside=" button"), time.perf_counter()
        page.click(button)
        assert column(page, 5)[0] == "99.90"
        assert time.perf_counter() - began < 2, "some tenths of a second on a machine that does nothing else"
        scroll = "document.querySelector('#runs .scroll')"
        before = len(column(page, 5))
        page.value(f"{scroll}.scrollTop = {scroll}.scrollHeight; new Promise(requestAnimationFrame)")
        assert len(column(page, 5)) > before
