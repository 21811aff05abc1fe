"""Passes the cells of a sweep to a launcher and collects their results, even if the launcher's processes are killed."""

import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from hydra.plugins.launcher import Launcher

from ode_runner.config.exit_codes import IN_USE, ExitCode, JobResult
from ode_runner.errors import RefusedInput
from ode_runner.recording.attempts import aborted_attempts
from ode_runner.recording.record import RunStatus
from ode_runner.sweeps.job_results import broken, result_of
from ode_runner.sweeps.launchers import BASIC_LAUNCHER, JOBLIB_LAUNCHER, SLURM_LAUNCHER
from ode_runner.sweeps.own_process import exit_in_words, run_in_own_process
from ode_runner.sweeps.progress import Progress
from ode_runner.sweeps.sweep_cell import SweepCell, due_cells

POLL_SECONDS = 1.0  # between checks whether another process has released a cell


def check_launcher(target: str) -> None:
    """Raises RefusedInput if a launcher of this class cannot work here, so that not every cell fails."""
    if target == SLURM_LAUNCHER and shutil.which("srun") is None:
        raise RefusedInput(
            "hydra/launcher=slurm: there is no srun on this machine, so it hands no jobs to Slurm. Type the command "
            "on a machine of the cluster, or hydra/launcher=local for several at a time here."
        )


def in_sweep(overrides: Sequence[str], sweep_dir: str) -> list[str]:
    """A cell's overrides with its sweep's folder: a worker has another sys.argv and would name it differently."""
    quoted = sweep_dir.replace("\\", "\\\\").replace("'", "\\'")
    return [*overrides, f"hydra.sweep.dir='{quoted}'"]


@dataclass(frozen=True, kw_only=True)
class Dispatch:
    """Runs cells through a launcher, and runs those again that were lost with one of its processes."""

    launcher: Launcher
    target: str  # the launcher's class
    at_once: int | None  # the most cells that the launcher gets at once; None: all that are due
    sweep_dir: str
    progress: Progress

    def run(self, cells: Sequence[SweepCell]) -> None:
        """Run all cells that are due, then those that another process had locked, once it releases them."""
        due = due_cells(cells)
        size = 1 if self.target == BASIC_LAUNCHER else self.at_once or len(due)
        ended: list[SweepCell] = []
        for start in range(0, len(due), max(size, 1)):
            batch = due[start : start + size]
            died = [cell for cell in batch if _aborted_since(cell)]  # run by another driver of the sweep
            ended += died
            self._launch([cell for cell in batch if cell not in died], start)
        for cell in ended:
            self._launch([cell], 0)
        while waiting := [cell for cell in due if cell.result is not None and cell.result.status == IN_USE]:
            free = self.progress.wait(waiting, seconds=POLL_SECONDS)
            self._launch(free[:1] if self.target == BASIC_LAUNCHER else free, 0)

    def _launch(self, cells: Sequence[SweepCell], start: int) -> None:
        cells = [cell for cell in self.progress.still_due(cells) if not self._passes_over(cell)]
        if not cells:
            return
        with self.progress.watching(cells):
            self._run(cells, start)
        self.progress.tell(cells)

    def _run(self, cells: Sequence[SweepCell], start: int) -> None:
        try:
            if self.target == BASIC_LAUNCHER and aborted_attempts(cells[0].folder):
                self._run_separately(cells[0], start)
                return
            jobs = self.launcher.launch(
                [in_sweep(cell.overrides, self.sweep_dir) for cell in cells], initial_job_idx=start
            )
            results = [result_of(job) for job in jobs]
        except Exception as error:  # of the launcher, if a worker was killed; records of the other cells exist
            self._recover(cells, error)
            return
        for cell, result in zip(cells, results, strict=True):
            cell.result = result

    def _run_separately(self, cell: SweepCell, number: int) -> None:
        """Run a cell that has killed its process before in a child process, and report how that ends."""
        result = run_in_own_process(self.launcher, in_sweep(cell.overrides, self.sweep_dir), number)
        if isinstance(result, JobResult):
            cell.result = result
            return
        how = exit_in_words(result)
        print(f"ode-run: a process ended during its cell ({how})", file=sys.stderr)
        if not self._passes_over(cell, how=how):  # it saved progress since, or rerun= is set
            reason = f"its process ended during it ({how}); the same command tries it again"
            cell.result = JobResult(ExitCode.FAILED, RunStatus.FAILED, reason)

    def _recover(self, cells: Sequence[SweepCell], error: Exception) -> None:
        """Deal with the cells of a launcher that failed with `error`.

        Cells without a result count as failed, except with joblib, which gives up all cells when one worker ends. Then
        cells that had not begun are launched again, and those that had are run one at a time, so that only a cell that
        kills its process by itself is passed over.
        """
        for cell in cells:
            cell.result = self.progress.recorded(cell)
        left = [cell for cell in cells if cell.result is None]
        begun = [cell for cell in left if _aborted_since(cell)] if self.target == JOBLIB_LAUNCHER else []
        if not begun:
            print(f"ode-run: {broken(error).reason}", file=sys.stderr)
            for cell in left:
                cell.result = broken(error)
            return
        how = _signal(error)
        print(f"ode-run: a process ended during its cell ({how or broken(error).reason})", file=sys.stderr)
        self._launch([cell for cell in left if cell not in begun], 0)
        for cell in begun:
            cell.aborted_attempts = aborted_attempts(cell.folder)
            if not self._passes_over(cell, how=how if len(cells) == 1 else ""):
                self._launch([cell], 0)

    def _passes_over(self, cell: SweepCell, *, how: str = "") -> bool:
        # here, so that --cfg and TAB do not wait for torch
        from ode_runner.sweeps.inspection import reason_passed_over, record_ending

        if reason := reason_passed_over(cell, how=how):
            cell.result = JobResult(ExitCode.FAILED, RunStatus.FAILED, reason)
            record_ending(cell, RunStatus.FAILED, reason)
        return bool(reason)


def _aborted_since(cell: SweepCell) -> bool:
    """Whether a process has ended while running the cell since it was inspected."""
    return aborted_attempts(cell.folder) > cell.aborted_attempts


def _signal(error: Exception) -> str:
    """How a worker of joblib ended, by SIGKILL(-9) or EXIT(3) in its message; "" if the message has neither."""
    ended = re.search(r"\b(?:SIG[A-Z]+|EXIT)\((-?\d+)\)", str(error))
    return "" if ended is None else exit_in_words(int(ended[1]))
