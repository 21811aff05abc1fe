"""Communication between the processes of a run: back ends, broadcasts, lost processes, sharing of cores."""

import os
import pickle
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

BACKEND = {"cpu": "cpu:gloo", "cuda": "cpu:gloo,cuda:nccl"}
TIMEOUT = timedelta(hours=24)  # workers wait while the main process evaluates and draws; they notice its end


class PeerLost(Exception):
    """Another process of the group has ended. Workers end silently; the main process reports the cause."""

    def __init__(self, error: RuntimeError) -> None:
        super().__init__(str(error))
        self.error = error


@contextmanager
def raising_peer_lost() -> Iterator[None]:
    """For collective operations: inside, a RuntimeError, which means that a process is missing, becomes PeerLost."""
    try:
        yield
    except RuntimeError as error:
        raise PeerLost(error) from error


def broadcast(message: Any) -> Any:
    """Sends the main process's message to all processes, and returns it in each; their arguments are ignored."""
    received = [message]
    with raising_peer_lost():
        dist.broadcast_object_list(received, src=0)
    return received[0]


def cores() -> int:
    """The number of cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # exists on Linux only
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def share_cores(processes: int) -> None:
    """Lowers torch's number of threads to this process's share of the cores, unless OMP_NUM_THREADS is set."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(min(torch.get_num_threads(), max(1, cores() // processes)))


def transferable(error: BaseException, *, rank: int) -> BaseException:
    """The exception being handled, in a form that can be pickled, with its traceback as a note."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # the exception's class cannot be pickled
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(f"in process {rank} of the run:\n{traceback.format_exc()}")
    return error
