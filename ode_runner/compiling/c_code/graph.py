"""Compiles functions of tensors."""

import ctypes
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from ode_runner.compiling.c_code.machine_code import POSSIBLE, function_of, library
from ode_runner.compiling.c_code.operations import WITH_CODE, NoCode
from ode_runner.compiling.c_code.recorder import record
from ode_runner.compiling.c_code.source import c_source
from ode_runner.config.garbage_collection import collector_off
from ode_runner.errors import CannotCompile, RefusedInput

Function = Callable[..., Sequence[Tensor]]

SMALL = 65_536  # multiplications in a matrix product below which a loop by inductor is faster than a library call
ROUNDING = 1e4  # machine epsilons by which compiled code may differ from double precision, relative to the whole output


def compile_graph(function: Function, examples: Sequence[Tensor]) -> Function:
    """Compile `function` for tensors with the shapes and types of `examples`, on one thread and without gradients.

    If every operation has C code here, that is compiled: for small tensors it takes a tenth of inductor's time, both to
    compile and to run. Otherwise inductor compiles it. The machine code is kept on the disk for later processes.

    The examples must be distinct: the same tensor given twice would always be taken for one input. They and all later
    inputs must be contiguous, because the machine code has fixed strides. Results are contiguous.

    Raises:
        CannotCompile: there is no compiler, or `function` is not a fixed sequence of tensor operations on its inputs;
            or the compiled code gives another result than `function` in double precision.
    """
    with refusing(), torch.no_grad(), collector_off():
        made = _as_c({"run": (function, examples)})
        if made is not None:
            return made[1]["run"]
        compiled = _by_inductor(function, examples)
        check_right(compiled, function, examples)
        return compiled


def compile_library(functions: Mapping[str, tuple[Function, Sequence[Tensor]]], driver: str) -> ctypes.PyDLL | None:
    """Compile several functions, each with examples of its inputs, with C code that calls them by name.

    None if an operation has no C code, or the system's compiler does not accept the code.

    Raises:
        CannotCompile: see `compile_graph`.
    """
    with refusing(), torch.no_grad(), collector_off():
        made = _as_c(functions, driver)
    return None if made is None else made[0]


def has_code(function: Function, examples: Sequence[Tensor]) -> bool:
    """Whether every operation of `function` has C code, on a system that can compile it. Nothing is compiled.

    Raises:
        CannotCompile: `function` is not a fixed sequence of tensor operations on its inputs.
    """
    with refusing(), torch.no_grad(), collector_off():
        recording = record(function, examples, whole=WITH_CODE)
        try:
            c_source({"run": recording})
        except NoCode:
            return False
    return POSSIBLE


def _as_c(
    functions: Mapping[str, tuple[Function, Sequence[Tensor]]], driver: str = ""
) -> tuple[ctypes.PyDLL, dict[str, Function]] | None:
    recordings = {name: record(*one, whole=WITH_CODE) for name, one in functions.items()}
    try:
        made = library(c_source(recordings, driver))
    except NoCode:
        return None
    compiled: dict[str, Function] = {name: function_of(made, name, one) for name, one in recordings.items()}
    for name, (function, examples) in functions.items():
        check_right(compiled[name], function, examples)
    return made, compiled


@contextmanager
def refusing() -> Iterator[None]:
    """Inside, any error of code generation is raised as CannotCompile."""
    try:
        yield
    except (CannotCompile, RefusedInput):
        raise
    except Exception as error:  # what tracing, PyTorch and the C++ compiler raise has no common type
        raise CannotCompile(_first_line(error)) from error


def _by_inductor(function: Function, examples: Sequence[Tensor]) -> Function:
    """Compile by inductor, which supports every operation, in C++."""
    from torch._inductor import config, standalone_compile  # here, because loading takes a second or two
    from torch.fx.experimental.proxy_tensor import make_fx

    trace = make_fx(
        lambda *inputs: [found.contiguous() for found in function(*inputs)],
        decomposition_table=_SMALL_PRODUCTS,
        tracing_mode="fake",  # one mode for all nodes; "real" makes a new one for each, and takes half as long again
    )
    graph = trace(*examples)
    with config.patch({"cpp.threads": 1}):
        compiled: Function = standalone_compile(graph, list(examples), dynamic_shapes="from_example_inputs")
    return compiled


def check_right(compiled: Function, function: Function, examples: Sequence[Tensor]) -> None:
    """Compare on other inputs than those of the compilation, in case these have become constants in the code.

    Raises:
        CannotCompile: the compiled code gives another result than `function` in double precision.
    """
    with torch.random.fork_rng(devices=[]):
        inputs = [example * (1 + 0.1 * torch.rand_like(example)) for example in examples]
    expected = function(*(one.double() for one in inputs))
    for found, right in zip(compiled(*inputs), expected, strict=True):
        if not right.isfinite().all():
            raise CannotCompile("the field has no finite value near its initial state, with which to compare the code")
        off = float((found - right).norm() / right.norm()) if right.norm() else float(found.norm())
        if not off < ROUNDING * torch.finfo(found.dtype).eps:
            raise CannotCompile(f"what was compiled is off by {off:.1e}")


def _mm(a: Tensor, b: Tensor) -> Any:
    """A matrix product as a sum along the axis with the best memory access."""
    (m, k), n = a.shape, b.shape[1]
    if m * k * n > SMALL:
        return NotImplemented
    ways: list[tuple[int, Callable[[], Tensor]]] = [
        (n if b.stride(1) == 1 else 1, lambda: (a.unsqueeze(2) * b.unsqueeze(0)).sum(1)),
        (k if a.stride(1) == 1 and b.stride(0) == 1 else 1, lambda: (a.unsqueeze(1) * b.t().unsqueeze(0)).sum(2)),
        (m if a.stride(0) == 1 else 1, lambda: (a.t().unsqueeze(1) * b.unsqueeze(2)).sum(0).t()),
    ]
    return max(ways, key=lambda way: way[0])[1]()


def _addmm(c: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Any:
    product = _mm(a, b)
    return product if product is NotImplemented else beta * c + alpha * product


_SMALL_PRODUCTS: dict[OpOverload[..., Any], Callable[..., Any]] = {
    torch.ops.aten.mm.default: _mm,
    torch.ops.aten.addmm.default: _addmm,
}


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
