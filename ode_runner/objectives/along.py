"""Integrals of others than the model along its solves."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Unpack, final

from torch import Tensor

from ode_runner.encoding import Encoding
from ode_runner.errors import RefusedInput
from ode_runner.field import VectorField
from ode_runner.integral import NONE, Integral
from ode_runner.problem import Integrate, Solution, SolveOptions
from ode_runner.types import Scalar, State, Time, Times


@final
class Along:
    """Solves for a model with integrals added to every solve, whose means over the batch it sums up.

    The model sees none of them. A solve backwards in time counts as one forwards: a price has no direction.

    Args:
        integrals: by the names of their sums.
        times: what becomes of the times of each solve.
    """

    def __init__(
        self, integrate: Integrate, integrals: Mapping[str, Integral], *, times: Callable[[Times], Times] | None = None
    ) -> None:
        self.integrate, self.integrals, self.times = integrate, integrals, times
        self.sums: dict[str, Scalar] = {}

    def __call__(
        self, field: VectorField, y0: State | Encoding, ts: Times, **options: Unpack[SolveOptions]
    ) -> Solution:
        ts = ts if self.times is None else self.times(ts)
        own = options.get("integrals", NONE)
        if twice := self.integrals.keys() & own.keys():
            raise RefusedInput(f"a model's integral may not have the name of a price on its path: {', '.join(twice)}.")
        options["integrals"] = {**own, **self.integrals}
        solution = self.integrate(field, y0, ts, **options)
        for name in self.integrals:
            reached = solution.integrals[name][-1].mean() * (-1 if ts[-1] < ts[0] else 1)
            self.sums[name] = self.sums[name] + reached if name in self.sums else reached
        return replace(solution, integrals={name: solution.integrals[name] for name in own})

    def evaluate(self, field: VectorField, t: Time, y: State, *, given: Sequence[Tensor] = ()) -> State:
        return self.integrate.evaluate(field, t, y, given=given)
