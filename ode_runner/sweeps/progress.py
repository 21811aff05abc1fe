"""What a person sees of a sweep: what is not run and why, and at the end what came of it all."""

import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ode_runner.config.command_names import is_command
from ode_runner.config.exit_codes import IN_USE, Ending, ExitCode
from ode_runner.recording.display import clock
from ode_runner.recording.lock import in_use
from ode_runner.recording.record import RunStatus, utc_now
from ode_runner.recording.text_layout import with_folder
from ode_runner.sweeps.sweep_cell import CellState, SweepCell, in_order

ENDED = {CellState.DONE: "completed before", CellState.SAME: "the same run as another", CellState.LEFT: "left out"}


@dataclass(kw_only=True)
class Progress:
    """The cells of a sweep while it goes on."""

    points: list[SweepCell]
    folder: Path
    expected: int | None = None  # how many are to run, where not all are known beforehand
    began: float = field(default_factory=time.monotonic)
    began_at: str = field(default_factory=utc_now)
    waits: bool = False

    def announce(self, points: Sequence[SweepCell]) -> None:
        """A line for each cell that is not going to run."""
        for point in points:
            match point.outlook:
                case CellState.DONE:
                    self._say("\n".join(with_folder(f"already completed: {point.name}", point.folder)))
                case CellState.SAME:
                    self._say(f"{point.name}: same run as {point.remark}")
                case CellState.LEFT | CellState.PASSED_OVER:
                    self._say(f"{point.outlook}: {point.name}: {point.remark}")
                case CellState.INCOMPATIBLE:
                    print(f"ode-run: skipped: {point.remark}", file=sys.stderr)

    def begin(self, points: Sequence[SweepCell]) -> None:
        """Where in the sweep what follows belongs; a launcher of several says itself which."""
        due = in_order(self.points)
        for point in points if len(points) == 1 else []:
            self._say(f"\n[{due.index(point) + 1}/{self.expected or len(due)}] {point.name}")

    def still_due(self, points: Sequence[SweepCell]) -> list[SweepCell]:
        """Those that no other process has brought to an end since this one began."""
        for point in points:
            if (ending := self.recorded(point)) is not None:
                point.ending = ending
                said = f"{ending.status} by another process meanwhile: {point.name}"
                self._say("\n".join(with_folder(said, point.folder)))
        return [point for point in points if point.ending is None or point.ending.status == IN_USE]

    def recorded(self, point: SweepCell) -> Ending | None:
        """What its record says of a run that has ended since this process began."""
        record = point.recorded()
        if record is None or record.status in (RunStatus.RUNNING, RunStatus.INTERRUPTED):
            return None
        if record.finished <= self.began_at:  # whole seconds, all in UTC
            return None
        fine = record.status in (RunStatus.COMPLETED, RunStatus.INCOMPATIBLE)
        return Ending(ExitCode.COMPLETED if fine else ExitCode.FAILED, record.status, record.reason)

    def wait(self, points: Sequence[SweepCell], *, seconds: float) -> list[SweepCell]:
        """Those of which another process has let go, when there are any."""
        if not self.waits:
            runs = "a run" if len(points) == 1 else f"{len(points)} runs"
            self._say(f"\nwaiting for {runs} of another ode-run process; Ctrl-C leaves the rest to it")
            self.waits = True
        while not (free := [point for point in points if not in_use(point.folder)]):
            time.sleep(seconds)
        return free

    def close(self) -> None:
        """What came of the cells, in a few lines; said also when the sweep was broken off."""
        counts = Counter(_word(point) for point in self.points)
        numbers = " · ".join(f"{count} {word}" for word, count in counts.items())
        seconds = time.monotonic() - self.began
        spent = clock(seconds) if seconds >= 100 else f"{seconds:.0f} s"
        cells = "1 cell" if len(self.points) == 1 else f"{len(self.points)} cells"
        self._say(f"\nsweep of {cells}, {spent}: {numbers}")
        for point in self.points:
            if point.ending is not None and point.ending.code is not ExitCode.COMPLETED:
                self._say(f"  {point.ending.status}: {point.name}: {point.ending.reason}")
            elif point.outlook is CellState.PASSED_OVER:
                self._say(f"  {RunStatus.FAILED}: {point.name}: {point.remark}")
        if any(point.outlook.due and point.ending is None for point in self.points):
            self._say("  the same command goes on where this one ended")
        self._say(f"  sweep folder: {self.folder}")
        if not any(is_command(point.overrides) for point in self.points):  # which leave no records
            self._say(f"  compare:      ode-report {self.folder}")

    def exit_code(self) -> ExitCode:
        """Whether all that could complete did; refused, if all that did not was refused."""
        codes = [_code(point) for point in self.points if point.outlook.due or point.outlook is CellState.PASSED_OVER]
        if len(self.points) == 1 and codes:
            return codes[0]
        wrong = {code for code in codes if code is not ExitCode.COMPLETED}
        return ExitCode.FAILED if wrong - {ExitCode.REFUSED} else max(wrong, default=ExitCode.COMPLETED)

    def _say(self, text: str) -> None:
        print(text, flush=True)  # runs may print from other processes


def _code(point: SweepCell) -> ExitCode:
    return ExitCode.FAILED if point.ending is None else point.ending.code


def _word(point: SweepCell) -> str:
    if point.outlook is CellState.INCOMPATIBLE:
        return RunStatus.INCOMPATIBLE
    if point.outlook is CellState.PASSED_OVER:
        return RunStatus.FAILED
    if not point.outlook.due:
        return ENDED[point.outlook]
    return "not finished" if point.ending is None else point.ending.status
