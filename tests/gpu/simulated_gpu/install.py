"""Puts a simulated GPU in the place of none."""

import contextlib
import ctypes
import gc
import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from tests.gpu.simulated_gpu.operations import GPU, Everything
from tests.gpu.simulated_gpu.recording import Recording
from tests.gpu.simulated_gpu.tensors import DEVICE, Generator

STAND_IN = "SIMULATED_GPU_DRIVER"  # the environment variable that has the path of what stands for the driver
GUARDS = 8  # devices that PyTorch's own stand-in for a driver counts
CAPABILITY = (9, 0)


def install() -> None:
    """From here on there is a GPU; once a process."""
    if torch.cuda.is_available is _available:
        return
    torch._C._ensureCUDADeviceGuardSet()
    ctypes.CDLL(os.environ[STAND_IN]).show_gpus(GUARDS)
    for name, value in _of_torch_cuda().items():
        setattr(torch.cuda, name, value)
    torch.cuda.amp.common.amp_definitely_not_available = lambda: False
    torch.backends.cudnn.enabled = False
    for kernels in ("flash", "mem_efficient", "cudnn"):
        getattr(torch.backends.cuda, f"enable_{kernels}_sdp")(False)
    torch.nn.Module.compile = _no_compiler  # type: ignore[method-assign]
    torch.nn.Module.cpu = _cpu  # type: ignore[assignment,method-assign]
    torch.tensor, torch.Generator = _tensor, Generator  # type: ignore[assignment,misc]
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor: made on the CPU, then sent
    Everything().__enter__()


def _available() -> bool:
    return True


def _of_torch_cuda() -> dict[str, Any]:
    generator = GPU.generator
    return {
        "_lazy_init": lambda: None,
        "_initialized": True,
        "is_initialized": lambda: True,
        "is_available": _available,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda device: None,
        "synchronize": lambda device=None: GPU.wait(),
        "Stream": Stream,
        "stream": _on_stream,
        "current_stream": lambda device=None: _streams[-1],
        "default_stream": lambda device=None: _streams[0],
        "Event": Event,
        "CUDAGraph": CudaGraph,
        "graph": graph,
        "is_current_stream_capturing": lambda: GPU.recording is not None,
        "get_sync_debug_mode": lambda: GPU.sync_debug_mode,
        "set_sync_debug_mode": _set_sync_debug_mode,
        "get_rng_state": lambda device=None: generator.get_state(),
        "get_rng_state_all": lambda: [generator.get_state()],
        "set_rng_state": lambda state, device=None: generator.set_state(state),
        "set_rng_state_all": _set_rng_state_all,
        "manual_seed": generator.manual_seed,
        "manual_seed_all": generator.manual_seed,
        "empty_cache": lambda: None,
        "reset_peak_memory_stats": lambda device=None: None,
        "max_memory_allocated": lambda device=None: 0,
        "memory_allocated": lambda device=None: 0,
        "set_per_process_memory_fraction": lambda fraction, device=None: None,
        "get_device_name": lambda device=None: "simulated GPU",
        "get_device_capability": lambda device=None: CAPABILITY,
        "is_bf16_supported": lambda including_emulation=True: True,
    }


class Stream:
    """Stands for torch.cuda.Stream; everything is in order."""

    def __init__(self, device: Any = None, **_: Any) -> None:
        self.device = DEVICE

    def wait_stream(self, other: "Stream") -> None: ...

    def synchronize(self) -> None:
        GPU.wait()


class Event:
    """Stands for torch.cuda.Event."""

    def __init__(self, **_: Any) -> None: ...

    def record(self, stream: Any = None) -> None: ...

    def synchronize(self) -> None:
        GPU.wait()

    def query(self) -> bool:
        return True

    def elapsed_time(self, other: "Event") -> float:
        return 1.0


class CudaGraph:
    """Stands for torch.cuda.CUDAGraph."""

    def __init__(self) -> None:
        self.recording = Recording()

    def replay(self) -> None:
        assert GPU.recording is None, "a graph is replayed while another one is recorded"
        with torch.no_grad():
            disabled = torch._C._DisableTorchDispatch()
            try:
                self.recording.play(GPU.computed)
            finally:
                del disabled


@contextlib.contextmanager
def graph(recorded: CudaGraph, pool: Any = None, stream: Any = None) -> Iterator[None]:
    """Stands for torch.cuda.graph."""
    GPU.wait()
    gc.collect()
    GPU.recording = recorded.recording
    try:
        with _on_stream(stream):
            yield
    finally:
        GPU.recording = None


_streams = [Stream()]


@contextlib.contextmanager
def _on_stream(stream: Stream | None) -> Iterator[None]:
    _streams.append(stream or _streams[-1])
    try:
        yield
    finally:
        _streams.pop()


def _set_rng_state_all(states: Any) -> None:
    [state] = states  # of a GPU that there is none of is an error of PyTorch's, too
    GPU.generator.set_state(state)


def _set_sync_debug_mode(mode: int | str) -> None:
    GPU.sync_debug_mode = {"default": 0, "warn": 1, "error": 2}[mode] if isinstance(mode, str) else mode


def _tensor(data: Any, *, pin_memory: bool = False, tensor: Any = torch.tensor, **kwargs: Any) -> Tensor:
    """torch.tensor, which pins memory by the driver."""
    made: Tensor = tensor(data, **kwargs)
    return GPU.pin(made) if pin_memory else made


def _cpu(self: torch.nn.Module) -> torch.nn.Module:
    """nn.Module.cpu: parameters of another class of tensors, where PyTorch would write into those there are."""
    before = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        return self._apply(lambda x: x.cpu())
    finally:
        torch.__future__.set_swap_module_params_on_conversion(before)


def _no_compiler(self: torch.nn.Module, *args: Any, **kwargs: Any) -> None:
    raise RuntimeError("there is no compiler for a simulated GPU")
