"""Solves with additional integrals and penalties that the model does not see: regularisers and running costs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Unpack, final

import torch
from torch import Tensor

from ode_runner.devices.transfer import read_times
from ode_runner.encoding import Encoding
from ode_runner.errors import RefusedInput
from ode_runner.field import VectorField
from ode_runner.integral import NONE, Integral
from ode_runner.objectives.own_times import OwnTimes
from ode_runner.problem import Integrate, Solution, SolveOptions, TakesStates, WrappedIntegrate
from ode_runner.types import Scalar, State, Times, Trajectory

Penalties = Callable[[Times, Trajectory], Mapping[str, Tensor]]  # penalties on the outputs of a solve, (batch,) each


def no_penalties(ts: Times, ys: Trajectory) -> Mapping[str, Tensor]:
    """No penalties on states."""
    del ts, ys
    return {}


@final
class RegularizedSolves(WrappedIntegrate, TakesStates):
    """An `Integrate` that adds penalties to every solve of a model; `sums` has their batch means, summed over solves.

    The model does not see them. A backward solve counts like a forward one: a penalty has no direction.

    Args:
        integrate: solves.
        integrals: returns the integrals to add to a solve, by name, from its initial state.
        of_states: returns penalties on the outputs of a solve, by name, from its times and states.
        own: limits the penalties of each sample to its own times; None: they reach to the end of the solve.
    """

    def __init__(
        self,
        integrate: Integrate,
        integrals: Callable[[State], Mapping[str, Integral]],
        *,
        of_states: Penalties = no_penalties,
        own: OwnTimes | None = None,
    ) -> None:
        super().__init__(integrate)
        self.integrals, self.of_states, self.own = integrals, of_states, own
        self.sums: dict[str, Scalar] = {}

    def __call__(
        self, field: VectorField, y0: State | Encoding, ts: Times, **options: Unpack[SolveOptions]
    ) -> Solution:
        added = self.integrals(y0.y0 if isinstance(y0, Encoding) else y0)
        own = options.get("integrals", NONE)
        if twice := added.keys() & own.keys():
            raise RefusedInput(
                f"a model's integral may not have the name of a penalty on its path: {', '.join(twice)}."
            )
        options["integrals"] = {**own, **added}
        solution = super().__call__(field, y0, ts, **options)
        times = read_times(ts) if added else []
        backwards = bool(times) and times[-1] < times[0]
        for name in added:
            along = solution.integrals[name]
            ends = along[-1] if self.own is None or backwards else self.own.at_end(ts, along)
            self._add(name, ends.mean() * (-1 if backwards else 1))
        if self.of_states is not no_penalties:
            self._add_penalties(ts, solution.ys if self.own is None else self.own.on_own_lines(ts, solution.ys))
        return replace(solution, integrals={name: solution.integrals[name] for name in own})

    def take_states(self, states: Sequence[State]) -> None:
        """Adds penalties on the states between layers, whose distance in depth is taken as 1."""
        if self.of_states is not no_penalties:
            self._add_penalties(torch.arange(len(states), device=states[0].device), torch.stack(list(states)))
        if isinstance(self.integrate, TakesStates):
            self.integrate.take_states(states)

    def _add_penalties(self, ts: Times, ys: Trajectory) -> None:
        for name, penalty in self.of_states(ts, ys).items():
            self._add(name, penalty.mean())

    def _add(self, name: str, penalty: Scalar) -> None:
        self.sums[name] = self.sums[name] + penalty if name in self.sums else penalty
