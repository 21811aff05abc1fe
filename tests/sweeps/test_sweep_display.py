"""What a sweep shows: a line a cell, the table at the end, and a bar on a terminal."""

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ode_runner.config.exit_codes import ExitCode, JobResult
from ode_runner.recording import sweep_bar
from ode_runner.recording.cell_display import CellDisplay
from ode_runner.recording.clock import duration
from ode_runner.recording.display import Display
from ode_runner.recording.record import RunRecord, RunStatus
from ode_runner.recording.sweep_bar import SweepBar, open_bar
from ode_runner.sweeps import progress as module
from ode_runner.sweeps.progress import Progress
from ode_runner.sweeps.sweep_cell import CellState, SweepCell
from tests.helpers import TINY, run_folders, typed

CHOICES = {"task": "t", "regularizer": "none"}
SWEEP = ("-m", "trainer=quick", "trainer.max_steps=2", "logger=none", "pictures=false", *TINY)


def cell_of(folder: Path, name: str) -> SweepCell:
    record = RunRecord(choices=CHOICES, seed=0, fingerprint=name, status=RunStatus.RUNNING)
    made: Any = {"cfg": None, "overrides": [f"model={name}"], "state": CellState.RUN}
    return SweepCell(name=name, folder=folder / name, record=record, **made)


def complete(cell: SweepCell, **metrics: float) -> None:
    cell.folder.mkdir()
    record = RunRecord(
        choices=CHOICES, seed=0, fingerprint=cell.name, status=RunStatus.COMPLETED, finished="9999",
        metrics={name.replace("__", "/"): value for name, value in metrics.items()}, cost={"wall_seconds": 12.3},
    )  # fmt: skip
    record.write(cell.folder)


def test_each_cell_has_one_line_and_the_table_comes_at_the_end(tmp_path: Path) -> None:
    ended = typed(*SWEEP, "solver=euler,rk4", "optimizer.lr=0.01,1e30", cwd=tmp_path, pictures=True)
    lines = [line for line in ended.stdout.splitlines() if line.startswith("[")]
    assert [line[:5] for line in lines] == ["[1/4]", "[2/4]", "[3/4]", "[4/4]"]
    assert re.fullmatch(
        r"\[1/4\] solver=euler optimizer.lr=0.01   test accuracy \d+\.\d\d%  completed in \d+ s", lines[0]
    )
    assert re.fullmatch(
        r"\[2/4\] solver=euler optimizer.lr=1e\+30  diverged: the loss is \w+ at step 2 \(epoch 1\)", lines[1]
    )
    assert "train 60" not in ended.stdout, "the header of a run is in its log"
    assert all("parameters" in (folder / "ode-run.log").read_text() for folder in run_folders(tmp_path))
    table = ended.stdout.partition("all rows: ")[2]
    assert re.search(r"^euler +1 +\d", table, re.MULTILINE)
    assert ended.stdout.index("all rows: ") < ended.stdout.index("sweep of 4 cells")


def test_where_nothing_is_trained_a_line_tells_what_depends_on_the_solver(tmp_path: Path) -> None:
    words = ("-m", "task=tiny_table", "model=exact", "task.train=10", "task.validation=10", "task.test=20")
    ended = typed(*words, "task.samples=50", "solver.num_steps=1,16", "logger=none", cwd=tmp_path)
    lines = [line for line in ended.stdout.splitlines() if line.startswith("[")]
    assert len(lines) == 2
    assert all(re.search(r"  test tv 0\.\d+  completed in", line) for line in lines)


def test_remarks_of_a_cell_are_printed_behind_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    display = CellDisplay(tmp_path / "odenet-s0-0123")
    display.say("1,000 parameters")
    display.say("  this is worth a look", style="yellow")
    assert capsys.readouterr().out == "odenet-s0-0123: this is worth a look\n"


