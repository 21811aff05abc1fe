"""Matrix products in C: loops for small ones, and the BLAS library that PyTorch itself calls for large ones."""

import ctypes
import math
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ode_runner.compiling.c_code.loops import TYPES, Name, product

LARGEST_LOOP = 4_096  # multiplications in a product above which a library call is faster
THIN, LARGEST_THIN = 8, 131_072  # the same of products with a side below THIN
ROUTINES = {torch.float32: "sgemm_", torch.float64: "dgemm_"}  # of BLAS, whose matrices are column-major
DECLARATIONS = "\n".join(
    f"typedef void Gemm_{kind}(const char *, const char *, const int *, const int *, const int *, const {kind} *, "
    f"const {kind} *, const int *, const {kind} *, const int *, const {kind} *, {kind} *, const int *);\n"
    f"Gemm_{kind} *library_gemm_{kind};\n"
    for kind in (TYPES[dtype] for dtype in ROUTINES)
)


class _Matrix(NamedTuple):
    """A matrix in the terms of BLAS: N (column-major) or T (row-major), leading dimension, and address."""

    transposed: str
    distance: int
    start: str


def matrix_product(result: Tensor, a: Tensor, b: Tensor, name: Name) -> str | None:
    """`result` becomes a @ b; None if it is too large for loops and BLAS cannot be called for it."""
    sides = (*a.shape, b.shape[1])
    if math.prod(sides) <= (LARGEST_THIN if min(sides) < THIN else LARGEST_LOOP):
        return product(result, a, b, name)
    called = _library_call(result, a, b, name)
    return product(result, a, b, name) if called is None and math.prod(sides) <= LARGEST_THIN else called


def _library_call(result: Tensor, a: Tensor, b: Tensor, name: Name) -> str | None:
    if result.stride(0) != 1:
        result, a, b = result.t(), b.t(), a.t()
    y, left, right = (_matrix(x, name) for x in (result, a, b))
    if _address(result.dtype) is None or y is None or left is None or right is None or y.transposed == "T":
        return None
    kind, (m, k), n = TYPES[result.dtype], a.shape, b.shape[1]
    sizes = f"const int m = {m}, n = {n}, k = {k}, la = {left.distance}, lb = {right.distance}, ly = {y.distance};"
    factors = f"const {kind} one = 1, zero = 0;"
    operands = f"&one, {left.start}, &la, {right.start}, &lb, &zero, {y.start}, &ly"
    call = f'library_gemm_{kind}("{left.transposed}", "{right.transposed}", &m, &n, &k, {operands});'
    return f"{{ {sizes} {factors} {call} }}"


def link(made: ctypes.PyDLL) -> None:
    """Give compiled code the addresses of the BLAS routines."""
    for dtype in ROUTINES:
        ctypes.c_void_p.in_dll(made, f"library_gemm_{TYPES[dtype]}").value = _address(dtype)


def _matrix(x: Tensor, name: Name) -> _Matrix | None:
    start = f"{name(x)} + {int(x.storage_offset())}"
    if x.stride(0) == 1 and x.stride(1) >= x.shape[0]:
        return _Matrix("N", x.stride(1), start)
    return _Matrix("T", x.stride(0), start) if x.stride(1) == 1 and x.stride(0) >= x.shape[1] else None


@cache
def _address(dtype: torch.dtype) -> int | None:
    """The address of a BLAS routine; None if PyTorch's build exports none, as on macOS."""
    try:
        routines = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        return ctypes.cast(getattr(routines, ROUTINES[dtype]), ctypes.c_void_p).value
    except (OSError, AttributeError, KeyError):
        return None
