"""How processes come together for one run, what they say to each other, and how they notice that one has gone."""

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
TIMEOUT = timedelta(hours=24)  # helpers wait while the first process evaluates and draws; its end they notice


class PeerLost(Exception):
    """The others have gone. Whatever there is to say of it, the first process says."""

    def __init__(self, error: RuntimeError) -> None:
        super().__init__(str(error))
        self.error = error


@contextmanager
def raising_peer_lost() -> Iterator[None]:
    """Around what all processes do together. Raises Parted if one of them is missing."""
    try:
        yield
    except RuntimeError as error:
        raise PeerLost(error) from error


def broadcast(message: Any) -> Any:
    """From the first process, whatever it says, to all others, whatever they say."""
    received = [message]
    with raising_peer_lost():
        dist.broadcast_object_list(received, src=0)
    return received[0]


def cores() -> int:
    """Those that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # which is Linux's
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def share_cores(processes: int) -> None:
    """As many threads as leave room for the others on this machine, unless the person has said how many."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, cores() // processes))


def transferable(error: BaseException, *, rank: int) -> BaseException:
    """What is being handled, in a form that can be raised in another process."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # of its own making
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(f"in process {rank} of the run:\n{traceback.format_exc()}")
    return error
