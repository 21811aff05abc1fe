"""The progress bar over all cells of a sweep, on a terminal; a cell that runs in the same process advances it."""

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from ode_runner.recording.clock import clock

_open: list["SweepBar"] = []  # global, because Hydra passes nothing from its sweeper to the runs


class SweepBar:
    """Shows the cells that have ended, the time left, and the progress of the cell that runs in this process."""

    def __init__(self, total: int) -> None:
        self.total, self.ended, self.within, self.began = total, 0, 0.0, time.monotonic()
        columns = (
            TextColumn("{task.fields[cells]}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[left]}  {task.fields[now]}"),
        )
        self._progress = Progress(*columns, console=Console(highlight=False), transient=True)
        self._bar: TaskID = self._progress.add_task("", total=total, cells=f"0/{total}", left="", now="")

    def start(self) -> None:
        self._progress.start()
        _open.append(self)

    def stop(self) -> None:
        self._progress.stop()
        _open.remove(self)

    def cell_ended(self) -> None:
        self.ended, self.within = self.ended + 1, 0.0
        self._show("")

    def advance(self, fraction: float, numbers: str) -> None:
        """Show the completed fraction of the training of the cell that runs in this process."""
        self.within = fraction
        self._show(numbers)

    def _show(self, now: str) -> None:
        done = self.ended + self.within
        seconds = (time.monotonic() - self.began) / done * (self.total - done) if done else 0.0
        left = f"{clock(seconds)} left" if done else ""
        self._progress.update(self._bar, completed=done, cells=f"{self.ended}/{self.total}", left=left, now=now)


def open_bar() -> SweepBar | None:
    """The bar of the sweep that this process runs; None if there is none."""
    return _open[-1] if _open else None
