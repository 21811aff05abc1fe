"""One cell of a sweep and its state."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from omegaconf import DictConfig

from ode_runner.config.exit_codes import JobResult
from ode_runner.config.identity import is_same
from ode_runner.recording.record import RunRecord


class CellState(StrEnum):
    """Whether a cell will be run, and why or why not."""

    RUN = "will run"
    RESUME = "resume"
    DONE = "done"
    SAME = "same run"
    INCOMPATIBLE = "incompatible"
    REFUSED = "refused"  # an option has an invalid value; the run is started, and prints and records the reason
    LEFT = "left out"
    PASSED_OVER = "passed over"  # its process ended too often

    @property
    def due(self) -> bool:
        return self in (CellState.RUN, CellState.RESUME, CellState.REFUSED)


@dataclass(kw_only=True)
class SweepCell:
    """A cell: its overrides, its run folder, its state before the sweep, and in the end its result."""

    name: str  # the options in which it differs from the others, as typed
    overrides: list[str]
    cfg: DictConfig
    folder: Path
    record: RunRecord  # identity and configuration, without results
    state: CellState
    remark: str = ""
    begun: bool = False  # by an earlier command, which did not complete it
    aborted_attempts: int = 0  # attempts whose process ended, see recording/attempts.py
    result: JobResult | None = None

    @property
    def choices(self) -> dict[str, str]:
        """The choice of each group, even if the model does not use it."""
        return {str(group): str(choice) for group, choice in self.cfg.hydra.runtime.choices.items()}

    def recorded(self) -> RunRecord | None:
        """The record of this cell's run in its folder; None if there is none, or one of another run."""
        found = RunRecord.read(self.folder)
        return found if found is not None and is_same(found, self.record) else None


@dataclass(frozen=True, kw_only=True)
class BrokenCell:
    """A cell without a configuration, and so without a record: a yaml that it chooses cannot be composed."""

    name: str
    reason: str


def mark_duplicates(cells: list[SweepCell]) -> None:
    """Mark cells that are the same run as an earlier cell, for example if the model does not use the differing option.

    Cells that are other runs but have the folder of an earlier cell are marked as refused.
    """
    first_runs: dict[tuple[str, int], SweepCell] = {}
    first_folders: dict[Path, SweepCell] = {}
    for cell in cells:
        same = first_runs.setdefault((cell.record.fingerprint, cell.record.seed), cell)
        other = first_folders.setdefault(cell.folder, cell)
        if same is not cell and is_same(cell.record, same.record):
            cell.state, cell.remark, cell.folder = CellState.SAME, same.name, same.folder
        elif other is not cell:
            cell.state = CellState.REFUSED
            cell.remark = f"{cell.folder} is the folder of {other.name}. Leave hydra.sweep.subdir out."


def due_cells(cells: Sequence[SweepCell]) -> list[SweepCell]:
    """The cells to run. Those never begun come first, so that a cell that ends its process delays no other."""
    return sorted((cell for cell in cells if cell.state.due), key=lambda cell: cell.begun)
