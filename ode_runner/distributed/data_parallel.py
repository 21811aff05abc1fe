"""One run over several processes: all make the same step, each from its share of the batch.

The first process is the run: it alone has the lock, the record, the files and the screen, evaluates and draws. The
others are its helpers: they build the same objects from the same configuration, take up the weights, and hold nothing
that would be missed when they are ended. Where they come from is another matter (spawned.py, torchrun.py).
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

NO_MORE = (-1, -1)  # in place of an epoch and a place in it


class WorkerTrainer(Protocol):
    """What a helper needs of a trainer."""

    options: Any
    task: Any
    step: int
    device: torch.device

    def load_state_dict(self, state: dict[str, Any]) -> None: ...

    def train_step(self, batch: Batch, *, measure_memory: bool) -> dict[str, float]: ...


BuildTrainer = Callable[
    [ProcessGroup], WorkerTrainer
]  # builds a helper's trainer; travels to another process, so a function by its name


class Job(NamedTuple):
    """What a helper has to know before it can be of use."""

    device: str  # its type
    every_time: bool
    build_trainer: BuildTrainer


class WorkerPool(abc.ABC):
    """The other processes, as the first one sees them: where they come from, and what has become of them."""

    size: int  # of all, with the first

    @abc.abstractmethod
    def at_hand(self, job: Job) -> AbstractContextManager[None]:
        """While they are in one process group with this process, each with the job's trainer."""

    @abc.abstractmethod
    def explanation(self, error: RuntimeError) -> BaseException:
        """Why they can no longer be reached, as far as that can be known; `error` where it cannot."""

    @final
    @contextmanager
    def errors(self) -> Iterator[None]:
        """What a helper has met is what the run has met."""
        try:
            yield
        except PeerLost as parted:
            met = self.explanation(parted.error)
            raise met from (None if met is parted.error else parted.error)


class DataParallel(ProcessGroup):
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
        with raising_peer_lost():
            dist.all_reduce(values)


class MainProcess(DataParallel):
    """The process that is the run, and has helpers."""

    def __init__(
        self, workers: WorkerPool, *, device: torch.device, every_time: bool, build_trainer: BuildTrainer
    ) -> None:
        super().__init__(size=workers.size, rank=0, every_time=every_time)
        self.workers, self.job = workers, Job(device.type, every_time, build_trainer)

    @contextmanager
    def at_work(self, state: Mapping[str, Any]) -> Iterator[None]:
        with self.workers.at_hand(self.job):
            self._tell(state)
            try:
                yield
            except Interrupted:  # which may be how a process is told that another one has died
                self._dismiss()
                raise
            self._dismiss()

    def share(self, batch: Batch, *, epoch: int, place: int) -> Batch:
        self._order(epoch, place)
        return super().share(batch, epoch=epoch, place=place)

    def sum(self, values: Tensor) -> None:
        with self.workers.errors():
            super().sum(values)

    def _tell(self, state: Mapping[str, Any]) -> None:
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        with self.workers.errors():
            broadcast(buffer.getvalue())

    def _order(self, epoch: int, place: int) -> None:
        with self.workers.errors(), raising_peer_lost():
            dist.broadcast(torch.tensor([epoch, place]), src=0)

    def _dismiss(self) -> None:
        """Between two steps; all are still there, or this is an error."""
        self._order(*NO_MORE)
        self.sum(torch.zeros(1))


class Worker(DataParallel):
    """Any other process."""

    def follow(self, trainer: WorkerTrainer) -> None:
        """Make the steps that the first process makes, until it needs no more.

        Raises:
            Parted: it has ended, or another helper has.
        """
        seed = torch.initial_seed()  # that of the run
        state = io.BytesIO(broadcast(None))
        trainer.load_state_dict(torch.load(state, map_location="cpu", weights_only=True))
        batches: Iterator[Batch] = iter(())
        at = (-1, 0)
        while (order := self._next_order()) != NO_MORE:
            epoch, place = order
            if order != at:
                batches = trainer.task.batches(Split.TRAIN, batch_size=trainer.options.batch_size, epoch=epoch)
                for _ in range(place):
                    next(batches)
            torch.manual_seed((seed << 32) + (self.rank << 24) + trainer.step)  # no state of its own to be resumed
            trainer.train_step(next(batches), measure_memory=False)
            trainer.step += 1
            at = (epoch, place + 1)
        self.sum(torch.zeros(1))

    def _next_order(self) -> tuple[int, int]:
        order = torch.zeros(2, dtype=torch.int64)
        with raising_peer_lost():
            dist.broadcast(order, src=0)
        epoch, place = order.tolist()
        return epoch, place


def build_worker(job: Job, *, rank: int, size: int, gpu: int) -> tuple[Worker, WorkerTrainer]:
    """A helper that has what it needs: `gpu` is its own if the job is for GPUs.

    Raises:
        RefusedInput: its machine does not have what the run is made with.
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
