"""What is wrong in every cell of a sweep is said once, before the sweep begins."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ode_runner.build import check_buildable
from ode_runner.errors import IncompatibleChoice, InUse, RefusedInput
from ode_runner.experiment.process_state import unchanged
from ode_runner.recording.attempts import attempt
from ode_runner.recording.bookkeeping import COMMANDS
from ode_runner.recording.lock import FILE as LOCK
from ode_runner.recording.lock import lock
from ode_runner.sweeps.sweep_cell import CellState, SweepCell


def check_one_possible(points: Sequence[SweepCell]) -> None:
    """Refuses a sweep of which no cell can be run on this machine, and leaves no folder that it has made.

    The objects of cells are made, of one after another until they can be: usually of the first alone.

    Raises:
        RefusedInput: in the words of a cell.
    """
    wanted = [point for point in points if point.outlook is not CellState.SAME]  # another stands for it
    if not any(point.outlook.due for point in wanted) and any(point.outlook is CellState.DONE for point in wanted):
        return
    refusals: list[RefusedInput] = []
    with _leaving_nothing_if_refused() as made:
        for point in sorted(wanted, key=lambda point: not point.outlook.due):
            if (refusal := _refusal(point, made)) is None:
                return
            refusals.append(refusal)
        _refuse(refusals)


def _refuse(refusals: Sequence[RefusedInput]) -> None:
    """Unless all are of choices that do not go together in ways that depend on what varies: those are recorded."""
    if len({str(refusal) for refusal in refusals}) == 1:
        raise refusals[0]
    for refusal in refusals:
        if not isinstance(refusal, IncompatibleChoice):
            raise RefusedInput(f"{refusal} No other cell can be run either.")


def _refusal(point: SweepCell, made: list[Path]) -> RefusedInput | None:
    """What a run of the cell would be refused for before it begins; whatever else there is, the run says."""
    if point.outlook in (CellState.REFUSED, CellState.INCOMPATIBLE):
        impossible = point.outlook is CellState.INCOMPATIBLE
        return IncompatibleChoice(point.remark) if impossible else RefusedInput(point.remark)
    if (
        point.outlook in (CellState.PASSED_OVER, CellState.LEFT)
        or point.endings
        or any(point.cfg[way] for way in COMMANDS)
    ):
        return None
    try:
        with _marked(point.folder, made), unchanged():
            check_buildable(point.cfg, point.choices)
    except InUse:
        return None
    except RefusedInput as refusal:
        return refusal
    except (Exception, SystemExit):
        return None
    return None


@contextmanager
def _marked(folder: Path, made: list[Path]) -> Iterator[None]:
    """A cell's own code may end this process: then the folder tells so, as that of a run does."""
    made[:0] = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder), attempt(folder, anew=False):
        yield


@contextmanager
def _leaving_nothing_if_refused() -> Iterator[list[Path]]:
    """Folders that are made meanwhile, the innermost first, stay for the sweep if there is one."""
    made: list[Path] = []
    try:
        yield made
    except BaseException:
        for folder in made:
            with suppress(OSError):
                (folder / LOCK).unlink(missing_ok=True)
                folder.rmdir()  # unless another driver works there
        raise
