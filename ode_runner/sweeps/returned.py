"""What a launcher of Hydra's has brought back of a job of ours, as an ending."""

from hydra.core.utils import JobReturn

from ode_runner.config.exit_codes import Ending, ExitCode
from ode_runner.recording.record import RunStatus


def ending_of(job: JobReturn) -> Ending:
    """What a job of ours has returned to Hydra."""
    try:
        return Ending(*job.return_value)
    except Exception as error:  # none of those that a run expects
        return broken(error)


def broken(error: Exception) -> Ending:
    """Of a job that has failed in a way that nobody foresaw, so that it left no record."""
    return Ending(ExitCode.FAILED, RunStatus.FAILED, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
