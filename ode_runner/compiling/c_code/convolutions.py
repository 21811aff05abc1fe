"""Convolutions of small tensors in C, as one loop nest each."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from ode_runner.compiling.c_code.loops import Name, Place, copied, filled, nest, place, sum_over

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
        pixels = ""
        for axis in range(axes):
            pixel = f"at{axis}"
            begin = f"i{2 + axis} * {self.stride[axis]} - {self.padding[axis]}"
            pixels += f"long {pixel} = {begin} + i{3 + axes + axis} * {self.dilation[axis]}; "
            inside.append(f"{pixel} >= 0 && {pixel} < {x.shape[2 + axis]}")
            at.append(f"{pixel} * {x.stride(2 + axis)}")
        from_x = f"{name(x)}[{int(x.storage_offset())} + {' + '.join(at)}]"
        of_w = Place(name(w), int(w.storage_offset()), (0, w.stride(0), *[0] * axes, *w.stride()[1:]))
        return nest(sizes, f"{pixels}if ({' && '.join(inside)}) {code(from_x, str(of_w), str(place(y, name)))}")


def _shape(
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Any,
    groups: int,
    *wanted: Any,
) -> _Shape:
    del output_padding, wanted  # the former is of transposed convolutions; the results that are wanted are recorded
    if transposed:
        raise TypeError("a transposed convolution")
    return _Shape(stride, padding, dilation, groups)


def convolution(result: Tensor, name: Name, x: Tensor, w: Tensor, bias: Tensor | None, *options: Any) -> str:
    """A convolution with a bias or without."""
    spread = None if bias is None else bias.view(1, -1, *[1] * (result.dim() - 2))
    begin = filled(result, "0", name) if spread is None else copied(result, spread, name)
    added = _shape(*options).visits(x, w, result, name, lambda x, w, y: f"{y} += {x} * {w};")
    return f"{begin} {added}"


def convolution_backward(
    result: Tensor, name: Name, number: int, dy: Tensor, x: Tensor, w: Tensor, bias_sizes: Any, *options: Any
) -> str:
    """The cotangent of the input (number 0), of the weights (1), or of the bias (2)."""
    del bias_sizes
    if number == 2:
        return sum_over(result, dy, [axis for axis in range(dy.dim()) if axis != 1], name)
    shape = _shape(*options)
    if number == 1:
        added = shape.visits(x, result, dy, name, lambda x, w, dy: f"{w} += {x} * {dy};")
    else:
        added = shape.visits(result, w, dy, name, lambda x, w, dy: f"{x} += {w} * {dy};")
    return f"{filled(result, '0', name)} {added}"
