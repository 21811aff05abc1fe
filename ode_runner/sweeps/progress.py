"""The output of a sweep: cells that are not run and why, a line for each cell that ends, and results at the end."""

import shlex
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ode_runner.config.command_names import is_command
from ode_runner.config.exit_codes import IN_USE, REFUSED, ExitCode, JobResult
from ode_runner.recording.clock import duration
from ode_runner.recording.display import counted, shown
from ode_runner.recording.lock import in_use
from ode_runner.recording.record import RunRecord, RunStatus, utc_now
from ode_runner.recording.repeated_remarks import summaries
from ode_runner.recording.sweep_bar import SweepBar
from ode_runner.recording.text_layout import with_folder
from ode_runner.report.quantities import quality_of_samples, usual
from ode_runner.report.runs import Run
from ode_runner.sweeps.sweep_cell import BrokenCell, CellState, SweepCell, due_cells

if TYPE_CHECKING:  # it imports models and tasks
    from ode_runner.sweeps.objectives import Objective

LOOK_SECONDS = 1.0  # between reads of the records of runs in other processes
ENDED = {CellState.DONE: "completed before", CellState.SAME: "the same run as another", CellState.LEFT: "left out"}


@dataclass(kw_only=True)
class Progress:
    """The cells of a sweep, and what is printed of them while it runs."""

    cells: list[SweepCell]
    folder: Path
    broken: Sequence[BrokenCell] = ()  # told of, and not run
    expected: int | None = None  # how many cells will run, if not all are known beforehand, as in a search
    objectives: "Sequence[Objective]" = ()  # of a search: what is printed of a completed run
    began: float = field(default_factory=time.monotonic)
    began_at: str = field(default_factory=utc_now)
    waits: bool = False
    reported: set[Path] = field(default_factory=set)  # folders of cells that have ended and whose line is printed
    bar: SweepBar | None = None

    def announce(self, cells: Sequence[SweepCell]) -> None:
        """Print a line for each cell that is not run."""
        for cell in cells:
            match cell.state:
                case CellState.DONE:
                    self._say("\n".join(with_folder(f"already completed: {cell.name}", cell.folder)))
                case CellState.SAME:
                    self._say(f"{cell.name}: same run as {cell.remark}")
                case CellState.LEFT | CellState.PASSED_OVER:
                    self._say(f"{cell.state}: {cell.name}: {cell.remark}")
                case CellState.INCOMPATIBLE:
                    print(f"ode-run: skipped: {cell.remark}", file=sys.stderr)
        for broken in self.broken:
            print(f"ode-run: skipped: {broken.name}: {broken.reason}", file=sys.stderr)
        done = Counter(cell.remark for cell in cells if cell.state is CellState.DONE and cell.remark)
        for remark, count in done.items():
            self._say(f"{counted(count, 'completed cell')}: {remark}")

    def open(self) -> None:
        """Show the progress bar, on a terminal."""
        total = self.expected or len(due_cells(self.cells))
        if sys.stdout.isatty() and total and not self.is_of_commands():
            self.bar = SweepBar(total)
            self.bar.start()

    @contextmanager
    def watching(self, cells: Sequence[SweepCell]) -> Iterator[None]:
        """Context while cells run: if they run in other processes, prints a line as soon as a record says it ended."""
        ended = threading.Event()

        def look() -> None:
            while not ended.wait(LOOK_SECONDS):
                for cell in cells:
                    if cell.folder not in self.reported and (result := self.recorded(cell)) is not None:
                        self._tell(cell, result)

        watcher = threading.Thread(target=look, daemon=True)
        if len(cells) > 1:
            watcher.start()
        elif self.is_of_commands():  # which print themselves
            self._say(f"\n[{len(self.reported) + 1}/{self._total()}] {cells[0].name}")
        try:
            yield
        finally:
            ended.set()
            if watcher.is_alive():
                watcher.join()

    def tell(self, cells: Sequence[SweepCell]) -> None:
        """Print a line for each of the cells that has ended and has no line yet."""
        for cell in cells:
            if cell.result is not None and cell.result.status != IN_USE and cell.folder not in self.reported:
                self._tell(cell, cell.result)

    def _tell(self, cell: SweepCell, result: JobResult) -> None:
        self.reported.add(cell.folder)
        if self.bar is not None:
            self.bar.cell_ended()
        if result.status in (REFUSED, RunStatus.INCOMPATIBLE) or self.is_of_commands():  # printed already
            return
        width = max(len(other.name) for other in self.cells)
        came = f"{result.status}: {result.reason.partition('. ')[0]}"  # the whole reason is printed at the end
        if result.status == RunStatus.COMPLETED:
            record = cell.recorded()
            came = self._result(record, cell.folder) if record is not None else "completed"
        self._say(f"[{len(self.reported)}/{self._total()}] {cell.name:<{width}}  {came}")

    def _result(self, record: RunRecord, folder: Path) -> str:
        """The numbers of a completed run, and how long it took."""
        run, seconds = Run(folder=folder, record=record), record.cost.get("wall_seconds")
        ended = f"completed in {duration(seconds)}" if isinstance(seconds, int | float) else "completed"
        reached = {objective.name: objective.of(run) for objective in self.objectives} or _chosen_by(run)
        numbers = [
            f"{name.replace('/', ' ')} {shown(name, value)}" for name, value in reached.items() if value is not None
        ]
        return "  ".join([*numbers, ended])

    def _total(self) -> int:
        return self.expected or len(due_cells(self.cells))

    def is_of_commands(self) -> bool:
        """Whether the cells are commands such as evaluate=, which leave no records."""
        return any(is_command(cell.overrides) for cell in self.cells)

    def still_due(self, cells: Sequence[SweepCell]) -> list[SweepCell]:
        """The cells that no other process has finished since this process began."""
        for cell in cells:
            if (result := self.recorded(cell)) is not None:
                cell.result = result
                text = f"{result.status} by another process meanwhile: {cell.name}"
                if cell.folder in self.reported:  # a search has proposed a trial again
                    first = next(one.name for one in self.cells if one.folder == cell.folder)
                    text = f"{cell.name}: {result.status}, as {first}"
                self.reported.add(cell.folder)
                self._say("\n".join(with_folder(text, cell.folder)))
        return [cell for cell in cells if cell.result is None or cell.result.status == IN_USE]

    def recorded(self, cell: SweepCell) -> JobResult | None:
        """The result in the record of a run that has ended since this process began; None otherwise."""
        record = cell.recorded()
        if record is None or record.status in (RunStatus.RUNNING, RunStatus.INTERRUPTED):
            return None
        if record.finished <= self.began_at:  # whole seconds, all in UTC
            return None
        fine = record.status in (RunStatus.COMPLETED, RunStatus.PRUNED, RunStatus.INCOMPATIBLE)
        return JobResult(ExitCode.COMPLETED if fine else ExitCode.FAILED, record.status, record.reason)

    def wait(self, cells: Sequence[SweepCell], *, seconds: float) -> list[SweepCell]:
        """Wait until other processes have released some of the cells, and return those; checks every `seconds`."""
        if not self.waits:
            runs = "a run" if len(cells) == 1 else f"{len(cells)} runs"
            self._say(f"\nwaiting for {runs} of another ode-run process; Ctrl-C leaves the rest to it")
            self.waits = True
        while not (free := [cell for cell in cells if not in_use(cell.folder)]):
            time.sleep(seconds)
        return free

    def close(self) -> None:
        """Print the table and how the cells ended, even if the sweep was interrupted."""
        if self.bar is not None:
            self.bar.stop()
        self._tabulate()
        counts = Counter([*map(_word, self.cells), *[REFUSED for _ in self.broken]])
        numbers = " · ".join(f"{count} {word}" for word, count in counts.items())
        spent = duration(time.monotonic() - self.began)
        whole = counted(len(self.cells) + len(self.broken), "cell")
        self._say(f"\nsweep of {whole}, {spent}: {numbers}")
        for line in self._endings():
            self._say(line)
        for broken in self.broken:
            self._say(f"  {REFUSED}: {broken.name}: {broken.reason}")
        for sentence in summaries():
            self._say(f"  {sentence}")
        if any(cell.state.due and cell.result is None for cell in self.cells):
            self._say("  the same command continues where this one ended")
        self._say(f"  sweep folder: {self.folder}")
        if not self.is_of_commands():
            self._say(f"  compare:      ode-report {shlex.quote(str(self.folder))}")

    def _endings(self) -> list[str]:
        """A line for each run that did not complete, also if a search has proposed it more than once."""
        names: dict[tuple[Path, str, str], str] = {}
        for cell in self.cells:
            if cell.result is not None and cell.result.code is not ExitCode.COMPLETED:
                names.setdefault((cell.folder, cell.result.status, cell.result.reason), cell.name)
            elif cell.state is CellState.PASSED_OVER:
                names.setdefault((cell.folder, RunStatus.FAILED, cell.remark), cell.name)
        return [f"  {status}: {name}: {reason}" for (_, status, reason), name in names.items()]

    def _tabulate(self) -> None:
        """Print the table of the sweep's folder, unless no cell has a result or a search prints its own table."""
        completed = [cell for cell in self.cells if cell.result and cell.result.status == RunStatus.COMPLETED]
        done = any(cell.state is CellState.DONE for cell in self.cells)
        if self.expected is None and not self.is_of_commands() and (completed or done):
            from ode_runner.report.cli import show_results

            self._say("")
            show_results(self.folder)

    def exit_code(self) -> ExitCode:
        """COMPLETED if all possible cells completed, REFUSED if all others were refused, otherwise FAILED."""
        codes = [_code(cell) for cell in self.cells if cell.state.due or cell.state is CellState.PASSED_OVER]
        codes += [ExitCode.REFUSED for _ in self.broken]
        if len(self.cells) == 1 and len(codes) == 1:
            return codes[0]
        wrong = {code for code in codes if code is not ExitCode.COMPLETED}
        return ExitCode.FAILED if wrong - {ExitCode.REFUSED} else max(wrong, default=ExitCode.COMPLETED)

    def _say(self, text: str) -> None:
        print(text, flush=True)  # runs may print from other processes


def _chosen_by(run: Run) -> dict[str, float]:
    """The metric by which the weights of a run were chosen, and its measure of samples if it has one.

    If no weights were chosen, as for a true field, it is the first metric of a report.
    """
    metrics = run.record.metrics
    chosen = [name.removeprefix("eval/") for name in metrics if name.startswith("eval/")]
    wanted = [name for choice in chosen[:1] for name in (f"test/{choice}", f"eval/{choice}")]
    results = [name for name in usual([run]) if name.startswith("test/")]
    name = next((name for name in (*wanted, *results) if name in metrics), None)
    return {name: metrics[name] for name in (name, quality_of_samples(run) if chosen else None) if name}


def _code(cell: SweepCell) -> ExitCode:
    return ExitCode.FAILED if cell.result is None else cell.result.code


def _word(cell: SweepCell) -> str:
    if cell.state is CellState.INCOMPATIBLE:
        return RunStatus.INCOMPATIBLE
    if cell.state is CellState.PASSED_OVER:
        return RunStatus.FAILED
    if not cell.state.due:
        return ENDED[cell.state]
    return "not finished" if cell.result is None else cell.result.status
