"""Worker processes started by `torchrun`, all with the same command, on one or more machines.

All processes first join a process group. The process of rank 0 is the main process, which runs the command. The others
do not interpret the command: they wait for jobs from rank 0, and end when the connection to it ends.
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
from ode_runner.experiment.signals import ignore_stop_signals

TO_BEGIN = timedelta(minutes=10)  # longest time between the start of the first process and of the last
AT_ONCE = timedelta(seconds=10)  # timeout for a store that already exists


class TorchrunPool(WorkerPool):
    """The workers as seen by the process of rank 0: the processes of all other ranks."""

    def __init__(self, rank: Rank, *, asked: int, device: torch.device) -> None:
        if asked not in (1, rank.size):
            raise RefusedInput(f"processes={asked}, but torchrun has started {rank.size}. Leave processes= out.")
        if device.type not in BACKEND:
            raise RefusedInput(f"torchrun has started {rank.size} processes, but {device.type} is one device. Use one.")
        self.size = rank.size
        share_cores(rank.size_here)

    @contextmanager
    def connected(self, job: Job) -> Iterator[None]:
        try:
            with self.errors():
                broadcast(pickle.dumps(job))
            yield
        except BaseException:
            dist.destroy_process_group()  # in the middle of a step, workers would wait for this process's share
            raise

    def cause_of(self, error: RuntimeError) -> BaseException:
        with suppress(RuntimeError):  # torchrun may have ended, and the store with it
            store = _store(0, self.size, within=AT_ONCE)
            for rank in range(1, self.size):
                if store.check([_key(rank)]):
                    return pickle.loads(store.get(_key(rank)))
        return RuntimeError("another process of the run has ended; torchrun says which one, and how")


def join_group(rank: Rank, run: Callable[[], None]) -> None:
    """Joins the process group, then calls `run` in the process of rank 0, and `run_worker` in the others."""
    if rank.number > 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the main process handles it for all
    _rendezvous(rank)
    if rank.number > 0:
        run_worker(rank)
    try:
        run()
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def run_worker(rank: Rank) -> None:
    """The main function of a worker: takes jobs until the main process ends.

    The exit code is always 0: the main process determines the status of the run. An error is put into the store.
    """
    ignore_stop_signals()
    share_cores(rank.size_here)
    try:
        while True:
            job: Job = pickle.loads(broadcast(None))
            worker, trainer = build_worker(job, rank=rank.number, size=rank.size, gpu=rank.number_here)
            worker.train_along(trainer)
    except PeerLost:
        pass
    except BaseException as error:
        with suppress(RuntimeError):  # the store has ended with the main process
            store = _store(rank.number, rank.size, within=AT_ONCE)
            store.set(_key(rank.number), pickle.dumps(transferable(error, rank=rank.number)))
            store.get(_key(rank.number))  # returns only when the error is in the store
    os._exit(0)  # destroy_process_group would wait for the other processes


def _rendezvous(rank: Rank) -> None:
    backend = BACKEND["cuda" if torch.cuda.is_available() else "cpu"]  # nccl is not initialized until it is used
    try:
        store = _store(rank.number, rank.size, within=TO_BEGIN)
        dist.init_process_group(backend, store=store, rank=rank.number, world_size=rank.size, timeout=TIMEOUT)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        sys.exit(f"ode-run: process {rank.number} cannot reach the others that torchrun has started ({reason}).")


def _store(rank: int, size: int, *, within: timedelta) -> Any:
    """The key-value store of this torchrun attempt. Entries outlive the process that wrote them."""
    store, _, _ = next(rendezvous("env://", rank, size, timeout=within))  # at MASTER_ADDR and MASTER_PORT
    return PrefixStore(f"ode-run/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)


def _key(rank: int) -> str:
    return f"error/{rank}"
