"""One cell of a sweep, and what is to be done about it."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from omegaconf import DictConfig

from ode_runner.config.exit_codes import Ending
from ode_runner.config.identity import is_same
from ode_runner.recording.record import RunRecord


class CellState(StrEnum):
    """What is to be done about a cell."""

    RUN = "will run"
    RESUME = "resume"
    DONE = "done"
    SAME = "same run"
    INCOMPATIBLE = "incompatible"
    REFUSED = "refused"  # an option's value is impossible; in a sweep the run says so, and its record
    LEFT = "left out"
    PASSED_OVER = "passed over"  # its process ended too often

    @property
    def due(self) -> bool:
        return self in (CellState.RUN, CellState.RESUME, CellState.REFUSED)


@dataclass(kw_only=True)
class SweepCell:
    """A cell: what was typed for it, where its run belongs, how it stands, and in the end what came of it."""

    name: str  # what sets it apart from the others, as typed
    overrides: list[str]
    cfg: DictConfig
    folder: Path
    record: RunRecord  # who it is, not what it came to
    outlook: CellState
    remark: str = ""
    begun: bool = False  # by an earlier command, which did not complete it
    endings: int = 0  # of processes in the midst of it, see attempts.py
    ending: Ending | None = None

    @property
    def choices(self) -> dict[str, str]:
        """By group, with those that the model does not use."""
        return {str(group): str(choice) for group, choice in self.cfg.hydra.runtime.choices.items()}

    def recorded(self) -> RunRecord | None:
        """What its folder tells of its run; None if nothing, or of another run."""
        found = RunRecord.read(self.folder)
        return found if found is not None and is_same(found, self.record) else None


def same_runs(points: list[SweepCell]) -> None:
    """Of cells with one run folder, the first stands for all: a model may have no use for what sets them apart.

    Where the command gives different runs one folder, those after the first are refused.
    """
    first: dict[Path, SweepCell] = {}
    for point in points:
        other = first.setdefault(point.folder, point)
        if other is point:
            continue
        point.outlook, point.remark = CellState.SAME, other.name
        if not is_same(point.record, other.record):
            point.outlook = CellState.REFUSED
            point.remark = f"{point.folder} is the folder of {other.name}. Leave hydra.sweep.subdir out."


def in_order(points: Sequence[SweepCell]) -> list[SweepCell]:
    """Those to be run, what was never begun first: a cell that ends its process must not keep the others waiting."""
    return sorted((point for point in points if point.outlook.due), key=lambda point: point.begun)
