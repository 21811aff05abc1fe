"""What a sweep prints: cells that are not run and why, the cell that runs, and the results at the end."""

import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ode_runner.config.command_names import is_command
from ode_runner.config.exit_codes import IN_USE, ExitCode, JobResult
from ode_runner.recording.display import clock
from ode_runner.recording.lock import in_use
from ode_runner.recording.record import RunStatus, utc_now
from ode_runner.recording.text_layout import with_folder
from ode_runner.sweeps.sweep_cell import CellState, SweepCell, due_cells

ENDED = {CellState.DONE: "completed before", CellState.SAME: "the same run as another", CellState.LEFT: "left out"}


@dataclass(kw_only=True)
class Progress:
    """The cells of a sweep, and what is printed of them while it runs."""

    cells: list[SweepCell]
    folder: Path
    expected: int | None = None  # how many are to run, where not all are known beforehand
    began: float = field(default_factory=time.monotonic)
    began_at: str = field(default_factory=utc_now)
    waits: bool = False

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

    def begin(self, cells: Sequence[SweepCell]) -> None:
        """Print the number and name of a single cell that begins; launchers of several print that themselves."""
        due = due_cells(self.cells)
        for cell in cells if len(cells) == 1 else []:
            self._say(f"\n[{due.index(cell) + 1}/{self.expected or len(due)}] {cell.name}")

    def still_due(self, cells: Sequence[SweepCell]) -> list[SweepCell]:
        """The cells that no other process has finished since this one began."""
        for cell in cells:
            if (result := self.recorded(cell)) is not None:
                cell.result = result
                text = f"{result.status} by another process meanwhile: {cell.name}"
                self._say("\n".join(with_folder(text, cell.folder)))
        return [cell for cell in cells if cell.result is None or cell.result.status == IN_USE]

    def recorded(self, cell: SweepCell) -> JobResult | None:
        """The result in the record of a run that has ended since this process began; None otherwise."""
        record = cell.recorded()
        if record is None or record.status in (RunStatus.RUNNING, RunStatus.INTERRUPTED):
            return None
        if record.finished <= self.began_at:  # whole seconds, all in UTC
            return None
        fine = record.status in (RunStatus.COMPLETED, RunStatus.INCOMPATIBLE)
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
        """Print the results in a few lines, also when the sweep was interrupted."""
        counts = Counter(_word(cell) for cell in self.cells)
        numbers = " · ".join(f"{count} {word}" for word, count in counts.items())
        seconds = time.monotonic() - self.began
        spent = clock(seconds) if seconds >= 100 else f"{seconds:.0f} s"
        cells = "1 cell" if len(self.cells) == 1 else f"{len(self.cells)} cells"
        self._say(f"\nsweep of {cells}, {spent}: {numbers}")
        for cell in self.cells:
            if cell.result is not None and cell.result.code is not ExitCode.COMPLETED:
                self._say(f"  {cell.result.status}: {cell.name}: {cell.result.reason}")
            elif cell.state is CellState.PASSED_OVER:
                self._say(f"  {RunStatus.FAILED}: {cell.name}: {cell.remark}")
        if any(cell.state.due and cell.result is None for cell in self.cells):
            self._say("  the same command goes on where this one ended")
        self._say(f"  sweep folder: {self.folder}")
        if not any(is_command(cell.overrides) for cell in self.cells):  # which leave no records
            self._say(f"  compare:      ode-report {self.folder}")

    def exit_code(self) -> ExitCode:
        """COMPLETED if all possible cells completed; REFUSED if the others were all refused; else FAILED."""
        codes = [_code(cell) for cell in self.cells if cell.state.due or cell.state is CellState.PASSED_OVER]
        if len(self.cells) == 1 and codes:
            return codes[0]
        wrong = {code for code in codes if code is not ExitCode.COMPLETED}
        return ExitCode.FAILED if wrong - {ExitCode.REFUSED} else max(wrong, default=ExitCode.COMPLETED)

    def _say(self, text: str) -> None:
        print(text, flush=True)  # runs may print from other processes


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
