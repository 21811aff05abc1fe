"""Shares of a batch and their sums, in threads in place of processes; how many processes there may be."""

import os
import pickle
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor

from ode_runner.batch import Batch
from ode_runner.distributed import rendezvous, spawned, torchrun
from ode_runner.distributed.data_parallel import DataParallel, Job
from ode_runner.distributed.process_group import SingleProcess
from ode_runner.distributed.ranks import Rank
from ode_runner.distributed.rendezvous import PeerLost, share_cores, transferable
from ode_runner.distributed.spawned import SpawnedPool
from ode_runner.distributed.torchrun import TorchrunPool
from ode_runner.distributed.workers import check_room_for_processes, worker_pool
from ode_runner.errors import RefusedInput, SolverFailed

CPU = torch.device("cpu")


class Shared(DataParallel):
    """A process of a group of threads, whose sums are of what all of them have brought."""

    brought: list[Tensor]
    barrier: threading.Barrier

    def sum(self, values: Tensor) -> None:
        self.brought[self.rank] = values.clone()
        self.barrier.wait(timeout=20)
        total = torch.stack(self.brought).sum(dim=0)
        self.barrier.wait(timeout=20)
        values.copy_(total)


def together(size: int, work: Callable[[Shared], object]) -> list[Any]:
    """What `work` returns in each of the threads of a group."""
    group = [Shared(size=size, rank=rank, every_time=False) for rank in range(size)]
    found: list[Any] = [None] * size
    brought, barrier = [torch.empty(0)] * size, threading.Barrier(size)

    def call(member: Shared) -> None:
        member.brought, member.barrier = brought, barrier
        found[member.rank] = work(member)

    threads = [threading.Thread(target=call, args=(member,)) for member in group]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@pytest.mark.parametrize("samples", [1, 2, 3, 4, 5, 7])
def test_means_and_gradients_over_shares_are_those_over_the_batch(samples: int) -> None:
    """Of a parameter that all have a gradient of, of one that the second process alone has, of one that none has."""
    rows = torch.randn(samples, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(samples))
    batch = Batch(rows, torch.zeros(2), torch.zeros(samples))

    def work(member: Shared) -> Any:
        share = member.share(batch, epoch=0, place=0).inputs
        assert len(share) <= -(-samples // 3), "whoever has none takes one"
        everywhere, somewhere, nowhere = (torch.zeros(size, dtype=torch.float64) for size in ((2, 1), (), (3,)))
        everywhere.grad = share.mean(dim=0)[:, None]
        somewhere.grad = share.square().mean() if member.rank == 1 else None
        member.average_gradients(iter([everywhere, somewhere, nowhere]))
        means = member.mean({"loss": float(share.sum(dim=1).mean()), "first": float(share[:, 0].mean())})
        return everywhere.grad, somewhere.grad, nowhere.grad, means

    for everywhere, somewhere, nowhere, means in together(3, work):
        torch.testing.assert_close(everywhere, rows.mean(dim=0)[:, None])
        torch.testing.assert_close(somewhere, rows[1::3].square().sum() / 2 / samples)
        assert nowhere is None
        assert means == pytest.approx({"loss": float(rows.sum(dim=1).mean()), "first": float(rows[:, 0].mean())})
        assert list(means) == ["loss", "first"]


def test_one_process_has_the_whole_batch() -> None:
    group, batch = SingleProcess(), Batch(torch.ones(3, 1), torch.zeros(2), torch.zeros(3))
    weight = torch.ones(2)
    weight.grad = torch.tensor([3.0, 4.0])
    with group.training({}):
        assert group.share(batch, epoch=0, place=0) is batch
        group.average_gradients([weight])
    assert (group.size, weight.grad.tolist(), group.mean({"loss": 2.5})) == (1, [3, 4], {"loss": 2.5})


class NotAnError(Exception):
    """One that cannot be made of what pickle keeps of it."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(f"{one} {other}")


@pytest.mark.parametrize(
    ("error", "arrives"), [(SolverFailed("too short"), SolverFailed), (NotAnError("not", "today"), RuntimeError)]
)
def test_an_error_travels_with_its_traceback(error: Exception, arrives: type[Exception]) -> None:
    try:
        raise error
    except Exception as caught:
        told = pickle.loads(pickle.dumps(transferable(caught, rank=4)))
    assert type(told) is arrives
    [note] = told.__notes__
    assert note.startswith("in process 4 of the run:\nTraceback (most recent call last):\n")
    assert note.rstrip().endswith(str(error))


@pytest.mark.parametrize(("cores", "processes", "threads"), [(8, 2, 4), (8, 3, 2), (2, 5, 1)])
def test_processes_share_the_cores(cores: int, processes: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    set_to: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", set_to.append)
    monkeypatch.setattr(torch, "get_num_threads", lambda: cores)
    monkeypatch.setattr(rendezvous, "cores", lambda: cores)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    share_cores(processes)
    assert set_to == [], "as the user has said"
    monkeypatch.delenv("OMP_NUM_THREADS")
    share_cores(processes)
    SpawnedPool(size=processes)
    TorchrunPool(Rank(0, 2 * processes, 0, processes), asked=1, device=CPU)  # on two machines
    assert set_to == [threads] * 3
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    share_cores(processes)
    assert set_to[-1] == 1, "small fields take one thread anyway"


def test_cores_are_those_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {1, 3, 5} if process == 0 else {1}, raising=False)
    assert rendezvous.cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS
    for counted, cores in ((6, 6), (None, 1)):
        monkeypatch.setattr(os, "cpu_count", lambda counted=counted: counted)
        assert rendezvous.cores() == cores


@pytest.mark.parametrize(
    ("processes", "device", "said"),
    [
        (0, "cpu", r"^processes=0 is no whole number from 1 on\.$"),
        (True, "cpu", r"^processes=true is no whole number"),
        (2.0, "cpu", r"^processes=2\.0 is no whole number"),
        (2, "mps", r"^processes=2, but mps is one device\. Use trainer\.device=cpu\.$"),
        (2, "cuda:1", r"^processes=2 take a GPU each, and trainer\.device=cuda:1 is one\. Use cuda\.$"),
        (2, "cuda", r"^processes=2, but there is 1 GPU\. Use fewer, or trainer\.device=cpu\.$"),
        (4, "cpu", r"^processes=4, but there are 3 cores\. Use fewer, or insist with oversubscribe=true\.$"),
    ],
)
def test_processes_without_room_are_refused(
    processes: object, device: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ode_runner.distributed.workers.cores", lambda: 3)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(RefusedInput, match=said):
        worker_pool(processes, torch.device(device), oversubscribe=False)


def test_a_run_has_the_workers_that_were_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("ode_runner.distributed.workers.cores", lambda: 3)
    assert worker_pool(1, CPU, oversubscribe=False) is None
    for processes, insists in ((3, False), (4, True)):
        pool = worker_pool(processes, CPU, oversubscribe=insists)
        assert isinstance(pool, SpawnedPool)
        assert pool.size == processes
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_room_for_processes(2, torch.device("cuda"), oversubscribe=False)
    with pytest.raises(RefusedInput, match="oversubscribe=perhaps is neither true nor false"):
        worker_pool(2, CPU, oversubscribe="perhaps")


def test_a_part_of_what_torchrun_sets_is_no_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other launchers set RANK and WORLD_SIZE too."""
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "0"), ("LOCAL_WORLD_SIZE", "1")):
        assert Rank.of_this_process() is None
        monkeypatch.setenv(name, value)
    for name in ("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID"):
        assert Rank.of_this_process() is None
        monkeypatch.setenv(name, "0")
    assert Rank.of_this_process() == Rank(number=1, size=2, number_here=0, size_here=1)
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert Rank.of_this_process() is None, "one process is no group"


