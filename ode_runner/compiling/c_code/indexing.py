"""Elements at indices in C: selection, its derivatives, rolled and reversed tensors."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ode_runner.compiling.c_code.loops import Name, Place, copied, heads, nest, place

aten = torch.ops.aten


def _at_entry(x: Tensor, name: Name, axis: int) -> str:
    """The element of `x` with index `entry` along an axis, and with those of the loops along the others."""
    if not x.dim():
        return str(place(x, name))
    found = place(x, name)
    others = found._replace(strides=tuple(0 if i == axis else stride for i, stride in enumerate(found.strides)))
    return f"(&{others})[entry * {found.strides[axis]}]"


def _selected(x: Tensor, name: Name, axis: int, result: Tensor, entry: Place | str) -> str:
    """An index out of range gives NaN, where PyTorch raises an error."""
    size = x.shape[axis] if x.dim() else 1
    found = f"entry >= 0 && entry < {size} ? {_at_entry(x, name, axis)} : NAN"
    return nest(result.shape, f"long entry = {entry}; {place(result, name)} = {found};")


def _put(result: Tensor, name: Name, axis: int, source: Tensor, entry: Place | str, sign: str) -> str:
    """Add elements, or assign them; an index out of range does nothing."""
    size = result.shape[axis] if result.dim() else 1
    put = f"if (entry >= 0 && entry < {size}) {_at_entry(result, name, axis)} {sign} {place(source, name)};"
    return nest(source.shape, f"long entry = {entry}; {put}")


def _along(index: Tensor, name: Name, axis: int) -> Place:
    """The entry of a vector of indices, in loops over all axes."""
    return Place(name(index), int(index.storage_offset()), (*[0] * axis, *index.stride()))


def _index_select(result: Tensor, name: Name, x: Tensor, axis: int, index: Tensor) -> str:
    axis %= max(x.dim(), 1)
    return _selected(x, name, axis, result, _along(index, name, axis))


def _gather(result: Tensor, name: Name, x: Tensor, axis: int, index: Tensor, *, sparse_grad: bool = False) -> str:
    del sparse_grad
    return _selected(x, name, axis % max(x.dim(), 1), result, place(index, name))


def _index(result: Tensor, name: Name, x: Tensor, indices: Sequence[Tensor | None]) -> str:
    """x[..., index, ...], with an index or a vector of them."""
    axis, index = _only(x, indices)
    result = result if index.dim() else result.unsqueeze(axis)
    return _selected(x, name, axis, result, _from_the_end(x, axis, index, name))


def _index_put(
    result: Tensor,
    name: Name,
    x: Tensor,
    indices: Sequence[Tensor | None],
    source: Tensor,
    accumulate: bool = False,
    *rest: bool,
) -> str:
    """The derivative of `_index`, or an assignment to such elements."""
    del rest
    axis, index = _only(x, indices)
    part = source.expand(*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])
    part = part if index.dim() else part.unsqueeze(axis)
    put = _put(result, name, axis, part, _from_the_end(x, axis, index, name), "+=" if accumulate else "=")
    return f"{_begun(result, name, x)} {put}"


def _only(x: Tensor, indices: Sequence[Tensor | None]) -> tuple[int, Tensor]:
    """The axis of the only index, and this index."""
    found = [(axis, index) for axis, index in enumerate(indices) if index is not None]
    if len(found) != 1 or found[0][1].dim() > 1 or found[0][1].dtype == torch.bool or not x.dim():
        raise TypeError("several indices, or a matrix or a mask of them")
    return found[0]


def _from_the_end(x: Tensor, axis: int, index: Tensor, name: Name) -> str:
    """The entry of an index, of which negative ones count from the end."""
    entry = _along(index.view(-1), name, axis)
    return f"{entry} < 0 ? {entry} + {x.shape[axis]} : {entry}"


def _index_add(
    result: Tensor, name: Name, x: Tensor, axis: int, index: Tensor, source: Tensor, *, alpha: float = 1
) -> str:
    """The derivative of index_select."""
    if alpha != 1:
        raise TypeError("a factor")
    axis %= max(x.dim(), 1)
    return f"{_begun(result, name, x)} {_put(result, name, axis, source, _along(index, name, axis), '+=')}"


def _scatter(sign: str) -> Callable[..., str]:
    def code(result: Tensor, name: Name, x: Tensor, axis: int, index: Tensor, source: Tensor) -> str:
        part = source[tuple(slice(size) for size in index.shape)]
        return f"{_begun(result, name, x)} {_put(result, name, axis % max(x.dim(), 1), part, place(index, name), sign)}"

    return code


def _begun(result: Tensor, name: Name, x: Tensor) -> str:
    """A copy of `x`, into which something is then written; in-place operations write into `x` itself."""
    return "" if result is x else copied(result, x, name)


def _searchsorted(
    result: Tensor,
    name: Name,
    boundaries: Tensor,
    x: Tensor,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
) -> str:
    """How many boundaries are below an element, or not above it (`right`)."""
    del out_int32
    if boundaries.dim() != 1:
        raise TypeError("boundaries for each row")
    one = place(boundaries, name)._replace(strides=(*[0] * x.dim(), boundaries.stride(0)))
    [count] = heads(boundaries.shape, x.dim())
    counted = f"{count}s += !({one} {'>' if right or side == 'right' else '>='} {place(x, name)});"
    return nest(result.shape, f"long s = 0; {counted} {place(result, name)} = s;")


def _bucketize(result: Tensor, name: Name, x: Tensor, boundaries: Tensor, **options: Any) -> str:
    return _searchsorted(result, name, boundaries, x, **options)


def _flip(result: Tensor, name: Name, x: Tensor, axes: Sequence[int]) -> str:
    axes = [axis % x.dim() for axis in axes]
    offset = int(x.storage_offset()) + sum((x.shape[axis] - 1) * x.stride(axis) for axis in axes)
    strides = tuple(-stride if axis in axes else stride for axis, stride in enumerate(x.stride()))
    return nest(result.shape, f"{place(result, name)} = {Place(name(x), offset, strides)};")


def _roll(result: Tensor, name: Name, x: Tensor, shifts: Sequence[int], axes: Sequence[int] = ()) -> str:
    """Each block that stays together is one loop: two along every axis that is rolled."""
    if not axes:
        if not x.is_contiguous():
            raise TypeError("a flattened roll of a tensor that is not contiguous")
        return _roll(result.view(-1), name, x.view(-1), shifts, [0])
    blocks = []
    for shift, axis in zip(shifts, axes, strict=True):
        size = x.shape[axis]
        blocks.append([(axis, 0, size - shift % size, shift % size), (axis, size - shift % size, size, 0)])
    code = []
    for block in itertools.product(*blocks):
        source, target = x, result
        for axis, begin, end, to in block:
            source, target = source.narrow(axis, begin, end - begin), target.narrow(axis, to, end - begin)
        code.append(copied(target, source, name) if source.numel() else "")
    return " ".join(code)


def _arange(result: Tensor, name: Name, *bounds: float, **options: Any) -> str:
    del options
    start, step = (bounds[0] if len(bounds) > 1 else 0), (bounds[2] if len(bounds) > 2 else 1)
    return nest(result.shape, f"{place(result, name)} = {start} + i0 * {step};")


INDEXING: dict[Any, Callable[..., str]] = {
    aten.index_select.default: _index_select,
    aten.index_add.default: _index_add,
    aten.index_add_.default: _index_add,
    aten.index.Tensor: _index,
    aten.index_put.default: _index_put,
    aten.index_put_.default: _index_put,
    aten.gather.default: _gather,
    aten.scatter.src: _scatter("="),
    aten.scatter_.src: _scatter("="),
    aten.scatter_add.default: _scatter("+="),
    aten.scatter_add_.default: _scatter("+="),
    aten.searchsorted.Tensor: _searchsorted,
    aten.bucketize.Tensor: _bucketize,
    aten.flip.default: _flip,
    aten.roll.default: _roll,
    aten.arange.default: _arange,
    aten.arange.start: _arange,
    aten.arange.start_step: _arange,
}
