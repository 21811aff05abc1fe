"""Reuses the weights of an earlier run for a run that differs from it only in the test, not in the training."""

from pathlib import Path

from ode_runner.errors import CheckpointRefused
from ode_runner.recording.atomic_write import atomic_write
from ode_runner.recording.checkpoint import Checkpoints
from ode_runner.recording.display import Display
from ode_runner.recording.logger import METRICS
from ode_runner.recording.own_code import CHOICES
from ode_runner.recording.record import FILE, RunRecord, RunStatus
from ode_runner.recording.regular_file import read_regular

UNTRAINED = "nothing was trained"  # ends the record's reason if a run took its weights from another


def reuse_weights(record: RunRecord, folder: Path, checkpoints: Checkpoints, display: Display) -> str:
    """Put the checkpoints and curves of an earlier run into `folder`, as if the run had trained to its end.

    The earlier run is completed, lies beside `folder`, has the same seed and training fingerprint, and was made with
    the same modules of the user's own. Returns a clause for the record; "" if there is no such run, or this run has
    begun to train.
    """
    if record.training == record.fingerprint or checkpoints.last.exists():
        return ""
    alike = _alike(record, folder)
    by_this_code = [earlier for earlier in alike if not _other_code(record, earlier)]
    if alike and not by_this_code:
        others = _other_code(record, alike[0])
        display.say(f"{others} changed since {alike[0]} was trained: its weights are not taken.", style="yellow")
    for earlier in by_this_code:
        try:
            _copy(earlier, folder, checkpoints)
        except (CheckpointRefused, OSError) as error:
            display.say(f"{str(error).rstrip('.')}: its weights are not taken.", style="yellow")
            continue
        display.remark(f"the weights are those of {earlier}, which was trained by the same options: nothing is trained")
        return f"with the weights and training time of {earlier.name}, {UNTRAINED}"
    return ""


def _other_code(record: RunRecord, earlier: Path) -> str:
    """The user's own modules that both runs use and that have changed between them."""
    theirs = found.code if (found := RunRecord.read(earlier)) is not None else {}
    modules = {place: made for place, made in record.code.items() if not place.startswith(f"{CHOICES}/")}
    return ", ".join(place for place, made in modules.items() if theirs.get(place, made) != made)


def _alike(record: RunRecord, folder: Path) -> list[Path]:
    """Completed runs beside `folder` with the seed and the training fingerprint of the record, trained ones first."""
    found: list[tuple[bool, Path]] = []
    for path in sorted(folder.parent.glob(f"*-s{record.seed}-*/{FILE}")):
        other = RunRecord.read(path.parent) if path.parent.name != folder.name else None
        if other is not None and other.status is RunStatus.COMPLETED and other.seed == record.seed:
            found += [(UNTRAINED in other.reason, path.parent)] if other.training == record.training else []
    return [path for _, path in sorted(found)]


def _copy(earlier: Path, folder: Path, checkpoints: Checkpoints) -> None:
    """Copy checkpoints and curves. Raises CheckpointRefused or OSError, before writing, if they are not sound."""
    record = RunRecord.read(earlier)
    if record is None:
        raise FileNotFoundError(f"{earlier / FILE} was removed meanwhile.")
    theirs = Checkpoints(earlier / "checkpoints", fingerprint=record.fingerprint, seed=record.seed)
    best, last = theirs.load(theirs.best), theirs.load(theirs.last)
    curves = read_regular(earlier / METRICS)
    atomic_write(folder / METRICS, lambda file: file.write(curves))
    checkpoints.save_best(best)
    checkpoints.save_last(last)