def test_cells_in_other_processes_have_their_lines_while_others_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    cells = [cell_of(tmp_path, name) for name in ("first", "second")]
    shown = Progress(cells=cells, folder=tmp_path)
    with shown.watching(cells):
        complete(cells[1], eval__rmse=0.5, test__loss=1.0, test__rmse=0.25)
        printed = ""
        for _ in range(500):
            printed += capsys.readouterr().out
            if printed.endswith("\n"):
                break
            module.time.sleep(0.01)
        assert printed == "[1/2] second  test rmse 0.25  completed in 12 s\n"
    cells[0].result = JobResult(ExitCode.FAILED, RunStatus.FAILED, "no memory. Try less.")
    cells[1].result = JobResult(ExitCode.COMPLETED, RunStatus.COMPLETED)
    shown.tell(cells)
    assert capsys.readouterr().out == "[2/2] first   failed: no memory\n"


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """In place of the console of the bar."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    monkeypatch.setattr(sweep_bar, "Console", lambda **options: console)
    return screen


def test_the_bar_tells_the_cells_that_have_ended_and_the_time_left(
    terminal: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(sweep_bar.time, "monotonic", lambda: now[0])
    bar = SweepBar(4)
    bar._progress = sweep_bar.Progress(*bar._progress.columns, console=sweep_bar.Console(), auto_refresh=False)
    bar._bar = bar._progress.add_task("", total=4, cells="", left="", now="")
    assert open_bar() is None
    bar.start()
    assert open_bar() is bar
    now[0] = 60.0
    bar.cell_ended()
    progress = {"epoch": "1/2", "numbers": "loss 0.5"}
    CellDisplay(Path("x")).advance(step=5, total_steps=10, progress=lambda: progress)
    [task] = bar._progress.tasks
    assert task.completed == 1.5
    assert task.fields == {"cells": "1/4", "left": "0:01:40 left", "now": "epoch 1/2  loss 0.5"}
    CellDisplay(Path("x")).after_training("testing")
    assert (task.completed, task.fields["now"]) == (2.0, "testing")
    bar.stop()
    assert open_bar() is None


def test_durations_are_seconds_until_there_are_many() -> None:
    assert [duration(seconds) for seconds in (3.4, 99.4, 100, 3723)] == ["3 s", "99 s", "0:01:40", "1:02:03"]


def test_a_narrow_screen_shows_the_epoch_and_the_time_left_before_all_numbers() -> None:
    display = Display()
    display.console = Console(file=io.StringIO(), force_terminal=True, width=60)
    display.start(10, 0)
    numbers = "loss 0.323  accuracy 83.4%  NFE 18 + 0  val 78.60%  424 samples/s"
    display.advance(step=5, total_steps=10, progress=lambda: {"epoch": "12/200", "numbers": numbers})
    bar = display._progress
    assert bar is not None
    with display.console.capture() as shown:
        display.console.print(bar.get_renderable())
    display.stop()
    assert all(part in shown.get() for part in ("epoch 12/200", "left", "loss 0.323"))


@pytest.mark.parametrize("terminal_is_one", [True, False])
def test_what_is_done_after_training_is_shown_on_a_terminal_only(terminal_is_one: bool) -> None:
    display, screen = Display(), io.StringIO()
    display.console = Console(file=screen, force_terminal=terminal_is_one, width=60)
    for what in ("testing", "drawing pictures"):
        display.after_training(what)
    display.stop()
    display.stop()
    assert ("drawing pictures" in screen.getvalue()) is terminal_is_one


def test_a_warning_that_many_cells_are_given_is_printed_once(tmp_path: Path) -> None:
    ended = typed(*SWEEP, "seed=0,1,2", "optimizer.lr=1e-9", cwd=tmp_path)
    assert ended.stdout.count("of always giving the same answer") == 1
    assert " holds for 2 more, with numbers of their own: see their ode-run.log" in ended.stdout
    logs = [(folder / "ode-run.log").read_text() for folder in run_folders(tmp_path)]
    assert all("of always giving the same answer" in log for log in logs)
