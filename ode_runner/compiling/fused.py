"""Compiles fields and residual blocks into fused GPU kernels for a recording."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import nn

from ode_runner.field import VectorField
from ode_runner.networks.base import Block


def fusible(model: nn.Module) -> list[nn.Module]:
    """The parts of a model that are called repeatedly: its outermost fields and blocks."""
    found: list[nn.Module] = []
    for module in model.modules():
        if isinstance(module, VectorField | Block) and not any(module in outer.modules() for outer in found):
            found.append(module)
    return found


@contextmanager
def fused(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Inside, calls of the modules are compiled by inductor, which takes about half a minute for each kind of module.

    Raises:
        RuntimeError: one of them has graph breaks, or there is no compiler.
    """
    for module in modules:
        module.compile(fullgraph=True, dynamic=False)
    try:
        yield
    finally:
        for module in modules:
            module._compiled_call_impl = None  # torch caches the compiled code
