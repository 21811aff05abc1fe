"""One run over several processes of one machine: all make the same step, each from its share of the batch.

The first process is the run: it alone has the lock, the record, the files and the screen, evaluates and draws. The
others are its helpers: they are started when training begins, build the same objects from the same configuration, take
up the weights, and hold nothing that would be missed when they are ended.
"""

import io
import os
import pickle
import shutil
import signal
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from multiprocessing import connection, parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing import get_context

from ode_runner.errors import RefusedInput
from ode_runner.tasks.base import Batch, Split
from ode_runner.team import Team

BACKEND = {"cpu": "cpu:gloo", "cuda": "cpu:gloo,cuda:nccl"}
PATIENCE = timedelta(hours=24)  # helpers wait while the first process evaluates and draws; its end they notice


class Helped(Protocol):
    """What a helper needs of a trainer."""

    options: Any
    task: Any
    step: int

    def load_state_dict(self, state: dict[str, Any]) -> None: ...

    def train_step(self, batch: Batch, *, measure_memory: bool) -> dict[str, float]: ...


Recruit = Callable[[Team], Helped]  # builds a helper's trainer; travels to another process, so a function by its name


class Crew(Team):
    """What the first process and its helpers share: sums over all of them, between the steps of the autograd engine.

    Gradients are summed by hand in one flat buffer once the backward pass has ended. DistributedDataParallel would sum
    them while it goes on, by hooks on each parameter; but a gradient mode that returns the gradients of all parameters
    from one autograd function leaves nothing to overlap, and a field that is called by a solver a number of times that
    differs between processes is not the one forward call that its wrapper counts on.
    """

    def __init__(self, *, size: int, rank: int, every_time: bool) -> None:
        self.size, self.rank, self.every_time = size, rank, every_time
        self.weight = 1.0  # of this process's share in the mean over the batch at hand

    def share(self, batch: Batch, *, epoch: int, place: int) -> Batch:
        own = slice(self.rank, None, self.size)
        self.weight = len(batch.inputs[own]) / len(batch.inputs)
        if not self.weight:  # fewer samples than processes: one that has none takes any, and it does not count
            own = slice(0, 1)
        return batch._replace(
            inputs=batch.inputs[own],
            targets=batch.targets[:, own] if self.every_time else batch.targets[own],
            observed=None if batch.observed is None else batch.observed[:, own],
        )

    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        parameters = list(parameters)
        there = torch.tensor([float(p.grad is not None) for p in parameters])
        self.sum(there)  # and, if a process is missing, an error here rather than a wait for it on a GPU
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([part.flatten() for part in parts]) * self.weight
        self.sum(flat)
        for parameter, anywhere, part in zip(
            parameters, there, flat.split([p.numel() for p in parameters]), strict=True
        ):
            parameter.grad = part.view_as(parameter) if anywhere else None

    def mean(self, scalars: Mapping[str, float]) -> dict[str, float]:
        values = torch.tensor(list(scalars.values()), dtype=torch.float64) * self.weight
        self.sum(values)
        return dict(zip(scalars, values.tolist(), strict=True))

    def sum(self, values: Tensor) -> None:
        """Over all processes, in place."""
        dist.all_reduce(values)


