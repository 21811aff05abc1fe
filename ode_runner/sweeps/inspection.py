"""How a cell stands: from its options, and from what is on disk."""

from contextlib import suppress
from pathlib import Path

from omegaconf import DictConfig

from ode_runner.build import check_possible, identify
from ode_runner.config.identity import read_same
from ode_runner.config.rerun import Rerun
from ode_runner.errors import IncompatibleChoice, InUse, RefusedInput
from ode_runner.recording.attempts import TOO_OFTEN, endings
from ode_runner.recording.bookkeeping import COMMANDS
from ode_runner.recording.lock import lock
from ode_runner.recording.record import NONE, UNUSED, RunStatus, utc_now
from ode_runner.sweeps.sweep_cell import CellState, SweepCell

# Of cells that are not run, those that are recorded all the same.
UNRUN = {CellState.INCOMPATIBLE: RunStatus.INCOMPATIBLE, CellState.PASSED_OVER: RunStatus.FAILED}


def inspect_cell(*, name: str, overrides: list[str], cfg: DictConfig, folder: Path) -> SweepCell:
    """How a cell stands, from its options and from what is on disk. Nothing is made or changed.

    Raises:
        RefusedInput: not even a name can be given to it.
    """
    record = identify(cfg, cfg.hydra.runtime.choices)
    axes = [choice for axis, choice in record.choices.items() if choice not in (UNUSED, NONE) and axis != "network"]
    name = name or " · ".join([*axes, f"seed {record.seed}"])
    point = SweepCell(name=name, overrides=overrides, cfg=cfg, folder=folder, record=record, outlook=CellState.RUN)
    rerun = Rerun.of(cfg.rerun)
    if any(cfg[way] for way in COMMANDS):
        return point
    try:
        earlier = read_same(folder, record)
    except RefusedInput as refusal:
        point.outlook, point.remark = CellState.REFUSED, str(refusal)
        return point
    point.endings = endings(folder)
    point.begun = point.endings > 0 or (earlier is not None and rerun is not Rerun.ALL)
    if earlier is not None and earlier.status is RunStatus.COMPLETED and rerun is not Rerun.ALL:
        point.outlook = CellState.DONE
        return point
    try:
        check_possible(cfg, point.choices)
    except RefusedInput as refusal:
        impossible = isinstance(refusal, IncompatibleChoice)
        point.outlook, point.remark = CellState.INCOMPATIBLE if impossible else CellState.REFUSED, str(refusal)
        return point
    if rerun is Rerun.FAILED and not point.begun:
        point.outlook, point.remark = CellState.LEFT, "never begun"
    elif rerun is not Rerun.ALL and (folder / "checkpoints" / "last.pt").is_file():
        point.outlook = CellState.RESUME
    if earlier is not None and point.outlook.due:
        words = "broken off" if earlier.status is RunStatus.RUNNING else f"{earlier.status}: {earlier.reason}"
        point.remark = f"was {words}" if earlier.status is not RunStatus.COMPLETED else "completed before"
    return point


def given_up(point: SweepCell, *, how: str = "") -> str:
    """Why a cell is passed over, if processes ended in the midst of it too often; `how` the last did, where known.

    One that is recorded so is tried again by rerun=failed, and any by rerun=all.
    """
    earlier, rerun = point.recorded(), Rerun.of(point.cfg.rerun)
    recorded = earlier is not None and earlier.status is RunStatus.FAILED
    if endings(point.folder) < TOO_OFTEN or rerun is Rerun.ALL or (recorded and rerun is Rerun.FAILED):
        return ""
    if recorded and earlier is not None:
        return earlier.reason
    cause = how or "killed for want of memory, or crashed, say"
    return f"its process ended {TOO_OFTEN} times in the midst of it ({cause}); rerun=failed tries it again"


def record_unrun(point: SweepCell) -> None:
    """The record of a cell that is not run, if it is to have one."""
    if point.outlook in UNRUN:
        record_ending(point, UNRUN[point.outlook], point.remark)


def record_ending(point: SweepCell, status: RunStatus, reason: str) -> None:
    """Unless its record says so already, or there is a completed one from other times."""
    point.folder.mkdir(parents=True, exist_ok=True)
    with suppress(InUse), lock(point.folder):  # another driver of the sweep is about to write the same
        earlier = read_same(point.folder, point.record)
        said = earlier is not None and (earlier.status, earlier.reason) == (status, reason)
        if said or (earlier is not None and earlier.status is RunStatus.COMPLETED):
            return
        record = point.record
        record.status, record.reason = status, reason
        record.started = record.finished = utc_now()
        record.write(point.folder)
