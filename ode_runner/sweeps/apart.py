"""A run of a sweep in a process of its own, which may end however it does: the sweep goes on, and knows how."""

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

from ode_runner.config.exit_codes import Ending
from ode_runner.distributed.child_process import run_in_own_group
from ode_runner.sweeps.returned import ending_of

SECONDS = 5.0  # for a run that is told a second time to stop


def run_apart(launcher: Launcher, overrides: list[str], number: int) -> Ending | int:
    """What came of a run through `launcher`, one that runs in its own process; or that process's exit code.

    Raises:
        KeyboardInterrupt: this process or the run itself was told to stop.
    """
    context = get_context("spawn")  # a fork would take CUDA and threads along
    own_end, child_end = context.Pipe(duplex=False)
    hydra = pickle.dumps((Singleton.get_state()["instances"], launcher))
    work = pickle.dumps(partial(_run, hydra, overrides, number))
    process = context.Process(target=run_in_own_group, args=(work, child_end))
    process.start()
    child_end.close()  # so that the pipe ends with the process
    try:
        ending = own_end.recv()
    except EOFError:
        process.join()
        return process.exitcode or 0
    except KeyboardInterrupt:
        _stop(process)
        raise
    process.join()
    if ending is None:
        raise KeyboardInterrupt
    return ending


def exit_in_words(code: int) -> str:
    """How a process ended that had something left to do, by its exit code: SIGKILL for -9."""
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name if -code in list(signal.Signals) else f"signal {-code}"
    return f"{name}: for want of memory, perhaps" if name == "SIGKILL" else name


def _stop(process: BaseProcess) -> None:
    """Told once, the run saves what it has, as it would in this process; told again, it ends at once."""
    try:
        process.terminate()
        process.join()
    except KeyboardInterrupt:
        process.terminate()
        process.join(timeout=SECONDS)
        process.kill()


def _run(hydra: bytes, overrides: list[str], number: int, pipe: Connection) -> None:
    """In the process itself, once it knows of Hydra what its parent does; resolvers are registered by their modules."""
    try:
        instances, launcher = pickle.loads(hydra)
        Singleton.set_state({"instances": instances, "omegaconf_resolvers": BaseContainer._resolvers})
        [job] = launcher.launch([overrides], initial_job_idx=number)
        pipe.send(ending_of(job))
    except KeyboardInterrupt:
        pipe.send(None)
    sys.stdout.flush()
