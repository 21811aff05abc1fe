"""Data-parallel training: all processes make the same step, each with its share of the batch.

The main process holds the lock, the record, the files and the screen; it evaluates and draws. Workers build the same
objects from the same configuration and load the weights; nothing is lost when they are ended. They are started by
spawned.py or by torchrun (torchrun.py).
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

STOP = (-1, -1)  # sent instead of (epoch, number of the batch in the epoch)


class WorkerTrainer(Protocol):
    """What a worker needs from a trainer."""

    options: Any
    task: Any
    step: int
    device: torch.device

    def load_state_dict(self, state: dict[str, Any]) -> None: ...

    def train_step(self, batch: Batch, *, measure_memory: bool) -> Mapping[str, Any]: ...


BuildTrainer = Callable[[ProcessGroup], WorkerTrainer]  # is pickled: a module-level function, or a partial of one


class Job(NamedTuple):
    """What a worker needs to build its trainer."""

    device: str  # device type
    every_time: bool
    build_trainer: BuildTrainer


class WorkerPool(abc.ABC):
    """The workers as the main process sees them."""

    size: int  # processes of the run, including the main process

    @abc.abstractmethod
    def connected(self, job: Job) -> AbstractContextManager[None]:
        """Inside, the workers form a process group with this process, and each has built the job's trainer."""

    @abc.abstractmethod
    def cause_of(self, error: RuntimeError) -> BaseException:
        """The error that ended a worker, if communication failed with `error`; `error` itself if it is unknown."""

    @final
    @contextmanager
    def errors(self) -> Iterator[None]:
        """Inside, a PeerLost is replaced by the error that ended the worker."""
        try:
            yield
        except PeerLost as lost:
            cause = self.cause_of(lost.error)
            raise cause from (None if cause is lost.error else lost.error)


class DataParallel(ProcessGroup):
    """What main process and workers share: each takes its share of a batch, and sums go over all processes.

    Gradients are summed in one flat buffer after the backward pass. DistributedDataParallel would overlap the sums with
    the backward pass, by hooks on each parameter, but a gradient mode that returns the gradients of all parameters from
    one autograd function leaves nothing to overlap. Its wrapper also expects one forward call of the field, whereas a
    solver makes many calls, and their number differs between processes.
    """

    def __init__(self, *, size: int, rank: int, every_time: bool) -> None:
        self.size, self.rank, self.every_time = size, rank, every_time
        self.weight = 1.0  # of this process's share in the mean over the current batch

    def share(self, batch: Batch, *, epoch: int, place: int) -> Batch:
        own = slice(self.rank, None, self.size)
        self.weight = len(batch.inputs[own]) / len(batch.inputs)
        if not self.weight:  # more processes than samples: a process without any takes the first, with weight 0
            own = slice(0, 1)
        return batch.rows(own, every_time=self.every_time)

    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        parameters = list(parameters)
        present = torch.tensor([float(p.grad is not None) for p in parameters])
        self.sum(present)  # on the CPU: a missing process gives an error here; on a GPU it would be waited for
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
        """Sums `values` over all processes, in place."""
        with raising_peer_lost():
            dist.all_reduce(values)


class MainProcess(DataParallel):
    """The process that has the run's files and screen, and controls the workers."""

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
            except Interrupted:  # a scheduler may send the signal because another process has ended
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
        """Ends the workers' loops between two steps. Raises the error of a worker that has ended before."""
        self._announce(*STOP)
        self.sum(torch.zeros(1))


class Worker(DataParallel):
    """A process other than the main process."""

    def train_along(self, trainer: WorkerTrainer) -> None:
        """Makes the same steps as the main process, until that stops the workers.

        Raises:
            PeerLost: another process has ended.
        """
        seed = torch.initial_seed()  # the seed of the run
        state = io.BytesIO(broadcast(None))
        trainer.load_state_dict(torch.load(state, map_location="cpu", weights_only=True))
        batches: Iterator[Batch] = iter(())
        expected = (-1, 0)  # position of the iterator's next batch
        while (position := self._next_position()) != STOP:
            epoch, place = position
            if position != expected:
                batches = trainer.task.batches(Split.TRAIN, batch_size=trainer.options.batch_size, epoch=epoch)
                for _ in range(place):
                    next(batches)
            torch.manual_seed((seed << 32) + (self.rank << 24) + trainer.step)  # resumed without a stored state
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
    """Builds a worker and its trainer.

    Args:
        job: describes the trainer.
        rank: of this process.
        size: processes of the run.
        gpu: index of this process's GPU; used only if the job is for GPUs.

    Raises:
        RefusedInput: this machine does not have the device that the run uses.
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
