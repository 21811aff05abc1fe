"""The values that a field and its integrands depend on besides time and state."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ode_runner.field import LinearizableField
from ode_runner.fields.counted_field import CountedField, fitted
from ode_runner.integral import VJP, stacked
from ode_runner.types import State, Time, holds_whole_numbers

Equation = Callable[[Time, State, Sequence[Tensor]], State]  # dy/dt of t, y and the values
Rates = Callable[[Time, State, State, Sequence[Tensor]], Tensor]  # of integrals, of t, y, dy/dt and the values
SlopeAndRates = Callable[[Time, State, Sequence[Tensor]], tuple[State, Tensor]]


@dataclass(frozen=True, kw_only=True)
class Values:
    """The tensors given for a solve, the parameters of the field and of integrands, and the span of times it sees.

    Gradients are taken with respect to the first `learned` of them. Parameters are in the order of
    `CountedField.leaves`. A given tensor, and a buffer, may have other values in every solve.
    """

    order: tuple[int, ...]  # indices into the given tensors followed by the parameters and buffers, and a span
    learned: int
    names: tuple[str, ...]  # of the parameters and buffers, in `_Whole`
    counts: tuple[int, ...]  # how many tensors are given to the field, and to each integral only

    @staticmethod
    def of(field: CountedField) -> "Values":
        """The values of this field, and of others of its kind."""
        learned = [z.requires_grad for z in _all(field)]
        return Values(
            order=tuple(sorted(range(len(learned)), key=lambda i: not learned[i])),
            learned=sum(learned),
            names=_names(_Whole(field)),
            counts=(len(field.given) - sum(field.counts), *field.counts),
        )

    def tensors(self, field: CountedField) -> list[Tensor]:
        """The tensors of `field` (not copies), in this order."""
        found = _all(field)
        return [found[i] for i in self.order]

    def equation(self, field: CountedField, call: str = "forward") -> Equation:
        """The field, or another method of it such as `drift`, as a function of the values as well."""
        function = field.field if call == "forward" else getattr(field.field, call)
        whole, named = _Whole(field), self._named

        def derivative(t: Time, y: State, values: Sequence[Tensor]) -> State:
            (given, *_), parameters = named(values)
            t = t if field.span is None else torch.minimum(torch.maximum(t, values[-1][0]), values[-1][1])
            dy: State = functional_call(whole, parameters, (function, t, y, *given))
            return fitted(dy, y, field.field, call)

        return derivative

    def rates(self, field: CountedField) -> Rates:
        """The rates of the integrals, (batch, integral); products are not counted."""
        slope, whole, named = self.equation(field, "drift"), _Whole(field), self._named

        def found(t: Time, y: State, dy: State, values: Sequence[Tensor]) -> Tensor:
            (given, *own), parameters = named(values)
            vjp = VJP(lambda t, y: slope(t, y, values), t, y, enter=lambda _: None)
            each = [
                functional_call(whole, parameters, (integral, t, y, dy, vjp, *given, *more))
                for integral, more in zip(field.integrals, own, strict=True)
            ]
            return stacked(each, field.names, y)

        return found

    def slope_and_rates(self, field: CountedField) -> SlopeAndRates:
        """dy/dt, and the rates of the integrals, (batch, integral); products are not counted."""
        whole, named = _Whole(field), self._named

        def found(t: Time, y: State, values: Sequence[Tensor]) -> tuple[State, Tensor]:
            (given, *own), parameters = named(values)
            both: tuple[State, Tensor] = functional_call(whole, parameters, (_at_once, field, t, y, given, own))
            return both

        return found

    def _named(self, values: Sequence[Tensor]) -> tuple[list[list[Tensor]], dict[str, Tensor]]:
        """The tensors given to the field and to each integral, and the parameters and buffers by name."""
        found = dict(zip(self.order, values, strict=True))
        every = iter([found[i] for i in range(len(values))])
        given = [[next(every) for _ in range(count)] for count in self.counts]
        return given, {name: next(every) for name in self.names}


@final
class _Whole(nn.Module):
    """A field and its integrals as one module; a call calls a function that reads their parameters."""

    def __init__(self, field: CountedField) -> None:
        super().__init__()
        self.field, self.integrals = field.field, nn.ModuleList(field.integrals)

    def forward(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)


def _at_once(
    field: CountedField, t: Time, y: State, given: Sequence[Tensor], own: Sequence[Sequence[Tensor]]
) -> tuple[State, Tensor]:
    """A slope and the rates of integrals, by a single pass through the field if it provides `linearize`."""
    inner, jvp = field.field, None
    if isinstance(inner, LinearizableField):
        dy, jvp = inner.linearize(t, y, *given)
    else:
        dy = inner(t, y, *given)
    dy = fitted(dy, y, inner)
    vjp = VJP(lambda t, y: inner(t, y, *given), t, y, enter=lambda _: None, jvp=jvp)
    each = [integral(t, y, dy, vjp, *given, *more) for integral, more in zip(field.integrals, own, strict=True)]
    return dy, stacked(each, field.names, y)


def _all(field: CountedField) -> list[Tensor]:
    found = [*field.given, *tensors_of(field.field, *field.integrals)]
    if field.span is None:
        return found
    like = next((z for z in found if z.is_floating_point()), torch.empty(0))
    return [*found, like.new_tensor(field.span)]


def _names(module: nn.Module) -> tuple[str, ...]:
    buffers = (name for name, buffer in module.named_buffers() if not holds_whole_numbers(buffer))
    return (*(name for name, _ in module.named_parameters()), *buffers)


def tensors_of(*modules: nn.Module) -> list[Tensor]:
    """The parameters of modules and then their buffers, each once, in nn.Module's order but in a tenth of its time.

    Buffers of whole numbers, such as indices, are not among them: compiled code keeps these, see `PythonValues`.
    """
    parameters: dict[int, Tensor] = {}
    buffers: dict[int, Tensor] = {}

    def gather(module: nn.Module) -> None:
        for p in module._parameters.values():
            if p is not None:
                parameters[id(p)] = p
        for buffer in module._buffers.values():
            if buffer is not None and not holds_whole_numbers(buffer):
                buffers[id(buffer)] = buffer
        for part in module._modules.values():
            if part is not None:
                gather(part)

    for module in modules:
        gather(module)
    return [*parameters.values(), *buffers.values()]
