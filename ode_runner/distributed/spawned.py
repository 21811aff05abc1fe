"""Worker processes that the main process starts on its machine when training begins."""

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

from ode_runner.distributed.child_process import run_child
from ode_runner.distributed.data_parallel import Job, WorkerPool, build_worker
from ode_runner.distributed.rendezvous import BACKEND, TIMEOUT, PeerLost, share_cores, transferable


class SpawnedPool(WorkerPool):
    """Workers that are child processes of the main process. They end with it, even if it is killed."""

    def __init__(self, *, size: int) -> None:
        self.size = size
        self.processes: list[tuple[Any, Any]] = []  # each process with our end of its pipe
        share_cores(size)

    @contextmanager
    def connected(self, job: Job) -> Iterator[None]:
        rendezvous_folder = Path(tempfile.mkdtemp(prefix="ode-run-"))
        try:
            self._start(job, rendezvous_folder)
            _join(0, self.size, job.device, rendezvous_folder)
            yield
        finally:
            for process, _ in self.processes:
                process.kill()
                process.join()
            self.processes = []
            shutil.rmtree(rendezvous_folder, ignore_errors=True)
            if dist.is_initialized():
                dist.destroy_process_group()

    def cause_of(self, error: RuntimeError) -> BaseException:
        for process, _ in self.processes:  # once one process has ended, the others end, too
            process.join(timeout=5)
        for _, pipe in self.processes:
            with suppress(EOFError):
                if pipe.poll():
                    return pipe.recv()
        for rank, (process, _) in enumerate(self.processes, start=1):
            if process.exitcode:
                return RuntimeError(f"process {rank} of the run ended with exit code {process.exitcode}")
        return error

    def _start(self, job: Job, rendezvous_folder: Path) -> None:
        context = get_context("spawn")  # a forked child would inherit CUDA's state and threads
        for rank in range(1, self.size):
            own_end, child_end = context.Pipe()
            work = pickle.dumps(partial(run_worker, job, rank, self.size, rendezvous_folder))
            process = context.Process(target=run_child, args=(work, child_end))
            process.start()
            child_end.close()
            self.processes.append((process, own_end))
        for process, pipe in self.processes:
            try:
                error = pipe.recv()  # None once the worker is ready
            except EOFError:
                process.join()
                error = RuntimeError(f"a worker process could not start (exit code {process.exitcode})")
            if error is not None:
                raise error


def run_worker(job: Job, rank: int, size: int, rendezvous_folder: Path, pipe: Connection) -> None:
    """The main function of a worker: builds a trainer, joins the process group, trains until the main process stops it.

    Sends None through `pipe` once the trainer is built, or the exception that ended the process.
    """
    code = 0
    try:
        share_cores(size)
        worker, trainer = build_worker(job, rank=rank, size=size, gpu=rank)
        pipe.send(None)
        _join(rank, size, job.device, rendezvous_folder)
        worker.train_along(trainer)
    except PeerLost:
        pass
    except BaseException as error:
        code = 1
        pipe.send(transferable(error, rank=rank))
    os._exit(code)  # destroy_process_group would wait for the other processes


def _join(rank: int, size: int, device: str, rendezvous_folder: Path) -> None:
    """Joins the process group, and waits until all processes have joined."""
    place = (rendezvous_folder / "processes").as_posix().lstrip("/")  # on Windows, it begins with a drive: C:/
    init_method = f"file:///{place}"
    dist.init_process_group(BACKEND[device], init_method=init_method, rank=rank, world_size=size, timeout=TIMEOUT)
