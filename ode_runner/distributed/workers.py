"""Decides whether a run has worker processes, and of which kind."""

import torch

from ode_runner.config.booleans import check_boolean
from ode_runner.distributed.data_parallel import WorkerPool
from ode_runner.distributed.ranks import Rank
from ode_runner.distributed.rendezvous import BACKEND, cores
from ode_runner.distributed.spawned import SpawnedPool
from ode_runner.distributed.torchrun import TorchrunPool
from ode_runner.errors import RefusedInput, as_typed


def worker_pool(processes: object, device: torch.device, *, oversubscribe: object) -> WorkerPool | None:
    """The worker pool of a run over `processes` processes; None for a single process.

    Args:
        processes: the option `processes`; under torchrun, 1 or the number of processes that torchrun has started.
        device: device of the main process.
        oversubscribe: the option `oversubscribe`; true allows more processes than cores.

    Raises:
        RefusedInput: a value is invalid, or there are not enough cores or GPUs.
    """
    if type(processes) is not int or processes < 1:  # isinstance would accept true
        raise RefusedInput(f"processes={as_typed(processes)} is no whole number from 1 on.")
    check_boolean("oversubscribe", oversubscribe)
    if (rank := Rank.of_this_process()) is not None:
        return TorchrunPool(rank, asked=processes, device=device)
    if processes == 1:
        return None
    check_room_for_processes(processes, device, oversubscribe=oversubscribe is True)
    return SpawnedPool(size=processes)


def check_room_for_processes(processes: int, device: torch.device, *, oversubscribe: bool) -> None:
    """Raises RefusedInput if there are not enough cores or GPUs: each process takes a core or a GPU, and 200 MB."""
    if device.index is not None:
        raise RefusedInput(f"processes={processes} take a GPU each, and trainer.device={device} is one. Use cuda.")
    if device.type == "cuda":
        if processes > (gpus := torch.cuda.device_count()):
            there = _are(gpus, "GPU")
            raise RefusedInput(f"processes={processes}, but there {there}. Use fewer, or trainer.device=cpu.")
        return
    if device.type not in BACKEND:
        raise RefusedInput(f"processes={processes}, but {device.type} is one device. Use trainer.device=cpu.")
    if processes > cores() and not oversubscribe:
        raise RefusedInput(
            f"processes={processes}, but there {_are(cores(), 'core')}. Use fewer, or insist with oversubscribe=true."
        )


def _are(count: int, thing: str) -> str:
    return f"is 1 {thing}" if count == 1 else f"are {count} {thing}s"
