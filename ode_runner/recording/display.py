"""Prints header, progress and summary of a run; without colour and cursor control if the output is not a terminal."""

import logging
import math
import os
import shlex
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.status import Status
from rich.table import Column

from ode_runner.recording.bookkeeping import ASIDE
from ode_runner.recording.clock import clock, duration
from ode_runner.recording.diagnostic_names import remarks
from ode_runner.recording.logger import has_event_files
from ode_runner.recording.printable import printable
from ode_runner.recording.record import AXES, NONE, UNUSED, RunRecord, RunStatus
from ode_runner.recording.text_layout import GAP, aligned, with_folder

log = logging.getLogger(__name__)
WARNING = "yellow"  # the style of warnings


class Display:
    """Prints to the screen and into the log file of a run."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)
        self.results: list[str] = []  # what was said since `begin_results`, but for warnings
        self.warnings: list[str] = []
        self._of_result = False
        self._progress: Progress | None = None
        self._status: Status | None = None
        self._bar: TaskID | None = None
        self._begun = time.monotonic()
        self._begun_at = 0

    def say(self, text: str, style: str | None = None) -> None:
        """Print a text without wrapping it, and log it as one line; what is yellow is a warning."""
        if style == WARNING:
            self.warnings.append(text)
        elif self._of_result:
            self.results.append(text)
        self._print(text, style)
        self._log(printable(text))

    def begin_results(self) -> None:
        """What is said from now on belongs to the result of the run, and is shown again with it."""
        self._of_result = True

    def again(self, record: RunRecord) -> None:
        """Print what was said of the result of a completed run, and its warnings."""
        for text in record.results:
            self.say(text)
        for text in record.warnings:
            self.say(text, style=WARNING)

    def remark(self, text: str) -> None:
        """Print what a person should know even about a run that is a cell of a sweep."""
        self.say(text)

    def _log(self, text: str) -> None:
        with suppress(OSError):  # the folder was removed meanwhile, or the disk is full: the run will say so itself
            log.info(text)

    def _print(self, text: str, style: str | None = None) -> None:
        self.console.print(printable(text), style=style, soft_wrap=True, markup=False)

    def headline(self, text: str, folder: Path) -> None:
        """Print a title and a folder."""
        for line in [text] if ASIDE in os.environ else with_folder(text, folder):
            self.say(line, style="bold")

    def header(self, record: RunRecord, folder: Path, *, parameters: int, precision: str, sizes: str) -> None:
        choices = record.choices
        axes = [choices.get(axis, UNUSED) for axis in AXES if axis != "network"]
        self.headline(
            " · ".join([*(choice for choice in axes if choice not in (UNUSED, NONE)), f"seed {record.seed}"]), folder
        )
        device, threads = record.environment["device"], record.environment["threads"]
        where = f"{device}, {counted(threads, 'thread')}" if device == "cpu" else device
        if (processes := record.environment["processes"]) > 1:
            where += f", {processes} processes"
        self.say(f"{counted(parameters, 'parameter')} · {where} · {precision} · {sizes}")

    def start(self, total_steps: int, step: int) -> None:
        """Open the progress bar at `step`."""
        self._begun, self._begun_at = time.monotonic(), step
        if self.console.is_terminal:
            columns = (  # on a narrow terminal, the bar gets shorter and the numbers are cut
                TextColumn("epoch {task.fields[epoch]}", table_column=Column(no_wrap=True, min_width=12)),
                BarColumn(bar_width=24),
                TextColumn(
                    "{task.percentage:>3.0f} %  {task.fields[left]}", table_column=Column(no_wrap=True, min_width=19)
                ),
                TextColumn("{task.fields[numbers]}", table_column=Column(no_wrap=True, overflow="ellipsis")),
            )
            self._progress = Progress(*columns, console=self.console, transient=True)
            self._progress.start()
            self._bar = self._progress.add_task("", total=total_steps, epoch="", numbers="", left="")

    def advance(self, *, step: int, total_steps: int, progress: Callable[[], Mapping[str, str]]) -> None:
        """Update the progress bar. `progress` gives the texts `epoch` and `numbers`; not called without a bar."""
        if self._progress is None or self._bar is None:
            return
        done = step - self._begun_at
        seconds = (time.monotonic() - self._begun) / done * (total_steps - step) if done else 0
        left = f"{clock(seconds)} left"
        shown = progress()
        self._progress.update(self._bar, completed=step, epoch=shown["epoch"], numbers=shown["numbers"], left=left)

    def after_training(self, what: str) -> None:
        """Show on a terminal what is done after training, which can take longer than that."""
        if self._status is not None:
            self._status.update(what)
        elif self.console.is_terminal:
            self._status = self.console.status(what)
            self._status.start()

    def epoch(self, text: str) -> None:
        """Log a line for an epoch, and print it if there is no progress bar."""
        if self._progress is None:
            self.say(text)
        else:
            self._log(text)

    def comparison(self, columns: Mapping[str, Mapping[str, float]]) -> None:
        """Print a table of metrics with a column for each of several evaluations."""
        rows = [["", *columns]]
        for name in list(columns.values())[-1]:
            words = name.replace("nfe/eval", "NFE per test batch").replace("nfe/", "NFE, ").replace("/", " ")
            rows.append([words, *(shown(name, column[name]) if name in column else "" for column in columns.values())])
        for i, line in enumerate(aligned(rows, gap="    ")):
            self._print(f"  {line}", style=None if i else "bold")

    def columns(self, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table, never wrapped; all `heads` have the same number of lines."""
        above = list(zip(*(head.split("\n") for head in heads), strict=True))
        widths = [max(map(len, column)) for column in zip(*above, *rows, strict=True)]
        for row, style in [*((line, "bold") for line in above), *((line, None) for line in rows)]:
            first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
            self.say(f"  {GAP.join([first.strip().ljust(widths[0]), *others]).rstrip()}", style=style)

    def stop(self) -> None:
        """Close what is open on a terminal: the progress bar, or what is shown after training."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
        if self._status is not None:
            self._status.stop()
            self._status = None

    def outcome(self, record: RunRecord, folder: Path) -> None:
        """Print the status of a run, and its results if it completed."""
        self.stop()
        if record.status is not RunStatus.COMPLETED:
            self.say(f"{record.status}: {record.reason}", style="bold red")
            return
        seconds = record.cost.get("wall_seconds", 0.0)
        note = f" ({record.reason})" if record.reason else ""
        self.say(f"completed in {duration(seconds)}{note}", style="bold green")
        for line in aligned(summary_rows(record), gap="    "):
            self._print(f"  {line}")
        for row in summary_rows(record):
            self._log("  ".join(row))
        for remark in remarks(record.metrics, differentiates=record.choices.get("gradient") != UNUSED):
            self.say(f"  {remark}", style="yellow")
        if ASIDE not in os.environ:
            self._places(folder)

    def _places(self, folder: Path) -> None:
        """Print where the files of the run are, and what to type next."""
        self.say(f"  run folder: {folder}")
        if (folder / "plots").is_dir():
            self.say(f"  pictures:   {folder / 'plots'}")
        if has_event_files(folder):
            self.say(f"  curves:     tensorboard --logdir {shlex.quote(str(folder.parent))}")
        self.say(f"  compare:    ode-report {shlex.quote(str(folder.parent))}")


def counted(number: int, thing: str) -> str:
    """`1 thread`, `2 threads`."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def summary_rows(record: RunRecord) -> list[tuple[str, str]]:
    """The results of a finished run, as rows of a name and a value with its unit."""
    metrics = record.metrics
    cost: defaultdict[str, Any] = defaultdict(lambda: math.nan)  # for a record that somebody else has written
    cost |= {name: value for name, value in record.cost.items() if isinstance(value, int | float)}
    rows = []
    for name, value in metrics.items():
        if name.startswith("test/"):
            rows.append((name.replace("/", " "), shown(name, value)))
    if "best_epoch" in cost:
        rows.append(("best epoch", f"{cost['best_epoch']} (chosen on {record.cost.get('chosen_on', 'validation')})"))
    learns, peak = "steps" in cost, byte_count(cost["peak_memory_bytes"])
    rows += _evaluations(metrics, cost, solves=record.choices.get("solver") != UNUSED, learns=learns)
    if not learns:
        return [*rows, ("peak memory", peak)]
    if "saved_bytes" in cost:
        rows.append(("saved for backward", f"{byte_count(cost['saved_bytes'])} per step; peak memory {peak}"))
    else:
        rows.append(("peak memory", peak))
    if "gradient_error" in cost:
        rows.append(("gradient", f"off by {cost['gradient_error']:.1e} on average, against double precision"))
    speed = f"{cost['train_seconds']:.1f} s, {cost['samples_per_second']:,.0f} samples/s"
    timed = cost["train_seconds"] != 0  # the first step of a process is not timed
    return [*rows, ("training", speed if timed else "a single step, which is not timed")]


def _evaluations(
    metrics: Mapping[str, float], cost: Mapping[str, Any], *, solves: bool, learns: bool
) -> Iterator[tuple[str, str]]:
    """The rows on evaluations of the field."""
    if learns and (solves or cost["nfe_forward"] > 0):
        yield "NFE per step", f"{cost['nfe_forward']:.1f} forward, {cost['nfe_backward']:.1f} backward"
        if "nfe/sample" in metrics:
            yield "NFE of samples", f"{metrics['nfe/sample']:.4g} a batch"
    elif solves:
        along = {name: value for name, value in metrics.items() if name.startswith("nfe/") and name != "nfe/eval"}
        shown_along = ", ".join(f"{value:.0f} {name[4:]}" for name, value in along.items())
        yield "NFE", shown_along or f"{metrics.get('nfe/eval', math.nan):.4g} a batch"


def shown(name: str, value: float) -> str:
    """A metric as text: accuracies and accuracy floors in per cent, others with four digits."""
    return f"{value:.2%}" if name.endswith(("accuracy", "accuracy_floor")) else f"{value:.4g}"


def byte_count(count: float) -> str:
    """1234567 as 1.2 MB (powers of ten)."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.3g} {unit}"
