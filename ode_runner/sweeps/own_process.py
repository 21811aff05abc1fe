"""Runs one cell in a child process: the sweep goes on however that process ends, and knows how it ended."""

import pickle
import signal
import sys
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from hydra.core.singleton import Singleton
from hydra.plugins.launcher import Launcher
from omegaconf.basecontainer import BaseContainer

from ode_runner.config.exit_codes import JobResult
from ode_runner.distributed.child_process import run_in_own_group
from ode_runner.sweeps.job_results import result_of

SECONDS = 5.0  # that a run has to end after a second request to stop


def run_in_own_process(launcher: Launcher, overrides: list[str], number: int) -> JobResult | int:
    """Launch one run in a child process; returns its result, or the exit code of a child that ended without one.

    Args:
        launcher: one that runs jobs in its own process.
        overrides: the overrides of the run.
        number: the job number, for Hydra.

    Raises:
        KeyboardInterrupt: this process or the child was told to stop.
    """
    context = get_context("spawn")  # a fork would copy the state of CUDA and threads
    own_end, child_end = context.Pipe(duplex=False)
    hydra = pickle.dumps((Singleton.get_state()["instances"], launcher))
    work = pickle.dumps(partial(_run, hydra, overrides, number))
    process = context.Process(target=run_in_own_group, args=(work, child_end))
    process.start()
    child_end.close()  # so that the pipe ends with the process
    try:
        result = own_end.recv()
    except EOFError:
        process.join()
        return process.exitcode or 0
    except KeyboardInterrupt:
        _stop(process)
        raise
    process.join()
    if result is None:
        raise KeyboardInterrupt
    return result


def exit_in_words(code: int) -> str:
    """An exit code in words: "SIGKILL: perhaps for lack of memory" for -9, "exit code 3" for 3."""
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name if -code in list(signal.Signals) else f"signal {-code}"
    return f"{name}: perhaps for lack of memory" if name == "SIGKILL" else name


def _stop(process: BaseProcess) -> None:
    """Send SIGTERM, so that the run saves its progress; after a second Ctrl-C, kill it after `SECONDS`."""
    try:
        process.terminate()
        process.join()
    except KeyboardInterrupt:
        process.terminate()
        process.join(timeout=SECONDS)
        process.kill()


def _run(hydra: bytes, overrides: list[str], number: int, pipe: Connection) -> None:
    """In the child: restore the parent's state of Hydra, launch the job, send its result; None for an interrupt."""
    try:
        instances, launcher = pickle.loads(hydra)
        Singleton.set_state({"instances": instances, "omegaconf_resolvers": BaseContainer._resolvers})
        [job] = launcher.launch([overrides], initial_job_idx=number)
        pipe.send(result_of(job))
    except KeyboardInterrupt:
        pipe.send(None)
    sys.stdout.flush()
