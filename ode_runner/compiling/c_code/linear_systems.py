"""Small linear systems in C: Gaussian elimination with partial pivoting, a = P L U."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ode_runner.compiling.c_code.loops import TYPES, Name, heads, place

aten = torch.ops.aten
LARGEST = 32  # rows; above, the library that PyTorch calls is faster

# Of a (n, n): L below the diagonal and U above it, with the row that each was swapped with in p (n).
FACTORS = """\
for (long k = 0; k < {n}; ++k) {{
  p[k] = k;
  for (long r = k + 1; r < {n}; ++r) if (fabs(a[r][k]) > fabs(a[p[k]][k])) p[k] = r;
  for (long c = 0; c < {n}; ++c) {{ const {kind} s = a[k][c]; a[k][c] = a[p[k]][c]; a[p[k]][c] = s; }}
  for (long r = k + 1; r < {n}; ++r) {{
    a[r][k] /= a[k][k];
    for (long c = k + 1; c < {n}; ++c) a[r][c] -= a[r][k] * a[k][c];
  }}
}}"""
UNIT = "for (long r = 0; r < {n}; ++r) for (long c = 0; c < {n}; ++c) b[r][c] = r == c;\n"  # the right side of a^-1
SWAP = "for (long c = 0; c < {m}; ++c) {{ const {kind} s = b[k][c]; b[k][c] = b[p[k]][c]; b[p[k]][c] = s; }}"
# The solution of P L U x = b, or of its transpose, in the place of b (n, m).
SUBSTITUTION = f"""\
for (long k = 0; k < {{n}}; ++k) {SWAP}
for (long k = 0; k < {{n}}; ++k) for (long r = k + 1; r < {{n}}; ++r) for (long c = 0; c < {{m}}; ++c)
  b[r][c] -= a[r][k] * b[k][c];
for (long k = {{n}} - 1; k >= 0; --k) for (long c = 0; c < {{m}}; ++c) {{{{
  for (long r = k + 1; r < {{n}}; ++r) b[k][c] -= a[k][r] * b[r][c];
  b[k][c] /= a[k][k];
}}}}"""
OF_TRANSPOSE = f"""\
for (long k = 0; k < {{n}}; ++k) for (long c = 0; c < {{m}}; ++c) {{{{
  for (long r = 0; r < k; ++r) b[k][c] -= a[r][k] * b[r][c];
  b[k][c] /= a[k][k];
}}}}
for (long k = {{n}} - 1; k >= 0; --k) for (long r = k + 1; r < {{n}}; ++r) for (long c = 0; c < {{m}}; ++c)
  b[k][c] -= a[r][k] * b[r][c];
for (long k = {{n}} - 1; k >= 0; --k) {SWAP}"""


def _solve(result: Tensor, name: Name, number: int, a: Tensor, b: Tensor, *, left: bool = True, **checks: Any) -> str:
    """torch.linalg.solve: the solution (number 0), the factors L and U (1), the pivots (2).

    A singular matrix gives infinite or undefined numbers, where PyTorch raises an error.
    """
    del checks
    if number:
        return _factors(result, name, number, a)
    if b.dim() == 1 or b.shape == a.shape[:-1]:  # a vector for each matrix
        result, b = result.unsqueeze(-1), b.unsqueeze(-1)
    if not left:  # x a = b
        result, a, b = result.mT, a.mT, b.mT
    return _for_each(result, name, {"a": a, "b": b}, FACTORS + SUBSTITUTION, "b[{i}][{j}]")


def _factors(result: Tensor, name: Name, number: int, a: Tensor) -> str:
    if number == 1:
        return _for_each(result, name, {"a": a}, FACTORS, "a[{i}][{j}]")
    if number == 2:
        return _for_each(result.unsqueeze(-1), name, {"a": a}, FACTORS, "p[{i}] + 1")
    raise TypeError("whether a matrix is singular")


def _by_factors(
    result: Tensor, name: Name, lu: Tensor, pivots: Tensor, b: Tensor, *, left: bool = True, adjoint: bool = False
) -> str:
    """torch.linalg.lu_solve."""
    if not left:  # x a = b
        result, b, adjoint = result.mT, b.mT, not adjoint
    given = {"a": lu, "p": pivots.unsqueeze(-1), "b": b}
    return _for_each(result, name, given, OF_TRANSPOSE if adjoint else SUBSTITUTION, "b[{i}][{j}]")


def _inverse(result: Tensor, name: Name, number: int, a: Tensor, **checks: Any) -> str:
    del checks
    if number:
        raise TypeError("whether a matrix is singular")
    return _for_each(result, name, {"a": a}, UNIT + FACTORS + SUBSTITUTION, "b[{i}][{j}]")


def _for_each(result: Tensor, name: Name, given: Mapping[str, Tensor], code: str, found: str) -> str:
    """Loops over matrices: read what is given into a, b and p, run `code`, write `found` for each element (i, j)."""
    axes, kind, (n, m) = result.dim() - 2, TYPES[given["a"].dtype], result.shape[-2:]
    if max(n, m) > LARGEST:
        raise TypeError("a large linear system")
    i, j = f"i{axes}", f"i{axes + 1}"
    parts = [f"{kind} a[{n}][{n}], b[{n}][{m}]; long p[{n}];"]
    for array, x in given.items():
        x = x.expand(*result.shape[:-2], *x.shape[-2:])
        one = f"p[{i}] = {place(x, name)} - 1;" if array == "p" else f"{array}[{i}][{j}] = {place(x, name)};"
        parts.append(f"{''.join(heads(x.shape[-2:], axes))}{one}")
    parts.append(code.format(n=n, m=m, kind=kind))
    parts.append(f"{''.join(heads((n, m), axes))}{place(result, name)} = {found.format(i=i, j=j)};")
    return f"{''.join(heads(result.shape[:-2]))}{{ {' '.join(parts)} }}"


LINEAR_SYSTEMS: dict[Any, Callable[..., str]] = {aten.linalg_lu_solve.default: _by_factors}
SEVERAL_OF_LINEAR_SYSTEMS: dict[Any, Callable[..., str]] = {  # whose code takes the number of the result as well
    aten._linalg_solve_ex.default: _solve,
    aten.linalg_inv_ex.default: _inverse,
}
