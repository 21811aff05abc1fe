"""Reductions along axes in C: the largest element, products, variances, running sums."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ode_runner.compiling.c_code.loops import TYPES, Name, Place, copied, heads, nest, place, split_axes

aten = torch.ops.aten


class _Loops(NamedTuple):
    """The inner loops of a reduction, the element that they read, and the element of the result."""

    inner: str  # `for` statements without a body
    x: Place
    y: Place


def _reduced(
    result: Tensor, name: Name, x: Tensor, axes: Sequence[int] | int | None, body: Callable[[_Loops], str]
) -> str:
    """Loops with this body over the axes of `x` that are not reduced; `result` may have the others with size 1."""
    kept, reduced = split_axes(x, axes)
    sizes = [x.shape[axis] for axis in kept]
    inner = "".join(heads([x.shape[axis] for axis in reduced], len(kept)))
    return nest(sizes, body(_Loops(inner, place(x.permute(*kept, *reduced), name), place(result.view(sizes), name))))


def _extreme(sign: str, start: str) -> Callable[..., str]:
    """The largest or the smallest element; NaN if there is one."""

    def code(
        result: Tensor, name: Name, x: Tensor, axes: Sequence[int] | int | None = None, keepdim: bool = False
    ) -> str:
        del keepdim
        if not x.dtype.is_floating_point:
            raise TypeError("an extreme of whole numbers, which have no infinity to begin with")
        if result.dtype == torch.int64 and axes is None and x.dim() > 1:
            raise TypeError("an index into a flattened tensor")
        if result.dtype == torch.int64:
            return _reduced(result, name, x, axes, lambda loops: _index_of_extreme(loops, sign, x))
        kind = TYPES[x.dtype]
        return _reduced(
            result,
            *(name, x, axes),
            lambda loops: (
                f"{kind} s = {start}; {loops.inner}if ({loops.x} {sign} s || {loops.x} != {loops.x}) s = {loops.x}; "
                f"{loops.y} = s;"
            ),
        )

    return code


def _index_of_extreme(loops: _Loops, sign: str, x: Tensor) -> str:
    """The index of the first largest or smallest element along one axis; that of the first NaN if there is one."""
    index = f"i{len(loops.x.strides) - 1}"
    first = str(loops.x._replace(strides=(*loops.x.strides[:-1], 0)))
    better = f"s == s && ({loops.x} {sign} s || {loops.x} != {loops.x})"
    return (
        f"{TYPES[x.dtype]} s = {first}; long k = 0; "
        f"{loops.inner}if ({better}) {{ s = {loops.x}; k = {index}; }} {loops.y} = k;"
    )


def _product(
    result: Tensor, name: Name, x: Tensor, axes: Sequence[int] | int | None = None, keepdim: bool = False
) -> str:
    del keepdim
    kind = TYPES[result.dtype]
    return _reduced(result, name, x, axes, lambda loops: f"{kind} s = 1; {loops.inner}s *= {loops.x}; {loops.y} = s;")


def _variance(
    result: Tensor,
    name: Name,
    x: Tensor,
    axes: Sequence[int] | None = None,
    *,
    correction: float | None = None,
    keepdim: bool = False,
) -> str:
    """The mean is computed first: the difference of two large sums would lose all digits."""
    del keepdim
    count, kind = x.numel() // result.numel(), TYPES[x.dtype]
    divisor = max(count - (1 if correction is None else correction), 0)
    inverse = f"(({kind}){(1 / divisor).hex()})" if divisor else "NAN"
    return _reduced(
        result,
        *(name, x, axes),
        lambda loops: (
            f"{kind} m = 0, s = 0; {loops.inner}m += {loops.x}; m /= {count}; "
            f"{loops.inner}s += ({loops.x} - m) * ({loops.x} - m); {loops.y} = s * {inverse};"
        ),
    )


def _running_sum(result: Tensor, name: Name, x: Tensor, axis: int, *, dtype: Any = None) -> str:
    del dtype
    if not x.dim():
        return copied(result, x, name)
    source, target = (z.movedim(axis, -1) for z in (x, result))
    *outer, length = source.shape
    [along] = heads([length], len(outer))
    body = f"{TYPES[result.dtype]} s = 0; {along}{{ s += {place(source, name)}; {place(target, name)} = s; }}"
    return nest(outer, body)


REDUCTIONS: dict[Any, Callable[..., str]] = {
    aten.amax.default: _extreme(">", "-INFINITY"),
    aten.amin.default: _extreme("<", "INFINITY"),
    aten.max.default: _extreme(">", "-INFINITY"),
    aten.min.default: _extreme("<", "INFINITY"),
    aten.max.dim: _extreme(">", "-INFINITY"),
    aten.min.dim: _extreme("<", "INFINITY"),
    aten.argmax.default: _extreme(">", "-INFINITY"),
    aten.argmin.default: _extreme("<", "INFINITY"),
    aten.prod.default: _product,
    aten.prod.dim_int: _product,
    aten.var.correction: _variance,
    aten.cumsum.default: _running_sum,
}
