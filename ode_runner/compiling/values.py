"""What a field's derivative depends on besides time and state."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.func import functional_call

from ode_runner.counted_field import CountedField
from ode_runner.types import State, Time

Equation = Callable[[Time, State, Sequence[Tensor]], State]  # dy/dt of t, y and the values


@dataclass(frozen=True, kw_only=True)
class Values:
    """Tensors given for a solve, and the field's parameters; the first `learned` of them are differentiated by.

    These come in the order of `CountedField.leaves`. A tensor given may have other values in every solve.
    """

    order: tuple[int, ...]  # among those given and, after them, the parameters
    learned: int
    names: tuple[str, ...]  # of the parameters
    given: int  # how many

    @staticmethod
    def of(field: CountedField) -> "Values":
        """Of this field, and others of its kind."""
        learned = [z.requires_grad for z in _all(field)]
        return Values(
            order=tuple(sorted(range(len(learned)), key=lambda i: not learned[i])),
            learned=sum(learned),
            names=tuple(name for name, _ in field.field.named_parameters()),
            given=len(field.given),
        )

    def tensors(self, field: CountedField) -> list[Tensor]:
        """The caller's own."""
        found = _all(field)
        return [found[i] for i in self.order]

    def equation(self, field: CountedField, call: str = "forward") -> Equation:
        """The field, or another call of it such as `drift`, as a function of the values too."""
        original = field.field if call == "forward" else _Calling(field.field, call)
        names = self.names if call == "forward" else [f"field.{name}" for name in self.names]

        def derivative(t: Time, y: State, values: Sequence[Tensor]) -> State:
            found = dict(zip(self.order, values, strict=True))
            given = [found[i] for i in range(self.given)]
            named = {name: found[self.given + i] for i, name in enumerate(names)}
            dy: State = functional_call(original, named, (t, y, *given))
            return dy

        return derivative


class _Calling(nn.Module):
    """One call of a field, by its name, as what a module does."""

    def __init__(self, field: nn.Module, call: str) -> None:
        super().__init__()
        self.field, self.call = field, call

    def forward(self, *arguments: Tensor) -> Tensor:
        found: Tensor = getattr(self.field, self.call)(*arguments)
        return found


def _all(field: CountedField) -> list[Tensor]:
    return [*field.given, *parameters_of(field.field)]


def parameters_of(module: nn.Module) -> list[Tensor]:
    """Those of nn.Module.parameters(), in the same order and a tenth of the time, which every solve spends."""
    found: dict[int, Tensor] = {}

    def gather(module: nn.Module) -> None:
        for p in module._parameters.values():
            if p is not None:
                found[id(p)] = p
        for part in module._modules.values():
            if part is not None:
                gather(part)

    gather(module)
    return list(found.values())
