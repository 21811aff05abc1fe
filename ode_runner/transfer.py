"""Numbers on their way between the CPU and a GPU, such that the CPU waits as rarely as can be."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

_read = WeakIdKeyDictionary()  # by tensor of times: its version, and the numbers in it


def read_times(ts: Tensor) -> list[float]:
    """`ts.tolist()`; a tensor on a GPU, reading which waits for all that was asked of it, is read once.

    Tasks hand out the same times with every batch.
    """
    if ts.device.type != "cuda":
        return list(ts.tolist())
    known = _read.get(ts)
    if known is None or known[0] != ts._version:  # written into since
        known = _read[ts] = (ts._version, ts.tolist())
    return list(known[1])


def select_times(ts: Tensor, places: Sequence[int]) -> Tensor:
    """`ts[places]`, whose numbers are known as those of `ts` are."""
    some = torch.stack([ts[place] for place in places])
    if ts.device.type == "cuda":
        numbers = read_times(ts)
        _read[some] = (some._version, [numbers[place] for place in places])
    return some


def read_scalars(found: Mapping[str, Tensor | float]) -> dict[str, float]:
    """Numbers by name; what is on a GPU comes in one transfer."""
    [numbers] = read_all([found])
    return numbers


def read_all(found: Sequence[Mapping[str, Tensor | float]]) -> list[dict[str, float]]:
    """The same of several of them, in one transfer."""
    waiting = [value for one in found for value in one.values() if isinstance(value, Tensor) and value.is_cuda]
    read = iter(torch.stack([value.double() for value in waiting]).tolist() if waiting else [])
    return [
        {
            name: next(read) if isinstance(value, Tensor) and value.is_cuda else float(value)
            for name, value in one.items()
        }
        for one in found
    ]


def send(x: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on a device; a copy to a GPU is queued like any other operation."""
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x.to(device)
