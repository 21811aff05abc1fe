"""Compiled steps with integrals along the solve, stored after the state; no stage depends on them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, final

import torch
from torch import Tensor

from ode_runner.compiling.steps import CompiledSteps
from ode_runner.compiling.values import Values
from ode_runner.fields.counted_field import CountedField
from ode_runner.fields.ledger import Ledger
from ode_runner.problem import Problem, Solution
from ode_runner.solvers.embedded import AdaptiveRungeKutta
from ode_runner.solvers.one_step import AcceptedStep, ExplicitRungeKutta
from ode_runner.solvers.packed_field import PackedField
from ode_runner.solvers.tableau import advance, explicit_step, stage_time, time_tensor
from ode_runner.types import State, Time


def solve_with_integrals(solve: Callable[[Problem], Solution], problem: Problem) -> Solution:
    """The solution by a `solve` of packed states, in which integrals follow the state; see `PackedField`."""
    rows = PackedField(problem.field, problem.y0)
    return rows.unpacked(solve(replace(problem, y0=rows.begin(problem.y0))))


@final
class StepsWithIntegrals(CompiledSteps):
    """Compiled steps of packed states, in which integrals follow the state; see `PackedField`.

    The integrands of a stage are computed only if its weight in the result is not 0, as in eager steps.
    """

    def __init__(self, solver: ExplicitRungeKutta, field: CountedField, y0: State, values: Values) -> None:
        rows = PackedField(field, y0)
        if isinstance(solver, AdaptiveRungeKutta):
            solver = _judging(solver, rows)
        self.rows, self.rated = rows, values.slope_and_rates(field)
        tensors, begin = values.tensors(field), rows.begin(y0.detach())
        super().__init__(solver, self._equation, begin, tensors, learned=values.learned)
        self._judges = bool(field.judged)
        self._products = products_at(field, y0)

    def around(self, field: CountedField, y0: State) -> CountedField:
        return PackedField(field, self.rows.state(y0))

    def _equation(self, t: Time, y: State, values: Sequence[Tensor]) -> State:
        return self._packed(*self.rated(t, self.rows.state(y), values))

    def _packed(self, y: State, q: Tensor) -> Tensor:
        return torch.cat([y.reshape(len(y), -1), q], dim=1)

    def _stages(
        self, clock: Tensor, y0: State, f0: State, values: Sequence[Tensor], *, rows: int
    ) -> tuple[State, list[Tensor]]:
        """State and integrals are advanced separately: then integrands of weight 0 are dead code, which is removed."""
        width, (t0, t1, dt) = self.rows.width, clock.unbind()
        rates = [f0[:, width:]]

        def slope(c: float, y: State) -> State:
            dy, rate = self.rated(stage_time(t0, t1, c, dt=dt), y, values)
            rates.append(rate)
            return dy

        y1, ks = explicit_step(self.tableau, slope, dt, self.rows.state(y0), self.rows.state(f0), rows=rows)
        q1 = advance(y0[:, width:], dt, self.tableau.b[:rows], rates)
        return self._packed(y1, q1), [self._packed(k, rate) for k, rate in zip(ks, rates, strict=True)]

    def products(self, accepted_steps: Sequence[AcceptedStep], *, back: bool) -> int:
        """Counts products as eager steps do, which evaluate each integrand once, and none of weight 0."""
        if not back and isinstance(self.solver, AdaptiveRungeKutta):
            if not any(interval.t0 != interval.t1 for interval in accepted_steps):
                return 0
            if self._judges:
                return self._products * self._calls_of_judge(self.solver, accepted_steps)
        return self._products * sum(map(self._calls, accepted_steps))

    def _calls(self, interval: AcceptedStep) -> int:
        """How often integrands are evaluated for the gains of a step and of the outputs due in it."""
        return len(self._weighted(self.tableau.b) | (self._within if interval.dense else set()))

    def _calls_of_judge(self, solver: AdaptiveRungeKutta, accepted_steps: Sequence[AcceptedStep]) -> int:
        """How often integrands are evaluated in a solve whose error control includes integrals.

        The choice of the first step may take evaluations. Values at the end of the last step, and at the beginning of
        the last attempt, are known.
        """
        seen = self._weighted(self.tableau.b) | self._weighted(solver.tableau.b_error)
        attempts = sum(1 + interval.rejected for interval in accepted_steps)
        known_ends = self.tableau.first_same_as_last and self.tableau.stages in seen
        begun = 1 if known_ends else len(accepted_steps)
        chosen = 0 if solver.first_step is not None else 2
        outputs = sum(len(self._within - seen) for interval in accepted_steps if interval.dense)
        return chosen + attempts * len(seen - {0}) + begun * len(seen & {0}) + outputs

    @property
    def _within(self) -> set[int]:
        """The indices of the derivatives of a step that contribute to outputs within it."""
        return {i for i, powers in enumerate(self.tableau.dense.quartic) if any(powers)}

    @staticmethod
    def _weighted(weights: Sequence[float]) -> set[int]:
        return {i for i, weight in enumerate(weights) if weight}


def products_at(field: CountedField, y0: State) -> int:
    """The number of products with the Jacobian that the integrands take at one time and state."""
    counted = CountedField.around(field.field, Ledger(), **field.options())
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        t, y0 = time_tensor(0.0, y0), y0.detach()
        counted.rates(t, y0, torch.zeros_like(y0))
    return counted.ledger.tally.products


def _judging(solver: Any, rows: PackedField) -> Any:
    """The pair with a norm that treats the state, and each integral under error control, separately."""
    return replace(solver, norm=rows.norm)
