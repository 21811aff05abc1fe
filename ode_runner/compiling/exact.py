"""Compiled solves whose derivative is that of their steps (discretize-then-optimize)."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from ode_runner.compiling.captured_solve import capture_exact
from ode_runner.compiling.each_solves import compile_each
from ode_runner.compiling.implicit_solves import compile_implicit
from ode_runner.compiling.integrals import solve_with_integrals
from ode_runner.compiling.runs import CompiledRuns, solve_in_runs
from ode_runner.compiling.solves import CompiledPiece, CompiledSolve
from ode_runner.compiling.stepper import check_pieces, first_step_of, stepping_by, steps_of
from ode_runner.compiling.steps import OF_COMPILED_STEPS, CompiledSteps
from ode_runner.compiling.stochastic_runs import compile_stochastic
from ode_runner.compiling.values import Values
from ode_runner.compiling.whole_solves import WholeSolves, solve_whole
from ode_runner.field import StochasticField
from ode_runner.fields.counted_field import CountedField
from ode_runner.problem import Problem, Solution
from ode_runner.solvers.base import Solver
from ode_runner.solvers.first_order import first_order
from ode_runner.solvers.implicit.diagonally_implicit import DiagonallyImplicit
from ode_runner.solvers.one_step import AcceptedStep, solution_along
from ode_runner.solvers.per_sample import PerSampleStepping
from ode_runner.solvers.stochastic import StochasticSolver
from ode_runner.types import State, Times, Trajectory


def compile_exact(
    solver: Solver, problem: Problem, *, keeps: bool, eager: CompiledSolve, fuses: bool = False
) -> CompiledSolve:
    """A compiled solve for problems like this one, whose derivative is that of its steps.

    Accepted steps are recomputed in the backward pass, as with `gradient=checkpoint` and with as many evaluations, so
    that only the initial state of each step is saved.

    Args:
        solver: the method.
        problem: an example of the problems.
        keeps: on a GPU, whether all that the backward pass needs is saved instead.
        eager: solves what the compiled code for implicit steps, or for steps of each sample's own, does not handle: no
            time between first and last output, or a failure, for which it produces the message.
        fuses: on a GPU, whether the field is compiled into fused kernels before steps are recorded.

    Raises:
        CannotCompile: the field or the solver does not allow it.
    """
    if isinstance(solver, StochasticSolver) and isinstance(problem.field, StochasticField):
        return compile_stochastic(solver, problem)
    if problem.y0.device.type == "cuda":
        return capture_exact(solver, problem, keeps=keeps, fuses=fuses)
    if isinstance(solver, PerSampleStepping) and solver.per_sample:
        return compile_each(solver, problem, eager=eager)
    if isinstance(solver, DiagonallyImplicit):
        return compile_implicit(solver, problem, eager=eager)
    steps, values = steps_of(solver, problem)
    solve = partial(_solve, steps, values, CompiledRuns(steps), WholeSolves.of(steps), solver)
    return partial(solve_with_integrals, solve) if problem.field.names else solve


def compile_exact_piece(solver: Solver, problem: Problem) -> CompiledPiece:
    """As `compile_exact`, for the solves of such a problem from break to break.

    Raises:
        CannotCompile: the field or the solver does not allow it.
    """
    check_pieces(solver, problem)
    steps, values = steps_of(solver, problem)
    return partial(_solve, steps, values, CompiledRuns(steps), WholeSolves.of(steps))


def _solve(
    steps: CompiledSteps,
    values: Values,
    runs: CompiledRuns,
    whole: WholeSolves | None,
    solver: Solver,
    problem: Problem,
) -> Solution:
    field, y0, ts, first = problem.field, problem.y0, problem.ts, first_step_of(solver)
    if len(ts) == 1:
        return steps.solver.solve(steps.around(field, y0), y0, ts)  # there is nothing to solve
    if (plan := runs.plan(ts)) is not None:
        return solve_in_runs(runs, values, problem, plan)
    if whole is not None and (found := solve_whole(whole, values, problem, first=first)) is not None:
        return found
    accepted_steps: list[AcceptedStep] = []  # filled by forward(), which can return only tensors
    ys = _ExactSolve.apply(field, steps, first, accepted_steps, y0.contiguous(), ts, *values.tensors(field))
    return solution_along(accepted_steps, ys)


class _ExactSolve(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        field: CountedField,
        steps: CompiledSteps,
        first: float | None,
        accepted_steps: list[AcceptedStep],
        y0: State,
        ts: Times,
        *values: Tensor,
    ) -> Trajectory:
        theta, ys, states = steps.packing.pack(values), [y0], []
        solver = stepping_by(steps, field.ledger, theta, first=first)
        for step in solver.steps(steps.around(field, y0), y0, ts):
            ys += solver.outputs(step)
            states.append(step.y0)
            accepted_steps.append(step.interval)
        field.ledger.tally.products += steps.products(accepted_steps, back=False)
        ctx.field, ctx.steps, ctx.accepted_steps = field, steps, accepted_steps
        ctx.inputs = (y0, *values)
        ctx.save_for_backward(torch.stack(states), theta)
        return torch.stack(ys)

    @staticmethod
    @first_order(OF_COMPILED_STEPS)
    def backward(ctx: Any, dys: Tensor) -> tuple[Tensor | None, ...]:
        steps, accepted_steps, (states, theta), dys = ctx.steps, ctx.accepted_steps, ctx.saved_tensors, dys.contiguous()
        clocks = states.new_tensor(
            [[interval.t0, interval.t1, interval.t1 - interval.t0] for interval in accepted_steps]
        )
        a, served = torch.zeros_like(dys[0]), len(dys)
        sums, fixed = theta.new_zeros(sum(steps.learned.sizes)), len(steps.packing.sizes) - len(steps.learned.sizes)
        for interval, clock, y0 in zip(
            reversed(accepted_steps), reversed(clocks.unbind()), reversed(states.unbind()), strict=True
        ):
            due = dys[served - len(interval.due) : served]
            served -= len(interval.due)
            if interval.dense:
                powers = dys.new_tensor(interval.powers())
                dcurve = (powers.t() @ due.flatten(1)).view(5, *a.shape)
                a, sums = steps.dense_step_vjp(clock, y0, a, dcurve, sums, theta)
            else:
                a, sums = steps.step_vjp(clock, y0, a + due.sum(0) if interval.due else a, sums, theta)
        steps.enter_backward(ctx.field.ledger.tally, accepted_steps)
        return None, None, None, None, a + dys[0], None, *steps.learned.unpack(sums), *[None] * fixed
