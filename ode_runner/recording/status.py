"""The status that an exception means for a run, and a sentence for the user."""

import re
import traceback
from contextlib import suppress
from pathlib import Path

import torch

from ode_runner.errors import (
    CheckpointRefused,
    Diverged,
    IncompatibleChoice,
    Interrupted,
    Pruned,
    RefusedInput,
    SolverFailed,
    can_be_typed,
)
from ode_runner.recording.atomic_write import atomic_write
from ode_runner.recording.record import RunStatus

TRACEBACK = "error.txt"
TWICE = "backward through the graph a second time"  # in torch's error
KEPT = (
    "A field or model keeps a tensor of an earlier step in an attribute, such as a list of its states, and computes "
    "with it. Keep x.detach(), or nothing."
)
NO_MEMORY = "allocate memory|calculation overflowed|out of memory"  # in torch's errors on a CPU


def status_of(error: BaseException) -> tuple[RunStatus, str]:
    """The status that an exception means, and a sentence with the cause and, if there is one, a remedy."""
    reason = str(error).strip() or ("no memory is left." if isinstance(error, MemoryError) else type(error).__name__)
    match error:
        case IncompatibleChoice():
            return RunStatus.INCOMPATIBLE, reason
        case RefusedInput():
            return RunStatus.FAILED, reason
        case CheckpointRefused():
            return RunStatus.FAILED, f"{reason} To start over, add rerun=true."
        case Interrupted() | KeyboardInterrupt():
            return RunStatus.INTERRUPTED, f"{reason}; the same command resumes it"
        case Pruned():
            return RunStatus.PRUNED, reason
        case Diverged():
            advice = "Try a smaller optimizer.lr, or trainer.max_grad_norm=1."
            return RunStatus.DIVERGED, f"{reason} {_on_targets(error) or advice}"
        case SolverFailed():
            return RunStatus.SOLVER_FAILED, reason
        case torch.OutOfMemoryError() | MemoryError():
            return RunStatus.OUT_OF_MEMORY, f"{_first_line(reason)} {_smaller()}"
        case RuntimeError() if re.search(NO_MEMORY, reason):
            return RunStatus.OUT_OF_MEMORY, f"{_first_line(reason)} {_smaller()}"
        case OSError():
            what = f"{error.strerror or reason}{f': {error.filename}' if error.filename else ''}"
            return RunStatus.FAILED, f"{what}. What was saved before is intact; the same command continues from it."
        case _:
            return RunStatus.FAILED, f"{type(error).__name__}: {_explained(_first_line(reason))}"


def status_with_traceback(error: BaseException, folder: Path) -> tuple[RunStatus, str]:
    """`status_of(error)`. Writes the traceback of an unexpected error into `folder`; call it in the except block."""
    status, reason = status_of(error)
    if status is RunStatus.FAILED and not isinstance(error, OSError | CheckpointRefused):
        with suppress(OSError):
            text = traceback.format_exc().encode(errors="backslashreplace")
            atomic_write(folder / TRACEBACK, lambda file: file.write(text))
            reason += f" (traceback in {folder / TRACEBACK})"
    return status, reason


def _on_targets(failure: Diverged) -> str:
    """A sentence if known targets of the batch are not finite; else ""."""
    if failure.crash_dump is None:
        return ""
    targets, observed = failure.crash_dump.batch.targets, failure.crash_dump.batch.observed
    known = targets if observed is None else targets[observed]
    return "" if bool(torch.isfinite(known).all()) else "Targets of this batch are NaN or infinite."


def _explained(reason: str) -> str:
    return f"{reason.partition('.')[0]}. {KEPT}" if TWICE in reason else reason


def _first_line(text: str) -> str:
    return text.splitlines()[0]


def _smaller() -> str:
    """What needs less memory, as far as it can be typed."""
    options = "trainer.batch_size or network.width" if can_be_typed("network") else "trainer.eval_batch_size"
    return f"Try a smaller {options}."