class First(Crew):
    """The process that is the run, and keeps helpers."""

    def __init__(self, *, size: int, device: torch.device, every_time: bool, recruit: Recruit) -> None:
        available = torch.cuda.device_count() if device.type == "cuda" else size
        if device.type not in BACKEND or available < size:
            what = f"there are {available} GPUs" if device.type == "cuda" else f"{device.type} is one device"
            raise RefusedInput(f"processes={size}, but {what}. Use fewer, or trainer.device=cpu.")
        super().__init__(size=size, rank=0, every_time=every_time)
        self.device, self.recruit = device, recruit
        self.helpers: list[tuple[Any, Connection]] = []
        share_cores(size)

    @contextmanager
    def at_work(self, state: Mapping[str, Any]) -> Iterator[None]:
        meeting = Path(tempfile.mkdtemp(prefix="ode-run-"))
        try:
            self._start(meeting)
            _join(self, self.device.type, meeting)
            buffer = io.BytesIO()
            torch.save(dict(state), buffer)
            dist.broadcast_object_list([buffer.getvalue()], src=0)
            yield
        finally:
            for process, _ in self.helpers:
                process.kill()
                process.join()
            self.helpers = []
            shutil.rmtree(meeting, ignore_errors=True)
            if dist.is_initialized():
                dist.destroy_process_group()

    def share(self, batch: Batch, *, epoch: int, place: int) -> Batch:
        with self._helpers_errors():
            dist.broadcast(torch.tensor([epoch, place]), src=0)
        return super().share(batch, epoch=epoch, place=place)

    def sum(self, values: Tensor) -> None:
        with self._helpers_errors():
            super().sum(values)

    def _start(self, meeting: Path) -> None:
        context = get_context("spawn")  # a fork would take CUDA and threads along
        for rank in range(1, self.size):
            here, there = context.Pipe()
            arguments = (rank, self.size, meeting, self.device.type, self.every_time, self.recruit, there)
            process = context.Process(target=help_out, args=arguments)
            process.start()
            there.close()
            self.helpers.append((process, here))
        for process, pipe in self.helpers:
            try:
                error = pipe.recv()  # that it is ready, or why not
            except EOFError:
                process.join()
                error = RuntimeError(f"a helper process could not start (exit code {process.exitcode})")
            if error is not None:
                raise error

    @contextmanager
    def _helpers_errors(self) -> Iterator[None]:
        """What a helper met is what the run has met."""
        try:
            yield
        except RuntimeError as error:  # a connection that is closed
            for rank, (process, pipe) in enumerate(self.helpers, start=1):
                process.join(timeout=5)
                if pipe.poll():
                    with suppress(EOFError):
                        raise pipe.recv() from error
                if process.exitcode is not None:
                    raise RuntimeError(f"process {rank} of the run ended with exit code {process.exitcode}") from error
            raise


class Helper(Crew):
    """Any other process."""

    def follow(self, trainer: Helped) -> None:
        """Make the steps that the first process makes, until that ends this one."""
        seed = torch.initial_seed()  # that of the run
        received: list[Any] = [None]
        dist.broadcast_object_list(received, src=0)
        trainer.load_state_dict(torch.load(io.BytesIO(received[0]), map_location="cpu", weights_only=True))
        batches: Iterator[Batch] = iter(())
        at = (-1, 0)
        while True:
            order = torch.zeros(2, dtype=torch.int64)
            dist.broadcast(order, src=0)
            epoch, place = order.tolist()
            if (epoch, place) != at:
                batches = trainer.task.batches(Split.TRAIN, batch_size=trainer.options.batch_size, epoch=epoch)
                for _ in range(place):
                    next(batches)
            torch.manual_seed((seed << 32) + (self.rank << 24) + trainer.step)  # no state of its own to be resumed
            trainer.train_step(next(batches), measure_memory=False)
            trainer.step += 1
            at = (epoch, place + 1)


def help_out(
    rank: int, size: int, meeting: Path, device: str, every_time: bool, recruit: Recruit, pipe: Connection
) -> None:
    """A helper's life."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):  # meant for the first process
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        share_cores(size)
        if device == "cuda":
            torch.cuda.set_device(rank)
        team = Helper(size=size, rank=rank, every_time=every_time)
        trainer = recruit(team)
        pipe.send(None)
        _join(team, device, meeting)
        team.follow(trainer)
    except BaseException as error:
        error.add_note(f"in process {rank} of the run:\n{traceback.format_exc()}")
        pipe.send(error if _travels(error) else RuntimeError(f"{type(error).__name__}: {error}"))
        os._exit(1)  # leaving the group politely would wait for the others


def _join(crew: Crew, device: str, meeting: Path) -> None:
    """Wait until all have come together."""
    place = f"file://{meeting}/processes"
    dist.init_process_group(BACKEND[device], init_method=place, rank=crew.rank, world_size=crew.size, timeout=PATIENCE)


def share_cores(processes: int) -> None:
    """As many threads as leave room for the others, unless the person has said how many."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // processes))


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def _travels(error: BaseException) -> bool:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # of its own making
        return False
    return True
