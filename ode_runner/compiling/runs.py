"""Solves on a fixed grid by compiled runs of several steps, whose derivative is that of the steps."""

import abc
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, final

import torch
from torch import Tensor

from ode_runner.compiling.c_code.graph import Function, compile_graph
from ode_runner.compiling.steps import OF_COMPILED_STEPS, CompiledSteps, Packed
from ode_runner.compiling.values import Values
from ode_runner.compiling.whole_runs import WholeRuns
from ode_runner.devices.transfer import read_times
from ode_runner.fields.counted_field import CountedField
from ode_runner.problem import Problem, Solution
from ode_runner.solvers.first_order import first_order
from ode_runner.solvers.one_step import NONE, AcceptedStep, solution_along
from ode_runner.solvers.runge_kutta import FixedStepRungeKutta
from ode_runner.types import State, Times, Trajectory

MOST_EVALUATIONS = 8  # in a run: longer runs take longer to compile and gain less and less


@dataclass(frozen=True, kw_only=True)
class GridPlan:
    """The steps of a solve in which every output time is the end of a step."""

    accepted_steps: Sequence[AcceptedStep]
    inputs: Sequence[Tensor]  # (steps, ...) each, contiguous
    lengths: Sequence[int]  # of runs (steps that are one function), used if the whole solve is not one function
    served: Tensor  # for each output, the index of its state among those at the grid's times, ascending from 0
    evaluations: float  # of the whole solve
    products: int = 0  # with the Jacobian, of the whole solve

    def runs(self) -> list[tuple[Tensor, ...]]:
        """The inputs of each run, (steps of the run, ...)."""
        return list(zip(*(x.split(self.lengths) for x in self.inputs), strict=True))


