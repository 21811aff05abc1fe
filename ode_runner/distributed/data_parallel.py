"""One run over several processes: all make the same step, each from its share of the batch.

The main process holds the lock, the record, the files and the screen, evaluates and draws. The workers build the same
objects from the same configuration, load the weights, and hold nothing that is lost when they are ended. They are
started by spawned.py or by torchrun (torchrun.py).
"""

import abc
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple, Protocol, final

import torch
import torch.distributed as dist
from torch import Tensor

from ode_runner.batch import Batch, Split
from ode_runner.distributed.process_group import ProcessGroup
from ode_runner.distributed.rendezvous import PeerLost, broadcast, raising_peer_lost
from ode_runner.errors import Interrupted, RefusedInput

STOP = (-1, -1)  # in place of an epoch and a batch's number in it


class WorkerTrainer(Protocol):
    """What a worker needs of a trainer."""

    options: Any
    task: Any
    step: int
    device: torch.device

    def load_state_dict(self, state: dict[str, Any]) -> None: ...

    def train_step(self, batch: Batch, *, measure_memory: bool) -> Mapping[str, Any]: ...


BuildTrainer = Callable[[ProcessGroup], WorkerTrainer]  # is pickled: a function of a module, or a partial of one


class Job(NamedTuple):
    """What a worker needs to build its trainer."""

    device: str  # its type
    every_time: bool
    build_trainer: BuildTrainer


class WorkerPool(abc.ABC):
    """The workers as the main process sees them."""

    size: int  # processes of the run, the main one among them

    @abc.abstractmethod
    def connected(self, job: Job) -> AbstractContextManager[None]:
        """While the workers are in one process group with this process, each with the job's trainer."""

    @abc.abstractmethod
    def cause_of(self, error: RuntimeError) -> BaseException:
        """The error that ended a worker, after communication failed with `error`; `error` itself if that is unknown."""

    @final
    @contextmanager
    def errors(self) -> Iterator[None]:
        """Raises the error that ended a worker in place of PeerLost."""
        try:
            yield
        except PeerLost as lost:
            cause = self.cause_of(lost.error)
            raise cause from (None if cause is lost.error else lost.error)


class DataParallel(ProcessGroup):
    """Shares of a batch and sums over all processes, common to main process and workers.

    Gradients are summed by hand in one flat buffer once the backward pass has ended. DistributedDataParallel would sum
    them while it goes on, by hooks on each parameter; but a gradient mode that returns the gradients of all parameters
    from one autograd function leaves nothing to overlap, and a field that is called by a solver a number of times that
    differs between processes is not the one forward call that its wrapper counts on.
    """

    def __init__(self, *, size: int, rank: int, every_time: bool) -> None:
        self.size, self.rank, self.every_time = size, rank, every_time
        self.weight = 1.0  # of this process's share in the mean over the present batch

    def share(self, batch: Batch, *, epoch: int, place: int) -> Batch:
        own = slice(self.rank, None, self.size)
        self.weight = len(batch.inputs[own]) / len(batch.inputs)
        if not self.weight:  # fewer samples than processes: one that has none takes any, and it does not count
            own = slice(0, 1)
        return batch.rows(own, every_time=self.every_time)

    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        parameters = list(parameters)
        present = torch.tensor([float(p.grad is not None) for p in parameters])
        self.sum(present)  # on the CPU: if a process is missing, an error here rather than a wait for it on a GPU
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([part.flatten() for part in parts]) * self.weight
        self.sum(flat)
        for parameter, anywhere, part in zip(
            parameters, present, flat.split([p.numel() for p in parameters]), strict=True
        ):
            parameter.grad = part.view_as(parameter) if anywhere else None

    def mean(self, scalars: Mapping[str, float]) -> dict[str, float]:
        values = torch.tensor(list(scalars.values()), dtype=torch.float64) * self.weight
        self.sum(values)
        return dict(zip(scalars, values.tolist(), strict=True))

    def sum(self, values: Tensor) -> None:
        """Sum `values` over all processes, in place."""
        with raising_peer_lost():
            dist.all_reduce(values)


