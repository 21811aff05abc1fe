"""Transfers between the CPU and a GPU that make the CPU wait as rarely as possible."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

SYNC_IS_AN_ERROR = 2  # of torch.cuda.get_sync_debug_mode()
_read = WeakIdKeyDictionary()  # by tensor of times: its version, and the numbers in it
_converted = WeakIdKeyDictionary()  # by tensor of times: its version, and what it is in other types
_sent = WeakIdKeyDictionary()  # by tensor of the CPU: the same by device
_holders: list[list[Tensor]] = []  # of graphs that are being recorded


def read_times(ts: Tensor) -> list[float]:
    """`ts.tolist()`; of a tensor on a GPU it is kept, because reading waits for the GPU.

    Tasks hand out the same tensor of times with every batch.
    """
    if ts.device.type != "cuda":
        return list(ts.tolist())
    known = _read.get(ts)
    if known is None or known[0] != ts._version:  # written into since
        known = _read[ts] = (ts._version, ts.tolist())
    return list(known[1])


def own_times(ts: Tensor) -> Tensor:
    """`ts` in memory that nobody else writes into; on a GPU `ts` itself, whose numbers may be known."""
    return ts if ts.device.type == "cuda" else ts.clone()


def times_in(ts: Tensor, dtype: torch.dtype) -> Tensor:
    """`ts.to(dtype)`; of a tensor on a GPU it is kept, so that `read_times` knows it again."""
    if ts.dtype == dtype or ts.device.type != "cuda":
        return ts.to(dtype)
    known = _converted.get(ts)
    if known is None or known[0] != ts._version:
        known = _converted[ts] = (ts._version, {})
    found: dict[torch.dtype, Tensor] = known[1]
    if dtype not in found:
        found[dtype] = ts.to(dtype)
    return found[dtype]


def select_times(ts: Tensor, places: Sequence[int]) -> Tensor:
    """`ts[places]`, whose numbers `read_times` then knows without reading."""
    some = torch.stack([ts[place] for place in places])
    if ts.device.type == "cuda":
        numbers = read_times(ts)
        _read[some] = (some._version, [numbers[place] for place in places])
    return some


def read_scalars(found: Mapping[str, Tensor | float]) -> dict[str, float]:
    """Numbers by name; those on a GPU are read in one transfer."""
    [numbers] = read_all([found])
    return numbers


def read_all(found: Sequence[Mapping[str, Tensor | float]]) -> list[dict[str, float]]:
    """`read_scalars` of several mappings, in one transfer."""
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
    """Whether the CPU may wait for a device: not where PyTorch makes that an error, as while a graph is recorded."""
    return device.type != "cuda" or torch.cuda.get_sync_debug_mode() < SYNC_IS_AN_ERROR


def send(x: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU, on a device; a copy to a GPU is queued like any other operation.

    Raises:
        RuntimeError: a CUDA graph is being recorded, whose replays would read the CPU's memory when it is another's.
    """
    if device.type != "cuda":
        return x.to(device)
    if torch.cuda.is_current_stream_capturing():
        raise RuntimeError("numbers are sent to the GPU on the way")
    return x.pin_memory().to(device, non_blocking=True)


def send_once(x: Tensor, device: torch.device) -> Tensor:
    """`send` a tensor that nobody writes into; the copy is kept as long as `x` lives, and graphs that read it."""
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
    """Inside, what `send_once` returns is added to `tensors`."""
    _holders.append(tensors)
    try:
        yield
    finally:
        _holders.pop()
