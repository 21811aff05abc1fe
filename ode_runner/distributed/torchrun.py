"""Helpers that are there already: `torchrun` has started the same command several times, on one machine or more.

All of these processes meet before anything else. That of rank 0 is the run, as if it were alone; the others never look
at the command: they wait to be told what to do, and their wait is over when the connection is, however the run ends.
"""

import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from ode_runner.distributed.data_parallel import Job, WorkerPool, build_worker
from ode_runner.distributed.ranks import Rank
from ode_runner.distributed.rendezvous import BACKEND, TIMEOUT, PeerLost, broadcast, share_cores, transferable
from ode_runner.errors import RefusedInput
from ode_runner.experiment.signals import leave_signals_to_the_first

TO_BEGIN = timedelta(minutes=10)  # from the first process that is there to the last
AT_ONCE = timedelta(seconds=10)


class TorchrunPool(WorkerPool):
    """The processes of rank 1 and up, for that of rank 0."""

    def __init__(self, rank: Rank, *, asked: int, device: torch.device) -> None:
        if asked not in (1, rank.size):
            raise RefusedInput(f"processes={asked}, but torchrun has started {rank.size}. Leave processes= out.")
        if device.type not in BACKEND:
            raise RefusedInput(f"torchrun has started {rank.size} processes, but {device.type} is one device. Use one.")
        self.size = rank.size
        share_cores(rank.size_here)

    @contextmanager
    def at_hand(self, job: Job) -> Iterator[None]:
        try:
            with self.errors():
                broadcast(pickle.dumps(job))
            yield
        except BaseException:
            dist.destroy_process_group()  # in the middle of a step they would wait for this process's share
            raise

    def explanation(self, error: RuntimeError) -> BaseException:
        with suppress(RuntimeError):  # torchrun itself may have ended, and the store with it
            store = _store(0, self.size, within=AT_ONCE)
            for rank in range(1, self.size):
                if store.check([_key(rank)]):
                    return pickle.loads(store.get(_key(rank)))
        return RuntimeError("another process of the run has ended; torchrun says which one, and how")


def join_group(rank: Rank, run: Callable[[], None]) -> None:
    """Be the run, or help the process that is."""
    if rank.number > 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # until it can be left to the first process
    _rendezvous(rank)
    if rank.number > 0:
        run_worker(rank)
    try:
        run()
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def run_worker(rank: Rank) -> None:
    """A helper's life. Its exit code says that it has done what it could: how the run ended, the first process says."""
    leave_signals_to_the_first()
    share_cores(rank.size_here)
    try:
        while True:
            job: Job = pickle.loads(broadcast(None))
            worker, trainer = build_worker(job, rank=rank.number, size=rank.size, gpu=rank.number_here)
            worker.follow(trainer)
    except PeerLost:
        pass
    except BaseException as error:
        with suppress(RuntimeError):  # the store went down with the first process
            store = _store(rank.number, rank.size, within=AT_ONCE)
            store.set(_key(rank.number), pickle.dumps(transferable(error, rank=rank.number)))
            store.get(_key(rank.number))  # it has arrived
    os._exit(0)  # leaving the group politely would wait for the others


def _rendezvous(rank: Rank) -> None:
    backend = BACKEND["cuda" if torch.cuda.is_available() else "cpu"]  # nccl does nothing until it is used
    try:
        store = _store(rank.number, rank.size, within=TO_BEGIN)
        dist.init_process_group(backend, store=store, rank=rank.number, world_size=rank.size, timeout=TIMEOUT)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        sys.exit(f"ode-run: process {rank.number} cannot reach the others that torchrun has started ({reason}).")


def _store(rank: int, size: int, *, within: timedelta) -> Any:
    """What a process leaves here can be read when it has ended; what a try before this one left, cannot."""
    store, _, _ = next(rendezvous("env://", rank, size, timeout=within))  # at MASTER_ADDR and MASTER_PORT
    return PrefixStore(f"ode-run/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)


def _key(rank: int) -> str:
    return f"error/{rank}"
