"""Runs that are not completed: what became of them, and whether they have weights to evaluate."""

from pathlib import Path

from ode_runner.errors import RefusedInput
from ode_runner.recording.lock import in_use
from ode_runner.recording.record import RunRecord, RunStatus


def what_became_of(record: RunRecord, folder: Path) -> str:
    """A clause on a run that is not completed, to follow its name: `is not completed: it was killed, or ...`."""
    if record.status is not RunStatus.RUNNING:
        return f"is not completed but {record.status}"
    if in_use(folder):
        return "is not completed: another process is training it"
    return "is not completed: it was killed, or is still running on another machine"


def check_completed(record: RunRecord, folder: Path) -> None:
    """Raises RefusedInput if a run is not completed; the message says what became of it."""
    if record.status is not RunStatus.COMPLETED:
        raise RefusedInput(f"the run in {folder} {what_became_of(record, folder)}. Type its command to continue it.")


def can_be_asked(record: RunRecord, folder: Path) -> bool:
    """Whether a run that is not completed has best weights so far, and no process on this machine is training it."""
    stopped = record.status in (RunStatus.RUNNING, RunStatus.INTERRUPTED)
    return stopped and (folder / "checkpoints" / "best.pt").is_file() and not in_use(folder)
