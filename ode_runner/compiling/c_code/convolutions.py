"""Convolutions of small tensors in C, as one loop nest each."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ode_runner.compiling.c_code.loops import TYPES, Name, Place, elementwise, nest

aten = torch.ops.aten

LARGEST = 131_072  # multiplications; above, the library that PyTorch calls is faster


class _Shape(NamedTuple):
    """A convolution's options; one number for each spatial axis."""

    stride: Sequence[int]
    padding: Sequence[int]
    dilation: Sequence[int]
    groups: int

    def visits(self, x: Tensor, w: Tensor, y: Tensor, name: Name, code: Callable[[str, str, str], str]) -> str:
        """Loops over every product x * w that is part of an element of y, with the statement code(x, w, y).

        The loops are those of the images, the output channels, y's pixels, the input channels of a group, and w's
        pixels. A product with a pixel outside x, which is padding, is left out.
        """
        axes, own = y.dim() - 2, y.shape[1] // self.groups
        if y.numel() * w[0].numel() > LARGEST:
            raise TypeError("a large convolution")
        sizes = [*y.shape, *w.shape[1:]]
        group = f"(i1 / {own} * {w.shape[1]} + i{2 + axes})"
        at, inside = [f"i0 * {x.stride(0)}", f"{group} * {x.stride(1)}"], []
        for axis in range(axes):
            pixel = f"at{axis}"
            inside.append(f"{pixel} >= 0 && {pixel} < {x.shape[2 + axis]}")
            at.append(f"{pixel} * {x.stride(2 + axis)}")
        pixels = "".join(
            f"long at{axis} = i{2 + axis} * {self.stride[axis]} - {self.padding[axis]} + "
            f"i{3 + axes + axis} * {self.dilation[axis]}; "
            for axis in range(axes)
        )
        from_x = f"{name(x)}[{int(x.storage_offset())} + {' + '.join(at)}]"
        of_y = Place(name(y), int(y.storage_offset()), y.stride())
        of_w = Place(name(w), int(w.storage_offset()), (0, w.stride(0), *[0] * axes, *w.stride()[1:]))
        return nest(sizes, f"{pixels}if ({' && '.join(inside)}) {code(from_x, str(of_w), str(of_y))}")


def _shape(
    stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], transposed: bool, groups: int
) -> _Shape:
    if transposed:
        raise TypeError("a transposed convolution")
    return _Shape(stride, padding, dilation, groups)


def _zero(result: Tensor, name: Name) -> str:
    return elementwise(result, [], name, lambda y: f"{y} = 0;")


def _convolution(
    result: Tensor, name: Name, x: Tensor, w: Tensor, bias: Tensor | None, *options: Any, number: int
) -> str:
    del number
    stride, padding, dilation, transposed, _, groups = options
    shape = _shape(stride, padding, dilation, transposed, groups)
    begin = _zero(result, name)
    if bias is not None:
        spread = bias.view(1, -1, *[1] * (result.dim() - 2))
        begin = elementwise(result, [spread], name, lambda y, b: f"{y} = {b};")
    return f"{begin} {shape.visits(x, w, result, name, lambda x, w, y: f'{y} += {x} * {w};')}"


def _backward(
    result: Tensor, name: Name, dy: Tensor, x: Tensor, w: Tensor, bias_sizes: Any, *options: Any, number: int
) -> str:
    """The cotangent of the input (number 0), of the weights (1), or of the bias (2)."""
    del bias_sizes
    stride, padding, dilation, transposed, _, groups, _ = options
    shape = _shape(stride, padding, dilation, transposed, groups)
    if number == 2:
        at = Place(name(dy), int(dy.storage_offset()), (dy.stride(1), dy.stride(0), *dy.stride()[2:]))
        y, inner = Place(name(result), int(result.storage_offset()), result.stride()), [dy.shape[0], *dy.shape[2:]]
        loops = "".join(f"for (long i{i} = 0; i{i} < {size}; ++i{i}) " for i, size in enumerate(inner, 1))
        return nest([dy.shape[1]], f"{TYPES[dy.dtype]} s = 0; {loops}s += {at}; {y} = s;")
    if number == 1:
        return f"{_zero(result, name)} {shape.visits(x, result, dy, name, lambda x, w, dy: f'{w} += {x} * {dy};')}"
    return f"{_zero(result, name)} {shape.visits(result, w, dy, name, lambda x, w, dy: f'{x} += {w} * {dy};')}"


CONVOLUTIONS: dict[Any, Callable[..., str]] = {
    aten.convolution.default: _convolution,
    aten.convolution_backward.default: _backward,
}
