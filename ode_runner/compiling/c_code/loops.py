"""Loops over the elements of tensors, in C."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

SUMMED = '_Pragma("omp simd reduction(+:s)") '  # before a loop, allows any order of summation
TYPES = {
    torch.float32: "float",
    torch.float64: "double",
    torch.bool: "unsigned char",
    torch.int64: "long long",
    torch.int32: "int",
}
Name = Callable[[Tensor], str]  # gives the name of the array that holds the elements of a tensor


class Place(NamedTuple):
    """An element of an array in C: an offset, and a stride for each of the loops around it."""

    array: str
    offset: int
    strides: tuple[int, ...]

    def __str__(self) -> str:
        terms = [f"i{loop} * {stride}" for loop, stride in enumerate(self.strides) if stride]
        return f"{self.array}[{' + '.join([str(self.offset), *terms])}]"


def place(x: Tensor, name: Name) -> Place:
    """The element of `x` in loops over all its axes."""
    return Place(name(x), int(x.storage_offset()), x.stride())


def heads(sizes: Sequence[int], first: int = 0) -> list[str]:
    """The `for` statements of loops of these lengths, the first outermost; variables are numbered from `first`."""
    return [f"for (long i{loop} = 0; i{loop} < {size}; ++i{loop}) " for loop, size in enumerate(sizes, first)]


def nest(sizes: Sequence[int], body: str) -> str:
    """Loops of these lengths, the first outermost."""
    return f"{''.join(heads(sizes))}{{ {body} }}"


def filled(result: Tensor, value: str, name: Name) -> str:
    """Loops that assign one value to every element."""
    return elementwise(result, [], name, lambda y: f"{y} = {value};")


def copied(result: Tensor, x: Tensor, name: Name) -> str:
    """Loops that assign the elements of `x`, which is broadcast."""
    return elementwise(result, [x], name, lambda y, x: f"{y} = {x};")


def elementwise(result: Tensor, operands: Sequence[Tensor], name: Name, code: Callable[..., str]) -> str:
    """Loops with the statement `code(element, *elements of the operands)` for every element of `result`.

    Operands are broadcast. Loops run along memory, and are as few as possible: axes that are contiguous in all tensors
    are merged.
    """
    tensors = [result, *(x.expand(result.shape) for x in operands)]
    order = sorted(range(result.dim()), key=result.stride, reverse=True)
    axes = [(result.shape[axis], *(x.stride(axis) for x in tensors)) for axis in order if result.shape[axis] != 1]
    merged: list[tuple[int, ...]] = []
    for size, *strides in axes:
        if merged and all(outer == size * inner for outer, inner in zip(merged[-1][1:], strides, strict=True)):
            merged[-1] = (merged[-1][0] * size, *strides)
        else:
            merged.append((size, *strides))
    places = [
        Place(name(x), int(x.storage_offset()), tuple(axis[1 + number] for axis in merged))
        for number, x in enumerate(tensors)
    ]
    return nest([axis[0] for axis in merged], code(*map(str, places)))


def sum_over(result: Tensor, x: Tensor, axes: Sequence[int], name: Name) -> str:
    """`result`, which has only the other axes of `x`, becomes the sum over `axes`."""
    kept, reduced = split_axes(x, axes)
    sizes = [x.shape[axis] for axis in kept]
    result = result.view(sizes)
    if math.prod(sizes) > 1 and x.stride(kept[-1]) == 1:  # the kept axis is the innermost loop, which is vectorised
        order = [*reduced, *kept]
        target = Place(name(result), int(result.storage_offset()), (*[0] * len(reduced), *result.stride()))
        added = nest([x.shape[axis] for axis in order], f"{target} += {place(x.permute(order), name)};")
        return f"{filled(result, '0', name)} {added}"
    *outer, innermost = heads([x.shape[axis] for axis in reduced], len(kept)) or [""]
    inner = "".join([*outer, SUMMED if innermost else "", innermost])
    source = place(x.permute(*kept, *reduced), name)
    return nest(sizes, f"{TYPES[result.dtype]} s = 0; {inner}s += {source}; {place(result, name)} = s;")


def split_axes(x: Tensor, axes: Sequence[int] | int | None) -> tuple[list[int], list[int]]:
    """The axes that a reduction keeps, and those that it reduces: all, if none is named."""
    named = [axes] if isinstance(axes, int) else axes or []
    reduced = [axis % x.dim() for axis in named if x.dim()] or list(range(x.dim()))
    return [axis for axis in range(x.dim()) if axis not in reduced], reduced


def product(result: Tensor, a: Tensor, b: Tensor, name: Name) -> str:
    """`result` becomes a @ b; the innermost loop is the longest one that runs along memory."""
    (m, k), n, kind = a.shape, b.shape[1], TYPES[result.dtype]
    arrays = [(name(x), int(x.storage_offset()), *x.stride()) for x in (result, a, b)]
    y, left, right = (
        lambda i, j, parts=parts: f"{parts[0]}[{parts[1]} + {i} * {parts[2]} + {j} * {parts[3]}]" for parts in arrays
    )

    def loop(variable: str, size: int) -> str:
        return f"for (long {variable} = 0; {variable} < {size}; ++{variable}) "

    rows, columns, terms = loop("i", m), loop("j", n), loop("k", k)
    lengths = {
        "row": n if b.stride(1) == 1 or n == 1 else 1,
        "dot": k if (a.stride(1) == 1 and b.stride(0) == 1) or k == 1 else 1,
        "column": m if a.stride(0) == 1 or m == 1 else 1,
    }
    way = max(lengths, key=lambda one: lengths[one])
    if way == "dot":
        add = f"{SUMMED}{terms}s += {left('i', 'k')} * {right('k', 'j')};"
        return f"{rows}{columns}{{ {kind} s = 0; {add} {y('i', 'j')} = s; }}"
    if way == "row":
        add = f"{terms}{columns}s[j] += {left('i', 'k')} * {right('k', 'j')};"
        return f"{rows}{{ {kind} s[{n}] = {{0}}; {add} {columns}{y('i', 'j')} = s[j]; }}"
    add = f"{terms}{rows}s[i] += {left('i', 'k')} * {right('k', 'j')};"
    return f"{columns}{{ {kind} s[{m}] = {{0}}; {add} {rows}{y('i', 'j')} = s[i]; }}"
