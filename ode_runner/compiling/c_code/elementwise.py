"""PyTorch's elementwise operations, as expressions in C."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from ode_runner.compiling.c_code.loops import TYPES, Name, elementwise
from ode_runner.compiling.c_code.recorder import Inlined, Operation

aten = torch.ops.aten


def is_elementwise(operation: Operation) -> bool:
    """Whether an element of the result is an expression of one element of each argument, and none is modified."""
    return operation.target in EXPRESSIONS and not operation.target._schema.is_mutable


def code_of_elements(operation: Operation, name: Name, expression: Callable[..., str]) -> str:
    """The loop of an operation; number arguments become literals, and inlined operations are computed inside."""

    def code(y: str, *elements: str) -> str:
        rest, before = iter(elements), list[str]()
        value = _expression(operation, expression, rest, before)
        return " ".join([*before, f"{y} = {value};"])

    return elementwise(operation.result, operation.reads(), name, code)


def _expression(
    operation: Operation, expression: Callable[..., str], elements: Iterator[str], before: list[str]
) -> str:
    """An operation's value from the `elements` that it reads; statements that must precede it go into `before`."""
    of_tensors = [x for x in operation.arguments if isinstance(x, Tensor | Inlined)]
    first = of_tensors[0].operation.result if isinstance(of_tensors[0], Inlined) else of_tensors[0]
    kind = (operation.result if operation.result.dtype.is_floating_point else first).dtype
    values = []
    for x, parameter in zip(operation.arguments, operation.target._schema.arguments, strict=False):
        if isinstance(x, Inlined):
            inner = x.operation
            value = _expression(inner, EXPRESSIONS[inner.target], elements, before)
            values.append(f"v{len(before)}")
            before.append(f"const {TYPES[inner.result.dtype]} {values[-1]} = {value};")
        elif isinstance(x, Tensor):
            values.append(next(elements))
        else:
            is_number = isinstance(x, bool) and str(parameter.type) == "number"  # as in x != False
            values.append(number(int(x) if is_number else x, kind))
    return expression(*values, **operation.options)


def number(x: Any, dtype: torch.dtype) -> Any:
    """A number as a literal in C, in the type in which PyTorch would compute; anything else is returned as it is."""
    if isinstance(x, bool) or not isinstance(x, int | float):
        return x
    x = float(x)
    text = {float("inf"): "INFINITY", float("-inf"): "-INFINITY"}.get(x, "NAN" if x != x else x.hex())
    return f"(({'float' if dtype == torch.float32 else 'double'}){text})"


def _power(x: str, exponent: str) -> str:
    whole = float.fromhex(exponent.split(")")[1]) if exponent.startswith("((") and "0x" in exponent else None
    if whole in (1.0, 2.0, 3.0):
        return " * ".join([x] * int(whole))
    return f"sqrt({x})" if whole == 0.5 else f"pow({x}, {exponent})"


def _clamp(x: str, low: str | None = None, high: str | None = None) -> str:
    """A clamp that keeps NaN."""
    above = x if low is None else f"({x} < {low} ? {low} : {x})"
    return above if high is None else f"({above} > {high} ? {high} : {above})"


def _remainder(x: str, y: str) -> str:
    """With the sign of the divisor, as in Python."""
    rest = f"fmod({x}, {y})"
    return f"{rest} + ({rest} != 0 && ({rest} < 0) != ({y} < 0) ? {y} : 0)"


def _scaled(sign: str) -> Callable[..., str]:
    return lambda x, y, alpha=1: f"{x} {sign} {y}" if alpha == 1 else f"{x} {sign} {_factor(alpha)} * {y}"


def _factor(x: str | float) -> str:
    return x if isinstance(x, str) else number(x, torch.float64)


