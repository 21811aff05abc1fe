"""Coefficients of a known equation as parameters, optionally with bounds or on a logarithmic scale."""

import copy
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ode_runner.errors import RefusedInput
from ode_runner.fields.structured_field import KnownEquation


@dataclass(frozen=True, kw_only=True)
class Ranges:
    """Options for coefficients, by name: initial values, bounds, which are learned as logarithms, which are fixed."""

    start: Mapping[str, float] = field(default_factory=dict)
    low: Mapping[str, float] = field(default_factory=dict)
    high: Mapping[str, float] = field(default_factory=dict)
    log: Collection[str] = ()
    fixed: Collection[str] = ()


def learnable(equation: KnownEquation, ranges: Ranges) -> KnownEquation:
    """A copy of the equation whose coefficients are parameters, except the fixed ones.

    Raises:
        RefusedInput: a name is not one of the equation's coefficients, bounds exclude each other or the initial value,
            a coefficient with a logarithm is not positive, or nothing is left to learn.
    """
    _check_names(equation, ranges)
    found = copy.deepcopy(equation)
    for name in equation.numbers:
        begin = float(ranges.start.get(name, getattr(equation, name)))
        if name in ranges.fixed:
            setattr(found, name, begin)
            continue
        range_of = _range(name, begin, ranges)
        setattr(found, name, nn.Parameter(torch.tensor(begin)))
        if range_of is not None:
            parametrize.register_parametrization(found, name, range_of)
    if not list(found.parameters()):
        raise RefusedInput(f"model.fixed leaves nothing to learn of {', '.join(equation.numbers)}.")
    return found


def _check_names(equation: KnownEquation, ranges: Ranges) -> None:
    for option in ("start", "low", "high", "log", "fixed"):
        for name in getattr(ranges, option):
            if name not in equation.numbers:
                raise RefusedInput(
                    f"model.{option}: {type(equation).__name__} has no number '{name}'. "
                    f"It has: {', '.join(equation.numbers)}."
                )


def _range(name: str, begin: float, ranges: Ranges) -> "Range | None":
    """The range of a coefficient; None if it is unbounded."""
    low, high, log = ranges.low.get(name, -math.inf), ranges.high.get(name, math.inf), name in ranges.log
    if not low < begin < high:
        raise RefusedInput(
            f"model.start: {name} begins at {begin:g}, and model.low and model.high leave it between {low:g} and "
            f"{high:g}. Choose a start within."
        )
    if log and not (begin > 0 and (low >= 0 or low == -math.inf)):
        raise RefusedInput(f"model.log: {name} is learned as a logarithm, so start and bounds must be positive.")
    return Range(low=low, high=high, log=log) if log or low > -math.inf or high < math.inf else None


@final
class Range(nn.Module):
    """Maps any number to one between `low` and `high`, and back; `log`: on a logarithmic scale."""

    def __init__(self, *, low: float, high: float, log: bool) -> None:
        super().__init__()
        self.log, self.bounds = log, (low, high)
        self.low, self.high = (_logarithm(low), _logarithm(high)) if log else (low, high)

    def forward(self, raw: Tensor) -> Tensor:
        if self.low > -math.inf and self.high < math.inf:
            inside = self.low + (self.high - self.low) * torch.sigmoid(raw)
        elif self.low > -math.inf:
            inside = self.low + raw.exp()
        elif self.high < math.inf:
            inside = self.high - raw.exp()
        else:
            inside = raw
        return inside.exp() if self.log else inside

    def right_inverse(self, value: Tensor) -> Tensor:
        inside = value.log() if self.log else value
        if self.low > -math.inf and self.high < math.inf:
            return torch.logit((inside - self.low) / (self.high - self.low))
        if self.low > -math.inf:
            return (inside - self.low).log()
        return (self.high - inside).log() if self.high < math.inf else inside


def _logarithm(bound: float) -> float:
    return math.log(bound) if 0 < bound < math.inf else math.inf if bound > 0 else -math.inf