def test_torchrun_decides_on_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for name in ("RANK", "LOCAL_RANK", "MASTER_PORT", "MASTER_ADDR", "TORCHELASTIC_RUN_ID"):
        monkeypatch.setenv(name, "0")
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "400")
    for asked in (1, 400):  # whatever the cores
        pool = worker_pool(asked, CPU, oversubscribe=False)
        assert isinstance(pool, TorchrunPool)
        assert pool.size == 400
    with pytest.raises(RefusedInput, match=r"^processes=2, but torchrun has started 400\. Leave processes= out\.$"):
        worker_pool(2, CPU, oversubscribe=False)
    with pytest.raises(RefusedInput, match=r"^torchrun has started 400 processes, but mps is one device\. Use one\.$"):
        worker_pool(1, torch.device("mps"), oversubscribe=False)


@pytest.mark.parametrize(
    ("error", "code", "told"), [(SolverFailed("too short"), 1, [SolverFailed]), (PeerLost(RuntimeError("lost")), 0, [])]
)
def test_a_worker_takes_its_part_of_the_cores_and_ends_with_the_code_of_its_end(
    error: Exception, code: int, told: list[type], monkeypatch: pytest.MonkeyPatch
) -> None:
    shared, ended, sent = list[int](), list[int](), list[Any]()
    monkeypatch.setattr(os, "_exit", ended.append)

    def failing(*given: object, **named: object) -> Any:
        raise error

    for module in (spawned, torchrun):
        monkeypatch.setattr(module, "share_cores", shared.append)
    monkeypatch.setattr(spawned, "build_worker", failing)
    spawned.run_worker(Job("cpu", False, failing), 1, 3, Path("nowhere"), Mock(send=sent.append))
    assert (shared, ended, [type(one) for one in sent]) == ([3], [code], told)

    monkeypatch.setattr(torchrun, "ignore_stop_signals", lambda: None)
    monkeypatch.setattr(torchrun, "broadcast", failing)
    monkeypatch.setattr(torchrun, "_store", Mock())
    torchrun.run_worker(Rank(1, 4, 1, 2))
    assert (shared, ended) == ([3, 2], [code, 0])


def test_of_torchruns_processes_the_first_runs_and_the_others_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others leave an interruption to the system until the first handles it for all."""
    done = list[object]()

    def work(rank: Rank) -> None:
        done.append("work")
        raise SystemExit  # it never returns

    monkeypatch.setattr(torchrun, "_rendezvous", lambda rank: done.append(f"meet as {rank.number}"))
    monkeypatch.setattr(torchrun, "run_worker", work)
    monkeypatch.setattr(torchrun.signal, "signal", lambda *given: done.append(given))
    torchrun.join_group(Rank(0, 2, 0, 2), lambda: done.append("run"))
    with pytest.raises(SystemExit):
        torchrun.join_group(Rank(1, 2, 1, 2), lambda: done.append("run"))
    assert done == ["meet as 0", "run", (signal.SIGINT, signal.SIG_DFL), "meet as 1", "work"]
