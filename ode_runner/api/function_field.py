"""Fields from the user's functions and modules."""

import inspect
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from ode_runner.errors import RefusedInput
from ode_runner.field import VectorField
from ode_runner.problem import check_kinds
from ode_runner.types import State, Time


class FunctionField(VectorField):
    """A function or module as a field; a module's parameters are the field's."""

    def __init__(self, function: Callable[..., State]) -> None:
        super().__init__()
        self.function = function

    @property
    def shown_name(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)

    def forward(self, t: Time, y: State, *given: Tensor) -> State:
        return self.function(t, y, *given)


def as_field(field: VectorField | nn.Module | Callable[..., State], given: Sequence[Tensor]) -> VectorField:
    """The field; a function or module is wrapped as one.

    Raises:
        RefusedInput: it cannot be called with a time, a state and the given tensors.
    """
    check_kinds(given)
    if isinstance(field, nn.Module) and "_parameters" not in vars(field):
        raise RefusedInput(f"{type(field).__name__}.__init__ does not call super().__init__(), as a module's must.")
    if isinstance(field, VectorField):
        return field
    if not callable(field):
        raise RefusedInput(f"a field is a module or a function f(t, y), and this is a {type(field).__name__}.")
    made = FunctionField(field)
    if isinstance(field, type):
        raise RefusedInput(f"{made.shown_name} is a class, and a field is an object of it, or a function f(t, y).")
    try:
        signature = inspect.signature(field.forward if isinstance(field, nn.Module) else field)
    except ValueError:  # a builtin without a signature
        return made
    try:
        signature.bind(0.0, None, *given)
    except TypeError:
        wanted = ", ".join(["t", "y", *(f"z{i + 1}" for i in range(len(given)))])
        wrapped = f"lambda {wanted}: ..."
        if isinstance(field, nn.Module):
            wrapped = f"a module of your own that holds it, with forward(self, {wanted})"
        raise RefusedInput(
            f"{made.shown_name} takes {signature}, and is called with ({wanted}): time, state and what is given. "
            f"Wrap it: {wrapped}."
        ) from None
    return made
