"""How a cell stands: from its options, and from what is on disk."""

import datetime
from contextlib import suppress
from pathlib import Path

from omegaconf import DictConfig

from ode_runner.build import identify
from ode_runner.compatibility import demand_compatible
from ode_runner.construct import construct, locate
from ode_runner.errors import IncompatibleChoice, InUse, RefusedInput
from ode_runner.lock import lock
from ode_runner.record import RunRecord, RunStatus
from ode_runner.rerun import Rerun
from ode_runner.sweeps.point import Outlook, Point
from ode_runner.ways import WAYS


def look(*, name: str, overrides: list[str], cfg: DictConfig, folder: Path) -> Point:
    """How a cell stands, from its options and from what is on disk. Nothing is made or changed.

    Raises:
        RefusedInput: not even a name can be given to it.
    """
    record = identify(cfg, cfg.hydra.runtime.choices)
    axes = [choice for axis, choice in record.choices.items() if choice != "-" and axis != "network"]
    name = name or " · ".join([*axes, f"seed {record.seed}"])
    point = Point(name=name, overrides=overrides, cfg=cfg, folder=folder, record=record, outlook=Outlook.RUN)
    earlier = RunRecord.read(folder)
    rerun = Rerun.of(cfg.rerun)
    if any(cfg[way] for way in WAYS):
        return point
    if earlier is not None and earlier.status is RunStatus.COMPLETED and rerun is not Rerun.ALL:
        point.outlook = Outlook.DONE
        return point
    try:
        _demand_possible(point)
    except RefusedInput as refusal:
        impossible = isinstance(refusal, IncompatibleChoice)
        point.outlook, point.remark = Outlook.INCOMPATIBLE if impossible else Outlook.REFUSED, str(refusal)
        return point
    if rerun is Rerun.FAILED and earlier is None:
        point.outlook, point.remark = Outlook.LEFT, "never begun"
    elif rerun is not Rerun.ALL and (folder / "checkpoints" / "last.pt").is_file():
        point.outlook = Outlook.RESUME
    if earlier is not None and point.outlook.due:
        words = "broken off" if earlier.status is RunStatus.RUNNING else f"{earlier.status}: {earlier.reason}"
        point.remark = f"was {words}" if earlier.status is not RunStatus.COMPLETED else "completed before"
    return point


def record_incompatible(point: Point) -> None:
    """Its record, unless it says so already, or there is a completed one from other times."""
    point.folder.mkdir(parents=True, exist_ok=True)
    with suppress(InUse), lock(point.folder):  # another driver of the sweep is about to write the same
        earlier = RunRecord.read(point.folder)
        said = earlier is not None and (earlier.status, earlier.reason) == (RunStatus.INCOMPATIBLE, point.remark)
        if said or (earlier is not None and earlier.status is RunStatus.COMPLETED):
            return
        record = point.record
        record.status, record.reason = RunStatus.INCOMPATIBLE, point.remark
        record.started = record.finished = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        record.write(point.folder)


def _demand_possible(point: Point) -> None:
    """What can be said without any data."""
    solver, gradient = construct(point.cfg, "solver"), construct(point.cfg, "gradient")
    demand_compatible(point.choices, locate(point.cfg, "model"), solver, gradient)
