"""Helpers that the first process starts itself, on its own machine, when training begins."""

import os
import pickle
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch.multiprocessing import get_context

from ode_runner.distributed.child_process import begin
from ode_runner.distributed.data_parallel import Job, WorkerPool, build_worker
from ode_runner.distributed.rendezvous import BACKEND, TIMEOUT, PeerLost, share_cores, transferable


class SpawnedPool(WorkerPool):
    """Child processes, which end with their parent, however it ends."""

    def __init__(self, *, size: int) -> None:
        self.size = size
        self.processes: list[tuple[Any, Connection]] = []
        share_cores(size)

    @contextmanager
    def at_hand(self, job: Job) -> Iterator[None]:
        meeting = Path(tempfile.mkdtemp(prefix="ode-run-"))
        try:
            self._start(job, meeting)
            _join(0, self.size, job.device, meeting)
            yield
        finally:
            for process, _ in self.processes:
                process.kill()
                process.join()
            self.processes = []
            shutil.rmtree(meeting, ignore_errors=True)
            if dist.is_initialized():
                dist.destroy_process_group()

    def explanation(self, error: RuntimeError) -> BaseException:
        for process, _ in self.processes:  # for once one has ended, all do
            process.join(timeout=5)
        for _, pipe in self.processes:
            with suppress(EOFError):
                if pipe.poll():
                    return pipe.recv()
        for rank, (process, _) in enumerate(self.processes, start=1):
            if process.exitcode:
                return RuntimeError(f"process {rank} of the run ended with exit code {process.exitcode}")
        return error

    def _start(self, job: Job, meeting: Path) -> None:
        context = get_context("spawn")  # a fork would take CUDA and threads along
        for rank in range(1, self.size):
            here, there = context.Pipe()
            work = pickle.dumps(partial(run_worker, job, rank, self.size, meeting))
            process = context.Process(target=begin, args=(work, there))
            process.start()
            there.close()
            self.processes.append((process, here))
        for process, pipe in self.processes:
            try:
                error = pipe.recv()  # that it is ready, or why not
            except EOFError:
                process.join()
                error = RuntimeError(f"a helper process could not start (exit code {process.exitcode})")
            if error is not None:
                raise error


def run_worker(job: Job, rank: int, size: int, meeting: Path, pipe: Connection) -> None:
    """A helper's life."""
    code = 0
    try:
        share_cores(size)
        worker, trainer = build_worker(job, rank=rank, size=size, gpu=rank)
        pipe.send(None)
        _join(rank, size, job.device, meeting)
        worker.follow(trainer)
    except PeerLost:
        pass
    except BaseException as error:
        code = 1
        pipe.send(transferable(error, rank=rank))
    os._exit(code)  # leaving the group politely would wait for the others


def _join(rank: int, size: int, device: str, meeting: Path) -> None:
    """Wait until all have come together."""
    place = f"file://{meeting}/processes"
    dist.init_process_group(BACKEND[device], init_method=place, rank=rank, world_size=size, timeout=TIMEOUT)
