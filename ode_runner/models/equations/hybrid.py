"""A hybrid system: a field, an event, and a reset of the state at the event."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor, nn

from ode_runner.batch import Answer, Outputs, TaskSpec
from ode_runner.encoding import Encoding
from ode_runner.errors import IncompatibleChoice, RefusedInput, as_typed
from ode_runner.event import Event
from ode_runner.field import VectorField
from ode_runner.models.base import Numerics
from ode_runner.models.equations.estimated import EstimatedModel
from ode_runner.models.events import with_events
from ode_runner.networks.base import Network
from ode_runner.problem import Integrate, Solution
from ode_runner.types import State, Times


@final
class LinearReset(nn.Module):
    """y -> A y + b on the flattened state, initialised as the identity."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.layer = nn.Linear(size, size)
        nn.init.eye_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)

    def forward(self, t: Tensor, y: State) -> State:
        del t
        return self.layer(y.flatten(1)).view_as(y)


@final
class Hybrid(EstimatedModel):
    """The task's field, event and reset with some coefficients learned, or with field or reset replaced by a network.

    Chen, Amos, Nickel. Learning Neural Event Functions for Ordinary Differential Equations. ICLR 2021.

    Args:
        field: the task's field, or the network's.
        reset: the task's reset, or an affine map that is initialised as the identity.
        learn: names of the task's coefficients to learn; all others are known.
        start: their initial values, in the same order.
    """

    numerics: ClassVar[Numerics] = Numerics.ANY
    gives: ClassVar[frozenset[Answer]] = frozenset({Answer.VALUES, Answer.STATES, Answer.EVENTS})
    to_events: ClassVar[bool] = True
    of_training_data: ClassVar[bool] = False

    def __init__(
        self,
        network: Network,
        *,
        field: Literal["known", "network"],
        reset: Literal["known", "linear"],
        learn: Sequence[str],
        start: Sequence[float],
    ) -> None:
        super().__init__(network)
        self.without_network = "model.field=known" if field == "known" else ""
        spec = network.spec
        if spec.field is None or spec.event is None:
            raise IncompatibleChoice("model=hybrid needs a task with events. Use task=bouncing_ball or thermostat.")
        self.stem = self.head = nn.Identity()
        self.field: VectorField = network.field() if field == "network" else deepcopy(spec.field)
        self.event: Event = deepcopy(spec.event)
        if reset == "linear":
            self.event.reset = LinearReset(spec.input_shape[0])
        if len(learn) != len(start) or len(set(learn)) != len(learn):
            raise RefusedInput(
                f"model.learn={as_typed(learn)} model.start={as_typed(start)}: each number that is learned is named "
                "once and begins somewhere, such as model.learn=[gravity] model.start=[7.0]."
            )
        self.begun = dict(zip(learn, start, strict=True))
        self._check_there(field, reset, spec)
        self.true_numbers = {name: self._known(name) for name in learn}
        self.learned = {name: self._learn(name, value) for name, value in self.begun.items()}

    @classmethod
    def reads_network(cls, options: Mapping[str, Any]) -> bool:
        return bool(options.get("field") == "network")

    def evolve(self, y0: Encoding, ts: Times, integrate: Integrate) -> Solution:
        return integrate(self.field, y0, ts, event=self.event)

    def forward(self, inputs: Tensor, ts: Times, integrate: Integrate) -> Outputs:
        return with_events(self, inputs, ts, integrate)

    def numbers(self) -> dict[str, float]:
        """The values of the learned coefficients, by name, and as `NAME_error` their differences from the true ones."""
        found = {name: float(getattr(module, name).detach()) for name, module in self.learned.items()}
        return found | {f"{name}_error": abs(found[name] - true) for name, true in self.true_numbers.items()}

    def estimates(self) -> Mapping[str, Tensor]:
        found = {name: getattr(module, name) for name, module in self.learned.items()}
        return found if len(found) == len(list(self.parameters())) else {}

    def truths(self) -> Mapping[str, float]:
        return self.true_numbers

    def bounds(self) -> Mapping[str, tuple[float, float]]:
        return {}

    def fixing(self, name: str) -> str:
        rest = {other: start for other, start in self.begun.items() if other != name}
        return self._typed(rest)

    def learned_field(self) -> VectorField:
        return self.field

    def _check_there(self, field: str, reset: str, spec: TaskSpec) -> None:
        """Raises RefusedInput if a coefficient to learn belongs to a field or reset that is replaced."""
        assert spec.event is not None
        taken = (("model.field=network", field == "network"), ("model.reset=linear", reset == "linear"))
        for (option, away), piece in zip(taken, (spec.field, spec.event.reset), strict=True):
            gone = piece._buffers if away and isinstance(piece, nn.Module) else {}
            if lost := [name for name in self.begun if name in gone and not self._owners(name)]:
                rest = {name: start for name, start in self.begun.items() if name not in lost}
                raise RefusedInput(
                    f"{option} leaves no {' and '.join(lost)} to be learned (model.learn). Name the others: "
                    f"{self._typed(rest)}."
                )

    @staticmethod
    def _typed(begun: Mapping[str, float]) -> str:
        """The options, as typed, with which these coefficients are learned."""
        return f"model.learn={as_typed(list(begun))} model.start={as_typed(list(begun.values()))}"

    def _known(self, name: str) -> float:
        """The task's coefficient with this name.

        Raises:
            RefusedInput: neither field, event nor reset has it.
        """
        owners = self._owners(name)
        if not owners:
            known = sorted({known for module in self._pieces() for known in module._buffers})
            raise RefusedInput(
                f"model.learn={name}: no piece of the model has a number of this name. Those that are known, and may "
                f"be learned instead, are {', '.join(known) or 'none'}."
            )
        return float(owners[0].get_buffer(name))

    def _learn(self, name: str, value: float) -> nn.Module:
        """Make the coefficient with this name a parameter, wherever it is used; returns a module that has it."""
        owners = self._owners(name)
        parameter = nn.Parameter(torch.tensor(float(value)))
        for module in owners:
            del module._buffers[name]
            module.register_parameter(name, parameter)
        return owners[0]

    def _owners(self, name: str) -> list[nn.Module]:
        return [module for module in self._pieces() if name in module._buffers]

    def _pieces(self) -> list[nn.Module]:
        return [*self.field.modules(), *self.event.modules()]
