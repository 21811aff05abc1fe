"""Assigns GPUs to runs in parallel on one machine: each launcher process locks its own slot of GPUs."""

import getpass
import itertools
import os
import tempfile
from pathlib import Path

import torch
from filelock import FileLock, Timeout

_held: list[FileLock] = []  # the lock of this process's slot, held until the process ends


def take_gpus(count: int) -> None:
    """Sets CUDA_VISIBLE_DEVICES to `count` of the visible GPUs: those of the first slot that no other process holds.

    Call it before CUDA is initialized, because CUDA reads the variable only once. A process keeps its slot for all its
    runs. If there are more processes than slots, GPUs are shared; if there are fewer than two slots, nothing changes.
    """
    visible = _visible()
    slots = len(visible) // count
    if _held or slots < 2:
        return
    for slot in itertools.count():
        lock = FileLock(Path(tempfile.gettempdir()) / f"ode-run-gpu-{getpass.getuser()}-{slot}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        _held.append(lock)
        first = slot % slots * count
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(visible[first : first + count])
        return


def _visible() -> list[str]:
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name]
    return [str(number) for number in range(torch.cuda.device_count())]
