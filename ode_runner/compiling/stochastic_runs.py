"""Solves of stochastic equations by compiled runs of several steps, whose derivative is that of the steps."""

from collections.abc import Sequence
from functools import partial
from typing import final

import torch
from torch import Tensor
from torch.func import vjp

from ode_runner.compiling.runs import GridPlan, Runs, run_lengths, solve_in_runs
from ode_runner.compiling.solves import CompiledSolve, check_lasting
from ode_runner.compiling.stepper import values_of
from ode_runner.compiling.steps import Packed
from ode_runner.compiling.values import Equation, Values
from ode_runner.errors import CannotCompile
from ode_runner.field import StochasticField
from ode_runner.fields.counted_field import CountedField
from ode_runner.fields.ledger import Ledger, Tally
from ode_runner.noise.brownian_path import BrownianPath, Increment, Noise, NoiseKind
from ode_runner.problem import Problem, Solution
from ode_runner.solvers.stochastic import StochasticSolver
from ode_runner.solvers.stochastic_equation import StochasticEquation
from ode_runner.solvers.tableau import Point, time_tensor
from ode_runner.types import State, Times


def compile_stochastic(solver: StochasticSolver, problem: Problem) -> CompiledSolve:
    """A compiled solve for problems like this one. The backward pass recomputes the steps with the same noise.

    Raises:
        CannotCompile: the field or the solver does not allow it.
    """
    if problem.y0.device.type != "cpu":
        raise CannotCompile("steps with noise are compiled on a CPU")
    if not solver.repeats(problem.field):
        raise CannotCompile("the last step differs from the others, or the equation is that of a Gaussian path")
    solver.check_field(problem.field)
    check_lasting(problem)
    values = values_of(problem)
    return partial(_solve, StochasticRuns(solver, problem, values), values)


def _solve(runs: "StochasticRuns", values: Values, problem: Problem) -> Solution:
    field, y0, ts = problem.field, problem.y0, problem.ts
    runs.solver.check_direction(field, ts)
    if not torch.is_grad_enabled() and runs.whole_forward is None:  # not worth PyTorch's compiler
        return runs.solver.solve(field, y0, ts)
    plan = runs.plan(field, y0, ts)
    return solve_in_runs(runs, values, problem, plan) if plan.inputs else runs.solver.solve(field, y0, ts)


@final
class StochasticRuns(Runs):
    """Compiled steps along a Brownian path.

    Inputs are t0 and length of each step, (steps, 2), and the increments and areas of the noise in each step.
    """

    def __init__(self, solver: StochasticSolver, problem: Problem, values: Values) -> None:
        field, y0 = problem.field, problem.y0
        packed = Packed(y0, values.tensors(field), learned=values.learned)
        super().__init__(packed, integrals=len(field.names))
        self.solver = solver
        own = solver.equation(field, 0.0, y0)  # checks that the noise is of the declared kind
        self.kind, self.correction = own.kind, own.correction
        self.drift, self.diffusion = values.equation(field, "drift"), values.equation(field, "diffusion")
        self.rates = values.rates(field)
        self.example = _example_of_noise(field, y0)
        self.tally = self._tally_of_a_step(field, y0)

    def _tally_of_a_step(self, field: CountedField, y0: State) -> Tally:
        counted = CountedField.around(field.field, Ledger(), **field.options())
        y0, equation = y0.detach(), self.solver.equation(counted, 0.0, y0)
        self.solver.gain(counted, 0.0, 0.125, y0, self.solver.step(equation, 0.0, 0.125, y0, self.example).f0)
        return counted.ledger.tally

    def plan(self, field: CountedField, y0: State, ts: Times) -> GridPlan:
        """The steps of a solve; steps between two outputs at the same time are not computed."""
        accepted_steps = self.solver.grid_steps(ts)
        moving = [(interval.t0, interval.t1) for interval in accepted_steps if interval.t0 != interval.t1]
        served, count = [0], 0
        for interval in accepted_steps:
            count += interval.t0 != interval.t1
            served += [count] * len(interval.due)
        return GridPlan(
            accepted_steps=accepted_steps,
            inputs=self._inputs(field, y0, moving) if moving else [],
            lengths=run_lengths(len(moving), round(self.tally.evaluations + self.tally.products)) if moving else [],
            served=torch.tensor(served),
            evaluations=self.tally.evaluations * count,
            products=self.tally.products * count,
        )

    def _inputs(self, field: CountedField, y0: State, steps: Sequence[tuple[float, float]]) -> list[Tensor]:
        clocks = y0.new_tensor([[t0, t1 - t0] for t0, t1 in steps])
        return [x.contiguous() for x in (clocks, *field.driving_noise.increments(steps, y0))]

    def examples(self, count: int) -> list[Tensor]:
        clock = torch.tensor([0.25, 0.125]).to(self.packed.y0)
        clocks = clock + 0.125 * torch.arange(count).to(clock)[:, None]
        return [clocks, *(torch.stack([x * (1 + i) for i in range(count)]) for x in self.example)]

    def found(self, inputs: Sequence[Tensor], y0: State, values: Sequence[Tensor]) -> list[Tensor]:
        equation, ends, gains = _Traced(self, values), list[Tensor](), list[Tensor]()
        clocks, ws, hs = inputs
        for clock, w, h in zip(clocks, ws, hs, strict=True):
            t0, dt = clock.unbind()
            y1, f0 = self.solver.step(equation, t0, dt, y0, Increment(w, h))
            if self.integrals:  # as `StochasticMethod.gain`
                gains.append(dt * self.rates(t0, y0, f0, values))
            ends.append(y1)
            y0 = y1
        return [torch.stack(x) for x in (ends, gains) if x]


@final
class _Traced(StochasticEquation):
    """The equation as a function of the values as well, with derivatives that can be traced; counts nothing."""

    def __init__(self, runs: StochasticRuns, values: Sequence[Tensor]) -> None:
        self.kind, self.correction = runs.kind, runs.correction
        self.field = _Bound(runs.drift, runs.diffusion, values)

    def _along_itself(self, t: Point, y: State) -> tuple[Tensor, Tensor]:
        found = vjp(partial(self.field.diffusion, time_tensor(t, y)), y)
        g, pull = found[0], found[1]
        if self.kind is not NoiseKind.SCALAR:
            return g, pull(g)[0]
        return g, vjp(lambda u: pull(u)[0], torch.zeros_like(g))[1](g)[0]


class _Bound:
    """Drift and diffusion with given values."""

    def __init__(self, drift: Equation, diffusion: Equation, values: Sequence[Tensor]) -> None:
        self._drift, self._diffusion, self._values = drift, diffusion, values

    def drift(self, t: Tensor, y: State) -> State:
        return self._drift(t, y, self._values)

    def diffusion(self, t: Tensor, y: State) -> Tensor:
        return self._diffusion(t, y, self._values)


def _example_of_noise(field: CountedField, y0: State) -> Increment:
    """The increment of the noise over a step of length 1/8."""
    assert isinstance(field.field, StochasticField)
    noise = Noise(path=BrownianPath(seed=0, cells=8, depth=0), samples=torch.arange(len(y0)))
    return noise.increment(0.0, 0.125, field.field.noise_shape(y0), dtype=y0.dtype)