EXPRESSIONS: dict[Any, Callable[..., str]] = {
    aten.add.Tensor: _scaled("+"),
    aten.add.Scalar: _scaled("+"),
    aten.sub.Tensor: _scaled("-"),
    aten.sub.Scalar: _scaled("-"),
    aten.rsub.Scalar: lambda x, y, alpha=1: _scaled("-")(y, x, alpha),
    aten.mul.Tensor: lambda x, y: f"{x} * {y}",
    aten.mul.Scalar: lambda x, y: f"{x} * {y}",
    aten.div.Tensor: lambda x, y: f"{x} / {y}",
    aten.div.Scalar: lambda x, y: f"{x} / {y}",
    aten.addcmul.default: lambda x, y, z, value=1: f"{x} + {_factor(value)} * {y} * {z}",
    aten.neg.default: lambda x: f"-{x}",
    aten.reciprocal.default: lambda x: f"1 / {x}",
    aten.abs.default: lambda x: f"fabs({x})",
    aten.sgn.default: lambda x: f"({x} > 0) - ({x} < 0)",
    aten.sign.default: lambda x: f"({x} > 0) - ({x} < 0)",
    aten.sqrt.default: lambda x: f"sqrt({x})",
    aten.rsqrt.default: lambda x: f"1 / sqrt({x})",
    aten.exp.default: lambda x: f"exp({x})",
    aten.log.default: lambda x: f"log({x})",
    aten.log1p.default: lambda x: f"log1p({x})",
    aten.sin.default: lambda x: f"sin({x})",
    aten.cos.default: lambda x: f"cos({x})",
    aten.tanh.default: lambda x: f"tanh({x})",
    aten.fmod.Scalar: lambda x, y: f"fmod({x}, {y})",
    aten.fmod.Tensor: lambda x, y: f"fmod({x}, {y})",
    aten.remainder.Scalar: lambda x, y: _remainder(x, y),
    aten.remainder.Tensor: lambda x, y: _remainder(x, y),
    aten.sigmoid.default: lambda x: f"1 / (1 + exp(-{x}))",
    aten.silu.default: lambda x: f"{x} / (1 + exp(-{x}))",
    aten.softplus.default: lambda x, beta=1, threshold=20: (
        f"{x} * {beta} > {threshold} ? {x} : log1p(exp({x} * {beta})) / {beta}"
    ),
    aten.relu.default: lambda x: f"{x} <= 0 ? 0 : {x}",
    aten.clamp.default: _clamp,
    aten.clamp_min.default: _clamp,
    aten.pow.Tensor_Scalar: _power,
    aten.pow.Tensor_Tensor: lambda x, y: f"pow({x}, {y})",
    aten.pow.Scalar: lambda x, y: f"pow({x}, {y})",
    aten.maximum.default: lambda x, y: f"{x} > {y} || {x} != {x} ? {x} : {y}",
    aten.minimum.default: lambda x, y: f"{x} < {y} || {x} != {x} ? {x} : {y}",
    aten.where.self: lambda condition, x, y: f"{condition} ? {x} : {y}",
    aten.where.Scalar: lambda condition, x, y: f"{condition} ? {x} : {y}",
    aten.where.ScalarSelf: lambda condition, x, y: f"{condition} ? {x} : {y}",
    aten.where.ScalarOther: lambda condition, x, y: f"{condition} ? {x} : {y}",
    aten.tanh_backward.default: lambda dy, y: f"{dy} * (1 - {y} * {y})",
    aten.sigmoid_backward.default: lambda dy, y: f"{dy} * (1 - {y}) * {y}",
    aten.threshold_backward.default: lambda dy, x, threshold: f"{x} <= {threshold} ? 0 : {dy}",
    aten.softplus_backward.default: lambda dy, x, beta, threshold: (
        f"{x} * {beta} > {threshold} ? {dy} : {dy} / (1 + exp(-{x} * {beta}))"
    ),
    aten.softshrink_backward.default: lambda dy, x, size: f"{x} >= -{size} && {x} <= {size} ? 0 : {dy}",
    aten.hardshrink_backward.default: lambda dy, x, size: f"{x} >= -{size} && {x} <= {size} ? 0 : {dy}",
    aten.masked_fill.Scalar: lambda x, mask, value: f"{mask} ? {value} : {x}",
    aten.logical_and.default: lambda x, y: f"{x} && {y}",
    aten.logical_or.default: lambda x, y: f"{x} || {y}",
    aten.logical_not.default: lambda x: f"!{x}",
    aten.isnan.default: lambda x: f"{x} != {x}",
    aten.isfinite.default: lambda x: f"isfinite({x}) != 0",
    aten.isinf.default: lambda x: f"isinf({x}) != 0",
}
_FUNCTIONS = {  # of the C library, by the names of PyTorch's operations
    "tan": "tan", "sinh": "sinh", "cosh": "cosh", "asin": "asin", "acos": "acos", "atan": "atan", "asinh": "asinh",
    "acosh": "acosh", "atanh": "atanh", "erf": "erf", "erfc": "erfc", "exp2": "exp2", "expm1": "expm1", "log2": "log2",
    "log10": "log10", "floor": "floor", "ceil": "ceil", "round": "nearbyint", "trunc": "trunc", "lgamma": "lgamma",
    "atan2": "atan2", "hypot": "hypot", "special_erf": "erf", "special_erfc": "erfc", "special_exp2": "exp2",
    "special_expm1": "expm1", "special_log1p": "log1p", "special_round": "nearbyint",
}  # fmt: skip
for _name, _function in _FUNCTIONS.items():
    EXPRESSIONS[getattr(aten, _name).default] = lambda *x, function=_function: f"{function}({', '.join(x)})"
_LOGIC = {"and": "&", "or": "|", "xor": "^"}
for _name, _sign in _LOGIC.items():
    for _target in (getattr(aten, f"__{_name}__").Tensor, getattr(aten, f"bitwise_{_name}").Tensor):
        EXPRESSIONS[_target] = lambda x, y, sign=_sign: f"{x} {sign} {y}"
_COMPARISONS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<=", "eq": "==", "ne": "!="}
for _name, _sign in _COMPARISONS.items():
    for _overload in ("Scalar", "Tensor"):
        _target = getattr(getattr(aten, _name), _overload)
        EXPRESSIONS[_target] = lambda x, y, sign=_sign: f"{x} {sign} {y}"
