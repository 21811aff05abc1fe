"""A known equation with unknown coefficients."""

import math
from collections.abc import Mapping
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ode_runner.batch import Answer
from ode_runner.encoding import Encoding
from ode_runner.errors import IncompatibleChoice, as_typed
from ode_runner.field import VectorField
from ode_runner.fields.structured_field import KnownEquation
from ode_runner.models.base import Numerics
from ode_runner.models.equations.coefficients import Ranges, learnable
from ode_runner.models.equations.estimated import EstimatedModel
from ode_runner.networks.base import Network
from ode_runner.networks.forced import ForcedField
from ode_runner.problem import Integrate, Solution
from ode_runner.types import Times


@final
class Parametric(EstimatedModel):
    """Solves the user's or the task's equation, whose coefficients are learned and shared by all series.

    Each coefficient may have bounds (`low`, `high`), be learned as a logarithm (`log`) or be fixed (`fixed`). Initial
    values are given by `start`; by default, those of the task's equation are `factor` times the true ones, and those of
    the user's equation are its own. With `y0=learned`, the first state of every training series is learned, too.

    Seber, Wild. Nonlinear Regression. Wiley 1989.
    """

    numerics: ClassVar[Numerics] = Numerics.EQUATION
    gives: ClassVar[frozenset[Answer]] = EstimatedModel.gives | {Answer.EQUATION}

    def __init__(
        self,
        network: Network,
        *,
        field: KnownEquation | None,
        factor: float,
        start: dict[str, float] | None,
        low: dict[str, float] | None,
        high: dict[str, float] | None,
        log: list[str],
        fixed: list[str],
        y0: Literal["given", "learned"],
    ) -> None:
        super().__init__(network)
        spec = network.spec
        equation = field or spec.field
        if not isinstance(equation, KnownEquation):
            raise IncompatibleChoice(
                "model=parametric needs an equation whose numbers have names: that of task=lotka_volterra or pendulum, "
                "of task=closed_form (task.problem=car has none), or one of your own, "
                "model.field={_target_: my_module.MyField, k: 1.0}."
            )
        begin = {name: factor * getattr(equation, name) for name in equation.numbers if field is None} | (start or {})
        self.equation = learnable(equation, Ranges(start=begin, low=low or {}, high=high or {}, log=log, fixed=fixed))
        known = field is None or type(field) is type(spec.field)
        self.true_numbers = {name: float(getattr(spec.field, name)) for name in equation.numbers} if known else {}
        self.names = [name for name in equation.numbers if name not in fixed]
        self.field: VectorField = (
            self.equation if spec.drive is None else ForcedField(self.equation, held=spec.drive.held)
        )
        self.head = nn.Identity()
        self.state = math.prod(spec.input_shape)
        self.shift = _shift(spec.series if spec.whole_series else 0, self.state) if y0 == "learned" else None

    def evolve(self, y0: Encoding, ts: Times, integrate: Integrate) -> Solution:
        return integrate(self.field, y0, ts)

    def encode(self, inputs: Tensor) -> Encoding:
        encoding = super().encode(inputs)
        if self.shift is None:
            return encoding
        return encoding._replace(y0=encoding.y0 + self.shift[inputs[:, self.state].long()])

    def check_new_series(self) -> None:
        if self.shift is not None:
            raise IncompatibleChoice(
                "this run has learned the first state of each of its series, and that of a new one is not known. Train "
                "with model.y0=given."
            )

    def learned_field(self) -> VectorField | None:
        return self.equation if self.field is self.equation else None

    def estimates(self) -> Mapping[str, Tensor]:
        return {name: getattr(self.equation, name) for name in self.names}

    def truths(self) -> Mapping[str, float]:
        return {name: value for name, value in self.true_numbers.items() if name in self.names}

    def fixing(self, name: str) -> str:
        return f"model.fixed={as_typed([*(n for n in self.equation.numbers if n not in self.names), name])}"

    def bounds(self) -> Mapping[str, tuple[float, float]]:
        found = {}
        for name in self.names:
            if parametrize.is_parametrized(self.equation, name):
                found[name] = self.equation.parametrizations[name][0].bounds  # type: ignore[union-attr, index]
        return found


def _shift(series: int, state: int) -> nn.Parameter:
    """The learned difference of first states from the first rows, (series, state)."""
    if not series:
        raise IncompatibleChoice(
            "model.y0=learned learns the first state of each series, and solves of this task begin elsewhere, too. "
            "Use task=series task.window=null task.start=first, or model.y0=given."
        )
    return nn.Parameter(torch.zeros(series, state))
