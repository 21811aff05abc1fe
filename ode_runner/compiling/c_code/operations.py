"""PyTorch's operations in C."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ode_runner.compiling.c_code.convolutions import convolution, convolution_backward
from ode_runner.compiling.c_code.elementwise import EXPRESSIONS, code_of_elements, number
from ode_runner.compiling.c_code.indexing import INDEXING
from ode_runner.compiling.c_code.linear_systems import LINEAR_SYSTEMS, SEVERAL_OF_LINEAR_SYSTEMS
from ode_runner.compiling.c_code.loops import TYPES, Name, copied, elementwise, filled, nest, place, sum_over
from ode_runner.compiling.c_code.products import LARGEST_LOOP, matrix_product
from ode_runner.compiling.c_code.recorder import Operation
from ode_runner.compiling.c_code.reductions import REDUCTIONS

aten = torch.ops.aten
LARGEST_CONSTANT = 4096  # elements of a tensor made from Python numbers, which are written out


class NoCode(Exception):
    """There is no C code for an operation, or it cannot be compiled; PyTorch's compiler may still support it."""


def code_of(operation: Operation, name: Name) -> str:
    """The statements of an operation.

    Args:
        operation: the operation.
        name: gives the name of the array that holds the elements of a tensor; numbers become literals.

    Raises:
        NoCode: there is no C code for it.
    """
    target, arguments, result = _into_new(operation.target), list(operation.arguments), operation.result
    if target in _EMPTY or not result.numel():
        return ""
    if target in _FILLED:
        return filled(result, _FILLED[target](*arguments), name)
    try:
        if target in EXPRESSIONS:
            return code_of_elements(operation, name, EXPRESSIONS[target])
        if target in _SEVERAL_RESULTS:
            return _SEVERAL_RESULTS[target](result, name, operation.number, *arguments, **operation.options)
        return _SPECIAL[target](result, name, *arguments, **operation.options)
    except (KeyError, TypeError) as error:  # an operation, or an option, without C code
        raise NoCode(str(target)) from error


def _into_new(target: Any) -> Any:
    """The out-of-place variant of an in-place operation, if its code serves for both; otherwise the operation."""
    name, overload = target._schema.name.removeprefix("aten::"), target._overloadname
    packet = getattr(aten, name.removesuffix("_"), None) if name.endswith("_") else None
    other = getattr(packet, overload, None)
    return other if other in EXPRESSIONS else target


def _cast(result: Tensor, name: Name, x: Tensor | float, *arguments: Any, **options: Any) -> str:
    del arguments, options
    if not isinstance(x, Tensor):  # torch.vmap casts a number that multiplies a tensor without axes
        return filled(result, number(float(x), result.dtype), name)
    if result.dtype == torch.bool and x.dtype != torch.bool:
        return elementwise(result, [x], name, lambda y, x: f"{y} = {x} != 0;")
    return copied(result, x, name)


def _copied(result: Tensor, name: Name, self: Tensor, source: Tensor, *arguments: Any) -> str:
    del self, arguments
    return _cast(result, name, source)


