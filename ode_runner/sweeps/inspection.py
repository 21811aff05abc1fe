"""Determines the state of a cell from its options and from its run folder."""

from contextlib import suppress
from pathlib import Path

from omegaconf import DictConfig

from ode_runner.build import check_possible, vain_diagnostics
from ode_runner.building.run_identity import identify
from ode_runner.config.identity import read_same
from ode_runner.config.rerun import Rerun
from ode_runner.errors import IncompatibleChoice, InUse, RefusedInput
from ode_runner.recording.attempts import TOO_OFTEN, aborted_attempts
from ode_runner.recording.bookkeeping import COMMANDS
from ode_runner.recording.lock import lock
from ode_runner.recording.missing_output import missing_output
from ode_runner.recording.own_code import changed
from ode_runner.recording.record import NONE, UNUSED, RunRecord, RunStatus, utc_now
from ode_runner.sweeps.sweep_cell import CellState, SweepCell

# States of cells that are not run but get a record, and the status in that record.
UNRUN = {CellState.INCOMPATIBLE: RunStatus.INCOMPATIBLE, CellState.PASSED_OVER: RunStatus.FAILED}


def inspect_cell(*, name: str, overrides: list[str], cfg: DictConfig, folder: Path) -> SweepCell:
    """The cell with its state, from its options and its run folder. Nothing is made or changed.

    Raises:
        RefusedInput: the configuration cannot be resolved, so that the cell has no identity.
    """
    record = identify(cfg, cfg.hydra.runtime.choices)
    axes = [choice for axis, choice in record.choices.items() if choice not in (UNUSED, NONE) and axis != "network"]
    name = name or " · ".join([*axes, f"seed {record.seed}"])
    cell = SweepCell(name=name, overrides=overrides, cfg=cfg, folder=folder, record=record, state=CellState.RUN)
    rerun = Rerun.of(cfg.rerun)
    if any(cfg[way] for way in COMMANDS):
        return cell
    try:
        earlier = read_same(folder, record)
    except RefusedInput as refusal:
        cell.state, cell.remark = CellState.REFUSED, str(refusal)
        return cell
    cell.aborted_attempts = aborted_attempts(folder)
    cell.begun = cell.aborted_attempts > 0 or (earlier is not None and rerun is not Rerun.ALL)
    if earlier is not None and earlier.status is RunStatus.COMPLETED and rerun is not Rerun.ALL:
        cell.state = CellState.DONE
        others = ", ".join(changed(record.config, earlier.code))
        code = f"{others} changed since; rerun=true makes it anew." if others else ""
        missing = missing_output(record, cell.choices, earlier, vain=vain_diagnostics(cfg))
        cell.remark = " ".join(filter(None, (missing, code)))
        return cell
    if _is_possible(cell):
        _compare_with_earlier(cell, earlier, rerun)
    return cell


def _is_possible(cell: SweepCell) -> bool:
    """Whether the cell's options are compatible; if not, its state and remark say why."""
    try:
        check_possible(cell.cfg, cell.choices)
    except RefusedInput as refusal:
        impossible = isinstance(refusal, IncompatibleChoice)
        cell.state, cell.remark = CellState.INCOMPATIBLE if impossible else CellState.REFUSED, str(refusal)
        return False
    return True


def _compare_with_earlier(cell: SweepCell, earlier: RunRecord | None, rerun: Rerun) -> None:
    """Set the state of a cell that can be run: left out, resumed or begun; its remark says how it ended before."""
    if rerun is Rerun.FAILED and not cell.begun:
        cell.state, cell.remark = CellState.LEFT, "never begun"
    elif rerun is not Rerun.ALL and (cell.folder / "checkpoints" / "last.pt").is_file():
        cell.state = CellState.RESUME
    if earlier is not None and cell.state.due:
        words = "broken off" if earlier.status is RunStatus.RUNNING else f"{earlier.status}: {earlier.reason}"
        cell.remark = f"was {words}" if earlier.status is not RunStatus.COMPLETED else "completed before"


def reason_passed_over(cell: SweepCell, *, how: str = "") -> str:
    """Why a cell is passed over, if it was aborted too often; otherwise "".

    `how` says how the last process ended, if known. rerun=failed tries a recorded failure again, rerun=all every cell.
    """
    earlier, rerun = cell.recorded(), Rerun.of(cell.cfg.rerun)
    recorded = earlier is not None and earlier.status is RunStatus.FAILED
    if aborted_attempts(cell.folder) < TOO_OFTEN or rerun is Rerun.ALL or (recorded and rerun is Rerun.FAILED):
        return ""
    if recorded and earlier is not None:
        return earlier.reason
    cause = how or "killed for lack of memory, or crashed, for example"
    return f"its process ended {TOO_OFTEN} times during it ({cause}); rerun=failed tries it again"


def record_unrun(cell: SweepCell) -> None:
    """Write the record of a cell that is not run, if its state requires one."""
    if cell.state in UNRUN:
        record_ending(cell, UNRUN[cell.state], cell.remark)


def record_ending(cell: SweepCell, status: RunStatus, reason: str) -> None:
    """Write a record with the status and reason, unless there is the same one or a completed one."""
    if _is_recorded(cell, status, reason):  # first without a lock, since the disk may be read-only
        return
    cell.folder.mkdir(parents=True, exist_ok=True)
    with suppress(InUse), lock(cell.folder):  # another driver of the sweep is about to write the same
        if _is_recorded(cell, status, reason):
            return
        record = cell.record
        record.status, record.reason = status, reason
        record.started = record.finished = utc_now()
        record.write(cell.folder)


def _is_recorded(cell: SweepCell, status: RunStatus, reason: str) -> bool:
    earlier = read_same(cell.folder, cell.record)
    if earlier is None:
        return False
    return earlier.status is RunStatus.COMPLETED or (earlier.status, earlier.reason) == (status, reason)