class MainProcess(DataParallel):
    """The process that has the run's files and screen, and workers besides."""

    def __init__(
        self, workers: WorkerPool, *, device: torch.device, every_time: bool, build_trainer: BuildTrainer
    ) -> None:
        super().__init__(size=workers.size, rank=0, every_time=every_time)
        self.workers, self.job = workers, Job(device.type, every_time, build_trainer)

    @contextmanager
    def training(self, state: Mapping[str, Any]) -> Iterator[None]:
        with self.workers.connected(self.job):
            self._broadcast_state(state)
            try:
                yield
            except Interrupted:  # a scheduler may send a signal because another process has ended
                self._stop_workers()
                raise
            self._stop_workers()

    def share(self, batch: Batch, *, epoch: int, place: int) -> Batch:
        self._announce(epoch, place)
        return super().share(batch, epoch=epoch, place=place)

    def sum(self, values: Tensor) -> None:
        with self.workers.errors():
            super().sum(values)

    def _broadcast_state(self, state: Mapping[str, Any]) -> None:
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        with self.workers.errors():
            broadcast(buffer.getvalue())

    def _announce(self, epoch: int, place: int) -> None:
        with self.workers.errors(), raising_peer_lost():
            dist.broadcast(torch.tensor([epoch, place]), src=0)

    def _stop_workers(self) -> None:
        """End the workers' loop, between two steps; raises the error of a worker that has ended before."""
        self._announce(*STOP)
        self.sum(torch.zeros(1))


class Worker(DataParallel):
    """A process other than the main one."""

    def train_along(self, trainer: WorkerTrainer) -> None:
        """Make the steps that the main process makes, until it stops the workers.

        Raises:
            PeerLost: another process has ended.
        """
        seed = torch.initial_seed()  # the run's
        state = io.BytesIO(broadcast(None))
        trainer.load_state_dict(torch.load(state, map_location="cpu", weights_only=True))
        batches: Iterator[Batch] = iter(())
        expected = (-1, 0)  # position of the next batch of the iterator
        while (position := self._next_position()) != STOP:
            epoch, place = position
            if position != expected:
                batches = trainer.task.batches(Split.TRAIN, batch_size=trainer.options.batch_size, epoch=epoch)
                for _ in range(place):
                    next(batches)
            torch.manual_seed((seed << 32) + (self.rank << 24) + trainer.step)  # resumed without a state
            trainer.train_step(next(batches), measure_memory=False)
            trainer.step += 1
            expected = (epoch, place + 1)
        self.sum(torch.zeros(1))

    def _next_position(self) -> tuple[int, int]:
        position = torch.zeros(2, dtype=torch.int64)
        with raising_peer_lost():
            dist.broadcast(position, src=0)
        epoch, place = position.tolist()
        return epoch, place


def build_worker(job: Job, *, rank: int, size: int, gpu: int) -> tuple[Worker, WorkerTrainer]:
    """A worker and its trainer.

    Args:
        job: what to build.
        rank: of this process.
        size: processes of the run.
        gpu: the number of this process's GPU, if the job is for GPUs.

    Raises:
        RefusedInput: this machine lacks the device that the run uses.
    """
    if job.device == "cuda":
        if gpu >= torch.cuda.device_count():
            raise RefusedInput(
                f"process {rank} of the run finds {torch.cuda.device_count()} GPUs and needs one of its own. "
                "Use fewer processes, or trainer.device=cpu."
            )
        torch.cuda.set_device(gpu)
    worker = Worker(size=size, rank=rank, every_time=job.every_time)
    trainer = job.build_trainer(worker)
    if trainer.device.type != job.device:
        raise RefusedInput(f"process {rank} of the run would use {trainer.device}. Say trainer.device={job.device}.")
    return worker, trainer