def _addmm(result: Tensor, name: Name, c: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> str:
    if beta != 1 or alpha != 1:
        raise NoCode("addmm with factors")
    return f"{_mm(result, name, a, b)} {elementwise(result, [c], name, lambda y, c: f'{y} += {c};')}"


def _mm(result: Tensor, name: Name, a: Tensor, b: Tensor) -> str:
    code = matrix_product(result, a, b, name)
    if code is None:
        raise NoCode("a large matrix product")
    return code


def _bmm(result: Tensor, name: Name, a: Tensor, b: Tensor) -> str:
    """A batched product: one loop nest for small matrices, one product after another of others."""
    if a[0].numel() * b.shape[2] > LARGEST_LOOP:
        return _called_for_each(result, name, a, b)
    terms, zero = a.unsqueeze(3), filled(result, "0", name)
    spread = result.unsqueeze(2).expand(*a.shape, b.shape[2])
    add = elementwise(spread, [terms, b.unsqueeze(1)], name, lambda y, a, b: f"{y} += {a} * {b};")
    return f"{zero} {add}"


def _called_for_each(result: Tensor, name: Name, a: Tensor, b: Tensor) -> str:
    distances: dict[int, int] = {}  # between matrices, by the address of the first
    for x in (result, a, b):
        if distances.setdefault(x.data_ptr(), x.stride(0)) != x.stride(0):
            raise NoCode("a batched product of a tensor with itself, repeated")
    product = _mm(result[0], lambda x: f"({name(x)} + matrix * {distances[x.data_ptr()]})", a[0], b[0])
    return f"for (long matrix = 0; matrix < {len(a)}; ++matrix) {{ {product} }}"


def _sum(
    result: Tensor, name: Name, x: Tensor, axes: Sequence[int] | None = None, keepdim: bool = False, **options: Any
) -> str:
    del keepdim, options
    return sum_over(result, x, axes or [], name)


def _mean(result: Tensor, name: Name, x: Tensor, axes: Sequence[int] | None = None, keepdim: bool = False) -> str:
    count = max(x.numel() // max(result.numel(), 1), 1)
    divide = elementwise(result, [], name, lambda y: f"{y} /= {count};")
    return f"{_sum(result, name, x, axes, keepdim)} {divide}"


def _cat(result: Tensor, name: Name, parts: Sequence[Tensor], axis: int = 0) -> str:
    parts = [part for part in parts if part.numel()]
    places = result.split([part.shape[axis] for part in parts], axis)
    return " ".join(_cast(y, name, x) for y, x in zip(places, parts, strict=True))


def _stack(result: Tensor, name: Name, parts: Sequence[Tensor], axis: int = 0) -> str:
    return " ".join(_cast(y, name, x) for y, x in zip(result.unbind(axis), parts, strict=True))


def _put_back(view: Callable[..., Tensor]) -> Callable[..., str]:
    """The derivative of a view: the cotangent, with zeros elsewhere."""

    def code(result: Tensor, name: Name, dy: Tensor, shape: Sequence[int], *where: int) -> str:
        del shape
        zero = filled(result, "0", name)
        return f"{zero} {_cast(view(result, *where), name, dy)}"

    return code


def _eye(result: Tensor, name: Name, size: int, **options: Any) -> str:
    del size, options
    zero = filled(result, "0", name)
    return f"{zero} {filled(result.diagonal(), '1', name)}"


def _constant(result: Tensor, name: Name, elements: Sequence[float]) -> str:
    """A tensor made from Python numbers."""
    if len(elements) > LARGEST_CONSTANT:
        raise NoCode("a large constant")
    kind = TYPES[result.dtype]
    literals = [str(int(x)) if isinstance(x, int) else number(x, result.dtype) for x in elements]
    target = place(result.view(-1), name)
    constant = f"const {kind} c[{len(elements)}] = {{{', '.join(literals)}}};"
    return f"{{ {constant} {nest([len(elements)], f'{target} = c[i0];')} }}"


def _slice(x: Tensor, axis: int, begin: int, end: int, step: int) -> Tensor:
    return aten.slice.Tensor(x, axis, begin, end, step)


_EMPTY = {aten.empty.memory_format, aten.empty_like.default, aten.new_empty.default, aten.empty_strided.default}
_FILLED: dict[Any, Callable[..., str]] = {
    aten.zeros_like.default: lambda *_: "0",
    aten.zeros.default: lambda *_: "0",
    aten.new_zeros.default: lambda *_: "0",
    aten.zero_.default: lambda *_: "0",
    aten._new_zeros_with_same_feature_meta.default: lambda *_: "0",
    aten.ones_like.default: lambda *_: "1",
    aten.ones.default: lambda *_: "1",
    aten.new_ones.default: lambda *_: "1",
    aten.full.default: lambda _, x, *rest: number(x, torch.float64),
    aten.full_like.default: lambda _, x, *rest: number(x, torch.float64),
    aten.scalar_tensor.default: lambda x, *_: number(x, torch.float64),
    aten.fill_.Scalar: lambda _, x: number(x, torch.float64),
}
_SPECIAL: dict[Any, Callable[..., str]] = {
    aten.clone.default: _cast,
    aten._to_copy.default: _cast,
    aten.copy_.default: _copied,
    aten.mm.default: _mm,
    aten.addmm.default: _addmm,
    aten.bmm.default: _bmm,
    aten.sum.dim_IntList: _sum,
    aten.sum.default: _sum,
    aten.mean.default: _mean,
    aten.mean.dim: _mean,
    aten.cat.default: _cat,
    aten.stack.default: _stack,
    aten.eye.default: _eye,
    aten.lift_fresh.default: _constant,
    aten.select_backward.default: _put_back(torch.select),
    aten.slice_backward.default: _put_back(_slice),
    aten.convolution.default: convolution,
    **REDUCTIONS,
    **INDEXING,
    **LINEAR_SYSTEMS,
}
_SEVERAL_RESULTS: dict[Any, Callable[..., str]] = {  # whose code takes the number of the result as well
    aten.convolution_backward.default: convolution_backward,
    **SEVERAL_OF_LINEAR_SYSTEMS,
}
WITH_CODE = frozenset(  # with some arguments; with others, NoCode is raised
    {*EXPRESSIONS, *_SPECIAL, *_SEVERAL_RESULTS, *_FILLED, *_EMPTY}
)
