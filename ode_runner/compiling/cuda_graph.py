"""What a function asks of a GPU, recorded once and asked for again as a whole: a CUDA graph."""

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
# TF32 and bf16 round alike both times, but sums may be in another order. Tokens are equal.
BOUNDS = {torch.float64: 1e-9, torch.float32: 1e-2, torch.int64: 1e-9}
NUDGE = 1 / 8  # by up to which part parameters are changed, to see whether they have been recorded as they were


class CudaGraph(Generic[Found]):
    """A function without arguments, which reads and writes tensors that stay where they are.

    Nothing but what it asks of the GPU is repeated: its Python code runs while it is recorded, and not again. `found`
    is what it returned then; its tensors are written anew by every replay. Memory that the function takes is its own as
    long as the graph lives.

    Raises:
        CannotCompile: it waits for the GPU, or draws random numbers on the CPU.
    """

    def __init__(self, function: Callable[[], Found]) -> None:
        drawn = torch.get_rng_state()
        with aside() as stream, _reasons():
            function()  # whatever is done once, such as choosing algorithms, is done now
            with never_waiting():
                function()
        if not torch.equal(drawn, torch.get_rng_state()):
            raise CannotCompile("random numbers are drawn on the CPU")
        self.graph, self.held = torch.cuda.CUDAGraph(), list[Tensor]()
        with _reasons(), never_waiting(), holding(self.held), torch.cuda.graph(self.graph, stream=stream):
            self.found = function()

    def replay(self) -> None:
        """Ask for all of it again."""
        self.graph.replay()


@cache
def _stream(device: int) -> torch.cuda.Stream:
    """The stream on which everything is recorded: autograd runs a backward pass on the stream of its forward pass."""
    return torch.cuda.Stream(device)


@contextmanager
def aside() -> Iterator[Any]:
    """Inside, operations go to the stream on which everything is recorded, after those of the current stream."""
    stream = _stream(torch.cuda.current_device())
    stream.wait_stream(torch.cuda.current_stream())
    try:
        with torch.cuda.stream(stream):
            yield stream
    finally:
        torch.cuda.current_stream().wait_stream(stream)


@contextmanager
def never_waiting() -> Iterator[None]:
    """Inside, an operation that would have the CPU wait for the GPU is an error: it cannot be recorded."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Synchronization debug mode is a prototype")
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def write_into(own: Sequence[Tensor], inputs: Sequence[Tensor]) -> None:
    """The values of inputs into tensors that stay where they are. Inputs may be in the CPU's memory, best if pinned."""
    with torch.no_grad():
        here = [mine.device == x.device for mine, x in zip(own, inputs, strict=True)]
        for mine, x in compress(zip(own, inputs, strict=True), (not there for there in here)):
            mine.copy_(x, non_blocking=True)
        torch._foreach_copy_([*compress(own, here)], [*compress(inputs, here)])


def varied(inputs: Sequence[Tensor]) -> list[Tensor]:
    """Inputs unlike those that a function was recorded with; whole numbers as they are."""
    return [x.detach() * (1 + torch.rand_like(x) / 8) if x.is_floating_point() else x.clone() for x in inputs]


def check_repeated_right(
    found: Sequence[Tensor | None], expected: Sequence[Tensor | None], dtype: torch.dtype, *, what: str
) -> None:
    """Check what a recording gives, by what the function itself gives.

    Args:
        found, expected: tensors, taken as one vector each.
        dtype: in which they were computed.
        what: they are, in words.

    Raises:
        CannotCompile: they are further apart than rounding explains, or no numbers.
    """
    off = far_apart(found, expected)
    if math.isnan(off):
        raise CannotCompile(f"{what} is not finite where that is looked at")
    if not off < BOUNDS[dtype]:
        raise CannotCompile(f"repeated as a whole, {what} is off by {off:.1e}")


def far_apart(found: Sequence[Tensor | None], expected: Sequence[Tensor | None]) -> float:
    """The relative distance of two lists of tensors taken as one vector each."""
    both = zip(found, expected, strict=True)
    pairs = [(a.detach().double(), b.detach().double()) for a, b in both if a is not None and b is not None]
    size = sum(float(b.square().sum()) for _, b in pairs)
    off = sum(float((a - b).square().sum()) for a, b in pairs)
    return (off / size if size else off) ** 0.5


@contextmanager
def nudged(parameters: Sequence[nn.Parameter | Tensor]) -> Iterator[None]:
    """Inside, parameters have other values than those that a function may have been recorded with."""
    kept = [p.detach().clone() for p in parameters]
    _write(parameters, [p * torch.linspace(1, 1 + NUDGE, p.numel()).to(p).view_as(p) for p in kept])
    try:
        yield
    finally:
        _write(parameters, kept)


def _write(parameters: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Write values into parameters, keeping their version: a graph made with them stays good, for they are restored."""
    with torch.no_grad(), _unsafe_preserve_version_counter(tuple(parameters)):
        for p, value in zip(parameters, values, strict=True):
            p.copy_(value)


@contextmanager
def _reasons() -> Iterator[None]:
    """Errors of PyTorch in a clause."""
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
