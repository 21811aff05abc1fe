"""Transfers between CPU and GPU that rarely make the CPU wait for the GPU."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

SYNC_IS_AN_ERROR = 2  # a value of torch.cuda.get_sync_debug_mode()
_read = WeakIdKeyDictionary()  # by tensor of times: its version, and its values as numbers
_converted = WeakIdKeyDictionary()  # by tensor of times: its version, and its conversions by dtype
_sent = WeakIdKeyDictionary()  # by CPU tensor: its copies by device
_holders: list[list[Tensor]] = []  # one list for each `holding`: tensors that a graph being recorded reads


def read_times(ts: Tensor) -> list[float]:
    """`ts.tolist()`, cached for a tensor on a GPU, because reading it makes the CPU wait.

    Tasks return the same tensor of times with every batch.
    """
    if ts.device.type != "cuda":
        return list(ts.tolist())
    known = _read.get(ts)
    if known is None or known[0] != ts._version:  # modified since
        known = _read[ts] = (ts._version, ts.tolist())
    return list(known[1])


def own_times(ts: Tensor) -> Tensor:
    """A copy of `ts`, safe from later writes; on a GPU, `ts` itself, so that its cached values stay known."""
    return ts if ts.device.type == "cuda" else ts.clone()


def times_in(ts: Tensor, dtype: torch.dtype) -> Tensor:
    """`ts.to(dtype)`, cached for a tensor on a GPU, so that `read_times` finds its values again."""
    if ts.dtype == dtype or ts.device.type != "cuda":
        return ts.to(dtype)
    known = _converted.get(ts)
    if known is None or known[0] != ts._version:
        known = _converted[ts] = (ts._version, {})
    found: dict[torch.dtype, Tensor] = known[1]
    if dtype not in found:
        found[dtype] = ts.to(dtype)
    return found[dtype]


def select_times(ts: Tensor, indices: Sequence[int]) -> Tensor:
    """`ts[indices]`; on a GPU, `read_times` then knows the values without another transfer."""
    some = torch.stack([ts[place] for place in indices])
    if ts.device.type == "cuda":
        numbers = read_times(ts)
        _read[some] = (some._version, [numbers[place] for place in indices])
    return some


def read_scalars(found: Mapping[str, Tensor | float]) -> dict[str, float]:
    """Values as numbers, by name; all values on a GPU are read in one transfer."""
    [numbers] = read_all([found])
    return numbers


def read_all(found: Sequence[Mapping[str, Tensor | float]]) -> list[dict[str, float]]:
    """`read_scalars` for several mappings, in a single transfer."""
    waiting = [value for one in found for value in one.values() if isinstance(value, Tensor) and value.is_cuda]
    read = iter(torch.stack([value.double() for value in waiting]).tolist() if waiting else [])
    return [
        {
            name: next(read) if isinstance(value, Tensor) and value.is_cuda else float(value)
            for name, value in one.items()
        }
        for one in found
    ]


def may_wait(device: torch.device) -> bool:
    """Whether the CPU may wait for a device. PyTorch can make that an error, as it does while a graph is recorded."""
    return device.type != "cuda" or torch.cuda.get_sync_debug_mode() < SYNC_IS_AN_ERROR


def send(x: Tensor, device: torch.device) -> Tensor:
    """A CPU tensor, copied to `device`. A copy to a GPU is asynchronous: it is queued like any other operation.

    Raises:
        RuntimeError: a CUDA graph is being recorded. Its replays would read CPU memory that may be in other use.
    """
    if device.type != "cuda":
        return x.to(device)
    if torch.cuda.is_current_stream_capturing():
        raise RuntimeError("numbers are sent to the GPU on the way")
    return x.pin_memory().to(device, non_blocking=True)


def send_once(x: Tensor, device: torch.device) -> Tensor:
    """`send`, cached, for a tensor that is never written into. The copy lives as long as `x` and graphs using it."""
    if device.type != "cuda":
        return x.to(device)
    known: dict[torch.device, Tensor] = _sent.setdefault(x, {})
    if device not in known:
        known[device] = send(x, device)
    for holder in _holders:
        holder.append(known[device])
    return known[device]


@contextmanager
def holding(tensors: list[Tensor]) -> Iterator[None]:
    """Inside, copies that `send_once` returns are also added to `tensors`, which keeps them alive."""
    _holders.append(tensors)
    try:
        yield
    finally:
        _holders.pop()
