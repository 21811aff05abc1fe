"""Communication between the processes of one run: back ends, broadcasts, loss of a process, sharing of cores."""

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
    """Around collective operations: raises PeerLost, in place of RuntimeError, where a process is missing."""
    try:
        yield
    except RuntimeError as error:
        raise PeerLost(error) from error


def broadcast(message: Any) -> Any:
    """Send the main process's message to all; returns it in every process. The others' arguments are ignored."""
    received = [message]
    with raising_peer_lost():
        dist.broadcast_object_list(received, src=0)
    return received[0]


def cores() -> int:
    """The number of cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # which is Linux's
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def share_cores(processes: int) -> None:
    """Set torch's threads to this process's share of the cores, unless OMP_NUM_THREADS is set."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, cores() // processes))


def transferable(error: BaseException, *, rank: int) -> BaseException:
    """The error that is being handled, with its traceback as a note, in a form that can be pickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # an error of a class that cannot be pickled
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(f"in process {rank} of the run:\n{traceback.format_exc()}")
    return error
