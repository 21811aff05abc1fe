"""Refuses a sweep before it begins if none of its cells can be run."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ode_runner.errors import IncompatibleChoice, InUse, RefusedInput
from ode_runner.experiment.process_state import unchanged
from ode_runner.recording.attempts import attempt
from ode_runner.recording.bookkeeping import COMMANDS
from ode_runner.recording.lock import FILE as LOCK
from ode_runner.recording.lock import lock
from ode_runner.sweeps.dry_run import DryRun
from ode_runner.sweeps.sweep_cell import CellState, SweepCell


def check_one_possible(cells: Sequence[SweepCell]) -> None:
    """Check that at least one cell can be run on this machine; if not, folders that were made are removed.

    Builds the objects of one cell after another until that succeeds, usually with the first.

    Raises:
        RefusedInput: no cell can be run; the message is that of one of the cells.
    """
    wanted = [cell for cell in cells if cell.state is not CellState.SAME]  # another cell has the same run
    if not any(cell.state.due for cell in wanted) and any(cell.state is CellState.DONE for cell in wanted):
        return
    refusals: list[RefusedInput] = []
    with _removing_if_refused() as made:
        for cell in sorted(wanted, key=lambda cell: not cell.state.due):
            if (refusal := _refusal(cell, made)) is None:
                return
            refusals.append(refusal)
        _refuse(refusals)


def _refuse(refusals: Sequence[RefusedInput]) -> None:
    """Raise one of the refusals; none if all are incompatible choices with different reasons: they get records."""
    if len({str(refusal) for refusal in refusals}) == 1:
        raise refusals[0]
    for refusal in refusals:
        if not isinstance(refusal, IncompatibleChoice):
            raise RefusedInput(f"{refusal} No other cell can be run either.")


def _refusal(cell: SweepCell, made: list[Path]) -> RefusedInput | None:
    """The refusal that a run of the cell would raise before it begins, or None. Other errors are left to the run."""
    if cell.state in (CellState.REFUSED, CellState.INCOMPATIBLE):
        impossible = cell.state is CellState.INCOMPATIBLE
        return IncompatibleChoice(cell.remark) if impossible else RefusedInput(cell.remark)
    if (
        cell.state in (CellState.PASSED_OVER, CellState.LEFT)
        or cell.aborted_attempts
        or any(cell.cfg[way] for way in COMMANDS)
    ):
        return None
    try:
        with _attempting(cell.folder, made), unchanged():
            DryRun.of(cell.cfg, cell.choices)
    except InUse:
        return None
    except RefusedInput as refusal:
        return refusal
    except (Exception, SystemExit):
        return None
    return None


@contextmanager
def _attempting(folder: Path, made: list[Path]) -> Iterator[None]:
    """Lock the folder and mark an attempt in it: a cell's own code may end this process. Adds new folders to `made`."""
    made[:0] = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder), attempt(folder, anew=False):
        yield


@contextmanager
def _removing_if_refused() -> Iterator[list[Path]]:
    """Yields a list; if the sweep is refused, the folders in it are removed, the innermost first."""
    made: list[Path] = []
    try:
        yield made
    except BaseException:
        for folder in made:
            with suppress(OSError):
                (folder / LOCK).unlink(missing_ok=True)
                folder.rmdir()  # unless another driver works there
        raise
