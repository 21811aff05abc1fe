"""CUDA graphs: the GPU operations of a function, recorded once and replayed as a whole."""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import compress
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.grad_mode import _unsafe_preserve_version_counter

from ode_runner.devices.transfer import holding
from ode_runner.errors import CannotCompile

Found = TypeVar("Found")
# Relative bounds: TF32 and bf16 round the same in a replay, but sums may have another order. Tokens are equal.
BOUNDS = {torch.float64: 1e-9, torch.float32: 1e-2, torch.int64: 1e-9}
NUDGE = 1 / 8  # largest relative change of parameters in the check that a recording reads their present values


class CudaGraph(Generic[Found]):
    """A recorded function without arguments, which reads and writes tensors at fixed addresses.

    A replay repeats only the GPU operations: the function's Python code runs only for the recording. `found` is the
    result of the recording; every replay overwrites its tensors. Memory that the function allocates belongs to the
    graph for as long as the graph lives.

    Raises:
        CannotCompile: the function waits for the GPU, or draws random numbers on the CPU.
    """

    def __init__(self, function: Callable[[], Found]) -> None:
        drawn = torch.get_rng_state()
        with aside() as stream, _reasons():
            function()  # warm-up: initialisation, such as the choice of algorithms, must not be recorded
            with never_waiting():
                function()
        if not torch.equal(drawn, torch.get_rng_state()):
            raise CannotCompile("random numbers are drawn on the CPU")
        self.graph, self.held = torch.cuda.CUDAGraph(), list[Tensor]()
        with _reasons(), never_waiting(), holding(self.held), torch.cuda.graph(self.graph, stream=stream):
            self.found = function()

    def replay(self) -> None:
        """Launch all operations again."""
        self.graph.replay()


@cache
def _stream(device: int) -> torch.cuda.Stream:
    """The stream on which everything is recorded: autograd runs a backward pass on the stream of its forward pass."""
    return torch.cuda.Stream(device)


@contextmanager
def aside() -> Iterator[Any]:
    """Inside, operations run on the stream of all recordings, after those of the current stream."""
    stream = _stream(torch.cuda.current_device())
    stream.wait_stream(torch.cuda.current_stream())
    try:
        with torch.cuda.stream(stream):
            yield stream
    finally:
        torch.cuda.current_stream().wait_stream(stream)


@contextmanager
def never_waiting() -> Iterator[None]:
    """Inside, an operation that makes the CPU wait for the GPU raises an error: it cannot be recorded."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Synchronization debug mode is a prototype")
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def write_into(own: Sequence[Tensor], inputs: Sequence[Tensor]) -> None:
    """Copy inputs into the tensors `own`, at fixed addresses. Inputs may be on the CPU, preferably pinned."""
    with torch.no_grad():
        here = [mine.device == x.device for mine, x in zip(own, inputs, strict=True)]
        for mine, x in compress(zip(own, inputs, strict=True), (not there for there in here)):
            mine.copy_(x, non_blocking=True)
        torch._foreach_copy_([*compress(own, here)], [*compress(inputs, here)])


def varied(inputs: Sequence[Tensor]) -> list[Tensor]:
    """Inputs that differ from those of the recording; integers are left as they are."""
    return [x.detach() * (1 + torch.rand_like(x) / 8) if x.is_floating_point() else x.clone() for x in inputs]


def check_repeated_right(
    found: Sequence[Tensor | None], expected: Sequence[Tensor | None], dtype: torch.dtype, *, what: str
) -> None:
    """Compare the results of a recording with those of the function itself.

    Args:
        found, expected: lists of tensors, each taken as one vector.
        dtype: the type in which they were computed.
        what: a description of the results, for messages.

    Raises:
        CannotCompile: they differ by more than rounding, or are not finite.
    """
    off = far_apart(found, expected)
    if math.isnan(off):
        raise CannotCompile(f"{what} is not finite in the comparison")
    if not off < BOUNDS[dtype]:
        raise CannotCompile(f"repeated as a whole, {what} is off by {off:.1e}")


def far_apart(found: Sequence[Tensor | None], expected: Sequence[Tensor | None]) -> float:
    """The relative distance of two lists of tensors, each taken as one vector."""
    both = zip(found, expected, strict=True)
    pairs = [(a.detach().double(), b.detach().double()) for a, b in both if a is not None and b is not None]
    size = sum(float(b.square().sum()) for _, b in pairs)
    off = sum(float((a - b).square().sum()) for a, b in pairs)
    return (off / size if size else off) ** 0.5


@contextmanager
def nudged(parameters: Sequence[nn.Parameter | Tensor]) -> Iterator[None]:
    """Inside, parameters have other values than during a recording; restores them at the end."""
    kept = [p.detach().clone() for p in parameters]
    _write(parameters, [p * torch.linspace(1, 1 + NUDGE, p.numel()).to(p).view_as(p) for p in kept])
    try:
        yield
    finally:
        _write(parameters, kept)


def _write(parameters: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Write values without changing version counters: autograd graphs stay valid, since values are restored later."""
    with torch.no_grad(), _unsafe_preserve_version_counter(tuple(parameters)):
        for p, value in zip(parameters, values, strict=True):
            p.copy_(value)


@contextmanager
def _reasons() -> Iterator[None]:
    """Turns errors of PyTorch into CannotCompile, with a clause."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, CannotCompile):
            raise
        if isinstance(error, torch.cuda.OutOfMemoryError):
            raise CannotCompile("there is no memory for it on the GPU") from error
        if "synchronizing" in str(error):
            raise CannotCompile("something in it waits for the GPU") from error
        raise CannotCompile(str(error).strip().partition("\n")[0] or type(error).__name__) from error
