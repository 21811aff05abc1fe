"""Cells are handed to a launcher, and what came of them is gathered, whatever becomes of its processes."""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from hydra.plugins.launcher import Launcher

from ode_runner.config.exit_codes import IN_USE, Ending, ExitCode
from ode_runner.recording.attempts import endings
from ode_runner.recording.record import RunStatus
from ode_runner.sweeps.apart import exit_in_words, run_apart
from ode_runner.sweeps.progress import Progress
from ode_runner.sweeps.returned import broken, ending_of
from ode_runner.sweeps.sweep_cell import SweepCell, in_order

# By name, for Hydra loads the modules of its plugins anew: a class imported here is not the one it makes launchers of.
# Nor need all of them be installed.
IN_TURN = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
AT_ONCE = "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher"  # several on one machine
PATIENCE = 1.0  # seconds between looks at what another process runs


@dataclass(frozen=True, kw_only=True)
class Dispatch:
    """One session's cells on their way through a launcher."""

    launcher: Launcher
    target: str  # the launcher's class
    at_once: int | None  # the most cells that it is given; None: all that are due
    sweep_dir: str
    progress: Progress

    def run(self, points: Sequence[SweepCell]) -> None:
        """All that is due, then once more what another process had in hand, when it lets go of it."""
        due = in_order(points)
        size = 1 if self.target == IN_TURN else self.at_once or len(due)
        ended: list[SweepCell] = []
        for start in range(0, len(due), max(size, 1)):
            batch = due[start : start + size]
            died = [point for point in batch if endings(point.folder) > point.endings]  # with another driver meanwhile
            ended += died
            self._launch([point for point in batch if point not in died], start)
        for point in ended:
            self._launch([point], 0)
        while waiting := [point for point in due if point.ending is not None and point.ending.status == IN_USE]:
            free = self.progress.wait(waiting, seconds=PATIENCE)
            self._launch(free[:1] if self.target == IN_TURN else free, 0)

    def _launch(self, points: Sequence[SweepCell], start: int) -> None:
        points = [point for point in self.progress.still_due(points) if not self._gives_up(point)]
        if not points:
            return
        self.progress.begin(points)
        try:
            if self.target == IN_TURN and endings(points[0].folder):
                self._apart(points[0], start)
                return
            jobs = self.launcher.launch([self._words(point) for point in points], initial_job_idx=start)
            results = [ending_of(job) for job in jobs]
        except Exception as error:  # of the launcher: a worker that was killed, say; the others' records are there
            self._go_on(points, error)
            return
        for point, result in zip(points, results, strict=True):
            point.ending = result

    def _words(self, point: SweepCell) -> list[str]:
        place = self.sweep_dir.replace("\\", "\\\\").replace("'", "\\'")
        said = f"hydra.sweep.dir='{place}'"  # a worker, whose argv is another, would give the sweep another name
        return [*point.overrides, said]

    def _apart(self, point: SweepCell, number: int) -> None:
        """A cell in the midst of which a process has ended: this one outlives the next such end, and sees how."""
        ending = run_apart(self.launcher, self._words(point), number)
        if isinstance(ending, Ending):
            point.ending = ending
            return
        how = exit_in_words(ending)
        print(f"ode-run: a process ended in the midst of its cell ({how})", file=sys.stderr)
        if not self._gives_up(point, how=how):  # it has saved something since the last time, or rerun= asked for it
            reason = f"its process ended in the midst of it ({how}); the same command tries it again"
            point.ending = Ending(ExitCode.FAILED, RunStatus.FAILED, reason)

    def _go_on(self, points: Sequence[SweepCell], error: Exception) -> None:
        """What a launcher that gave up had not brought to an end is broken off, except of joblib.

        It gives up all cells with the end of one worker. Those that were under way are run again one at a time: so
        only those are passed over of which a process ends when there is no other.
        """
        for point in points:
            point.ending = self.progress.recorded(point)
        left = [point for point in points if point.ending is None]
        begun = [point for point in left if endings(point.folder) > point.endings] if self.target == AT_ONCE else []
        if not begun:
            print(f"ode-run: {broken(error).reason}", file=sys.stderr)
            for point in left:
                point.ending = broken(error)
            return
        how = _signal(error)
        print(f"ode-run: a process ended in the midst of its cell ({how or broken(error).reason})", file=sys.stderr)
        self._launch([point for point in left if point not in begun], 0)
        for point in begun:
            point.endings = endings(point.folder)
            if not self._gives_up(point, how=how if len(points) == 1 else ""):
                self._launch([point], 0)

    def _gives_up(self, point: SweepCell, *, how: str = "") -> bool:
        from ode_runner.sweeps.inspection import (
            given_up,
            record_ending,
        )  # here, so that --cfg and TAB need not wait for torch

        if reason := given_up(point, how=how):
            point.ending = Ending(ExitCode.FAILED, RunStatus.FAILED, reason)
            record_ending(point, RunStatus.FAILED, reason)
        return bool(reason)


def _signal(error: Exception) -> str:
    """What joblib says of the end of a worker, as in SIGKILL(-9) or EXIT(3)."""
    said = re.search(r"\b(?:SIG[A-Z]+|EXIT)\((-?\d+)\)", str(error))
    return "" if said is None else exit_in_words(int(said[1]))
