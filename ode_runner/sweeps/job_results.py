"""The result of a job, from what a launcher of Hydra returns."""

from hydra.core.utils import JobReturn

from ode_runner.config.exit_codes import ExitCode, JobResult
from ode_runner.recording.record import RunStatus


def result_of(job: JobReturn) -> JobResult:
    """The result that `run_job` returned to Hydra, or a failure if it raised an exception."""
    try:
        return JobResult(*job.return_value)
    except Exception as error:  # Hydra raises the job's error here
        return broken(error)


def broken(error: Exception) -> JobResult:
    """The result of a job that failed unexpectedly, without a record."""
    return JobResult(ExitCode.FAILED, RunStatus.FAILED, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