class Runs(abc.ABC):
    """The steps of a solve, compiled when first needed: in C all at once, otherwise several steps as one function.

    `integrals` is the number of integrals along the solve; each step also returns its gains of these.
    """

    def __init__(self, packed: Packed, *, integrals: int = 0) -> None:
        self.packed, self.integrals = packed, integrals
        self.run, self.run_vjp = cache(self._compiled_run), cache(self._compiled_run_vjp)

    @abc.abstractmethod
    def examples(self, count: int) -> list[Tensor]:
        """Examples of the inputs of `count` steps besides the initial state: (steps, ...) each."""

    @abc.abstractmethod
    def found(self, inputs: Sequence[Tensor], y0: State, values: Sequence[Tensor]) -> list[Tensor]:
        """States at the ends of the steps, (steps, batch, *state), and gains of integrals, (steps, batch, integral)."""

    @cached_property
    def whole(self) -> WholeRuns | None:
        """All steps in C, with their backward pass; None if an operation has no C code."""
        return self._whole({"run_vjp": (self._run_vjp, self._run_vjp_examples(1))})

    @cached_property
    def whole_forward(self) -> WholeRuns | None:
        """All steps in C, without a backward pass; None if an operation has no C code."""
        return self._whole({})

    def _whole(self, others: Mapping[str, tuple[Function, Sequence[Tensor]]]) -> WholeRuns | None:
        pieces = {"run": (self._run, self._run_examples(1)), **others}
        return WholeRuns.of(pieces, self.packed, inputs=self.examples(1), integrals=self.integrals)

    def take(
        self, plan: GridPlan, whole: WholeRuns | None, y0: State, theta: Tensor
    ) -> tuple[Trajectory, Trajectory, list[Tensor]]:
        """States at the grid's times, states at outputs, and gains of integrals if there are any."""
        if whole is not None:
            return whole.take(plan.inputs, plan.served, y0, theta)
        states, gains = [y0[None]], list[Tensor]()
        for inputs in plan.runs():
            ends, *gained = self.run(len(inputs[0]))(*inputs, states[-1][-1], theta)
            states.append(ends)
            gains += gained
        found = torch.cat(states)
        return found, found[plan.served], [torch.cat(gains)] if gains else []

    def pull_back(
        self, plan: GridPlan, states: Trajectory, theta: Tensor, dys: Tensor, dgains: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """dL/dy0 and dL/dtheta from the derivatives of outputs and gains, all contiguous."""
        if self.whole is not None:
            return self.whole.pull_back(plan.inputs, plan.served, states, theta, dys, dgains)
        lengths = plan.lengths
        first, *of_runs = torch.zeros_like(states).index_add_(0, plan.served, dys).split([1, *lengths])
        begins = states[:-1].split(lengths)
        gained = zip(*(d.split(lengths) for d in dgains), strict=True) if dgains else [()] * len(lengths)
        a, sums = torch.zeros_like(first[0]), theta.new_zeros(sum(self.packed.learned.sizes))
        backwards = zip(*(reversed(list(x)) for x in (plan.runs(), begins, of_runs, gained)), strict=True)
        for inputs, before, of_run, of_gains in backwards:
            of_run[-1] += a
            a, sums = self.run_vjp(len(inputs[0]))(*inputs, before[0], of_run, *of_gains, sums, theta)
        return a + first[0], sums

    def _compiled_run(self, count: int) -> Function:
        """(*inputs, y0, theta) to the results of `count` steps; see `found`."""
        return compile_graph(self._run, self._run_examples(count))

    def _compiled_run_vjp(self, count: int) -> Function:
        """(*inputs, y0, dL/dfound, sums, theta) to dL/dy0, and `sums` plus the run's part. Recomputes the run."""
        return compile_graph(self._run_vjp, self._run_vjp_examples(count))

    def _run_examples(self, count: int) -> list[Tensor]:
        return [*self.examples(count), self.packed.y0, self.packed.theta]

    def _run_vjp_examples(self, count: int) -> list[Tensor]:
        packed = self.packed
        dfound = [torch.stack([packed.noise() for _ in range(count)])]
        if self.integrals:
            sizes = (count, len(packed.y0), self.integrals)
            dfound.append(torch.linspace(1.0, 2.0, math.prod(sizes)).view(sizes).to(packed.y0))
        return [*self.examples(count), packed.y0, *dfound, packed.sums(), packed.theta]

    def _run(self, *arguments: Tensor) -> list[Tensor]:
        *inputs, y0, theta = arguments
        return self.found(inputs, y0, self.packed.packing.unpack(theta))

    def _run_vjp(self, *arguments: Tensor) -> list[Tensor]:
        *others, sums, theta = arguments
        count = 2 if self.integrals else 1
        *inputs, y0 = others[:-count]
        dfound = list(others[-count:])
        return self.packed.field_vjp(lambda y0, values: self.found(inputs, y0, values), y0, dfound, sums, theta)


@final
class CompiledRuns(Runs):
    """The steps of a Runge-Kutta method of fixed step. Inputs are clocks, (steps, 3): t0, t1 and their difference."""

    def __init__(self, steps: CompiledSteps) -> None:
        super().__init__(steps)
        self.steps = steps
        self._planned: tuple[tuple[list[float], torch.dtype] | None, GridPlan | None] = (None, None)

    def plan(self, ts: Times) -> GridPlan | None:
        """The steps of a solve; None if outputs are asked for within a step, or nothing is to be solved."""
        asked = (read_times(ts), ts.dtype)  # the rounding of times depends on the type
        if self._planned[0] != asked:
            self._planned = (asked, self._new_plan(ts))
        return self._planned[1]

    def _new_plan(self, ts: Times) -> GridPlan | None:
        solver = self.steps.solver
        accepted_steps = solver.grid_steps(ts) if isinstance(solver, FixedStepRungeKutta) else []
        if not accepted_steps or any(interval.dense for interval in accepted_steps):
            return None
        clocks = self.steps.y0.new_tensor(
            [[interval.t0, interval.t1, interval.t1 - interval.t0] for interval in accepted_steps]
        )
        served = [0, *(1 + step for step, interval in enumerate(accepted_steps) for _ in interval.due)]
        stages = self.steps.tableau.stages
        return GridPlan(
            accepted_steps=accepted_steps,
            inputs=[clocks],
            lengths=run_lengths(len(accepted_steps), stages),
            served=torch.tensor(served),
            evaluations=stages * len(accepted_steps),
            products=self.steps.products(accepted_steps, back=True),
        )

    def examples(self, count: int) -> list[Tensor]:
        return [self.steps.clock + 0.125 * torch.arange(count).to(self.steps.clock)[:, None]]

    def found(self, inputs: Sequence[Tensor], y0: State, values: Sequence[Tensor]) -> list[Tensor]:
        ends = []
        for clock in inputs[0].unbind():
            y0 = self.steps.again(clock, y0, values)[0]
            ends.append(y0)
        return [torch.stack(ends)]


def run_lengths(count: int, evaluations: int) -> list[int]:
    """The lengths of the runs into which `count` steps are split: at most two different ones, to compile few."""
    runs = -(-count // max(1, MOST_EVALUATIONS // evaluations))
    longest = -(-count // runs)
    whole, rest = divmod(count, longest)
    return [longest] * whole + ([rest] if rest else [])


def solve_in_runs(runs: Runs, values: Values, problem: Problem, plan: GridPlan) -> Solution:
    """The solution along the steps of a plan for the problem's times."""
    field, y0 = problem.field, problem.y0.contiguous()
    whole = runs.whole if torch.is_grad_enabled() else runs.whole_forward
    ys, *gains = _RunsSolve.apply(field, runs, plan, whole, y0, *values.tensors(field))
    qs = [torch.cat([torch.zeros_like(gain[:1]), gain.cumsum(0)])[plan.served] for gain in gains]
    return solution_along(plan.accepted_steps, ys, field.named(qs[0]) if qs else NONE)


class _RunsSolve(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, field: CountedField, runs: Runs, plan: GridPlan, whole: WholeRuns | None, y0: State, *values: Tensor
    ) -> tuple[Tensor, ...]:
        """States at the outputs, and the gains of integrals in each step if there are any."""
        theta = runs.packed.packing.pack(values)
        states, ys, gains = runs.take(plan, whole, y0, theta)
        ctx.field, ctx.runs, ctx.plan, ctx.inputs = field, runs, plan, (y0, *values)
        ctx.save_for_backward(states, theta)
        _enter(field, plan)
        return ys, *gains

    @staticmethod
    @first_order(OF_COMPILED_STEPS)
    def backward(ctx: Any, dys: Tensor, *dgains: Tensor) -> tuple[Tensor | None, ...]:
        plan, packed, (states, theta) = ctx.plan, ctx.runs.packed, ctx.saved_tensors
        dy, *of_gains = (d.contiguous() for d in (dys, *dgains))
        a, sums = ctx.runs.pull_back(plan, states, theta, dy, of_gains)
        _enter(ctx.field, plan)
        ctx.field.ledger.tally.accepted += len(plan.accepted_steps)
        fixed = len(packed.packing.sizes) - len(packed.learned.sizes)
        return None, None, None, None, a, *packed.learned.unpack(sums), *[None] * fixed


def _enter(field: CountedField, plan: GridPlan) -> None:
    field.ledger.tally.evaluations += plan.evaluations
    field.ledger.tally.products += plan.products
