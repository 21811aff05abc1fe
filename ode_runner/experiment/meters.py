"""Measures the cost of a run: bytes saved for the backward pass, peak memory, means over steps, seconds."""

import gc
import math
import sys
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

import torch
from torch import Tensor

from ode_runner.devices.sparse_tensors import dense_parts


class SavedBytes:
    """Context that notes everything autograd keeps for the backward pass.

    Each storage counts once, and only if it is still kept when `bytes` is called: the graph of a rejected step is gone
    by then. Parameters are kept anyway and do not count. Results are the same on CPU and GPU.
    """

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self._parameters = {storage.data_ptr() for p in parameters for storage in _storages(p)}
        self._kept: weakref.WeakSet[_Kept] = weakref.WeakSet()
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, _unpack)

    def __enter__(self) -> "SavedBytes":
        self._hooks.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hooks.__exit__(kind, error, trace)

    def bytes(self) -> int:
        """Bytes in the distinct storages kept at this moment."""
        storages = {_address(storage): storage.nbytes() for kept in self._kept for storage in kept.storages}
        return sum(size for pointer, size in storages.items() if pointer not in {None, *self._parameters})

    @staticmethod
    def is_caused_by_hooks(error: BaseException | None) -> bool:
        """Whether the error arose because torch.func.grad, vjp, jacrev or hessian was called in this context.

        torch has no exception type for it. It is recognized by its message, which a test pins.
        """
        while error is not None:
            if isinstance(error, RuntimeError) and "support saved tensor hooks" in str(error):
                return True
            error = error.__cause__ or error.__context__
        return False

    def _pack(self, tensor: Tensor) -> "_Kept":
        kept = _Kept(tensor)
        self._kept.add(kept)
        return kept


class _Kept:
    """What autograd holds in place of a saved tensor; dies with the graph."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor.detach()  # holding a graph's own output would keep the graph alive for ever
        self.storages = _storages(tensor)


def _storages(tensor: Tensor) -> list[torch.UntypedStorage]:
    return [part.untyped_storage() for part in dense_parts(tensor)]


def _address(storage: torch.UntypedStorage) -> int | None:
    """None if nothing is allocated, as for the zero tensors of forward-mode differentiation."""
    try:
        return storage.data_ptr()
    except RuntimeError:
        return None


def _unpack(kept: _Kept) -> Tensor:
    return kept.tensor


def reset_peak_bytes(device: torch.device) -> None:
    """Begin a new measurement of peak memory in this process."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform == "linux":
        try:
            Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM, see man 5 proc
        except OSError:
            return  # a container may forbid it: then the peak is that of the process's whole life


def peak_bytes(device: torch.device) -> int:
    """Most memory in use since the reset: allocated by CUDA, or resident in the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "linux":
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        import psutil  # installed only on Windows

        return int(psutil.Process().memory_info().peak_wset)
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class Means:
    """Weighted means by name, over the values added so far."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, float]] = {}

    def add(
        self, values: Mapping[str, float], weight: float = 1, *, own: Mapping[str, float] = MappingProxyType({})
    ) -> None:
        """Add a value for each name. `own` has weights other than `weight`, by name: 0 for a mean over nothing."""
        for name, value in values.items():
            (total, weights), its = self._sums.get(name, (0.0, 0.0)), own.get(name, weight)
            self._sums[name] = (total + its * value if its else total, weights + its)

    def read(self) -> dict[str, float]:
        return {name: total / weights if weights else math.nan for name, (total, weights) in self._sums.items()}

    def empty(self) -> bool:
        return not self._sums

    def take(self) -> dict[str, float]:
        """Return the means, and start again without values."""
        means = self.read()
        self._sums = {}
        return means

    def state_dict(self) -> dict[str, Any]:
        return {name: list(pair) for name, pair in self._sums.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._sums = {name: (pair[0], pair[1]) for name, pair in state.items()}


class Stopwatch:
    """Seconds that a device works on the operations of each lap. The CPU waits for a GPU only when they are read."""

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._laps: list[list[Any]] = []  # marks of a lap: start, stop, start, stop, ...
        self._open: list[Any] | None = None

    @contextmanager
    def lap(self) -> Iterator[None]:
        """Time a lap; one that ends with an error does not count."""
        self._open = [self._mark()]
        yield
        self._laps.append([*self._open, self._mark()])
        self._open = None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Inside, the lap is interrupted."""
        if self._open is not None:
            self._open.append(self._mark())
        yield
        if self._open is not None:
            self._open.append(self._mark())

    def take(self) -> list[float]:
        """The seconds of each lap since the last call."""
        laps, self._laps = self._laps, []
        pairs = [zip(marks[::2], marks[1::2], strict=True) for marks in laps]
        return [sum(self._between(begun, ended) for begun, ended in lap) for lap in pairs]

    def _mark(self) -> Any:
        if not self._on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _between(self, begun: Any, ended: Any) -> float:
        if not self._on_gpu:
            return float(ended - begun)
        ended.synchronize()
        return float(begun.elapsed_time(ended)) / 1000


class Clock:
    """Seconds of training over all sessions. Compiling, evaluation and drawing count, loading the data does not."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._before = 0.0

    def start(self) -> None:
        """Begin a session; the time since this clock was last set does not count."""
        self._begun = time.monotonic()

    @property
    def seconds(self) -> float:
        return self._before + time.monotonic() - self._begun

    @seconds.setter
    def seconds(self, seconds: float) -> None:
        self._before, self._begun = seconds, time.monotonic()
