"""The adjoint method with compiled steps, forwards and backwards."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, final

import torch
from torch import Tensor
from torch.func import vjp

from ode_runner.compiling.integrals import products_at, solve_with_integrals
from ode_runner.compiling.packing import Packing
from ode_runner.compiling.solves import CompiledPiece, CompiledSolve
from ode_runner.compiling.stepper import (
    CompiledStepper,
    check_pieces,
    compilable,
    first_step_of,
    stepping_by,
    steps_of,
    with_first_step,
)
from ode_runner.compiling.steps import CompiledSteps
from ode_runner.compiling.values import Values
from ode_runner.compiling.whole_adjoint import WholeAdjoint
from ode_runner.compiling.whole_solves import WholeSolves
from ode_runner.field import VectorField
from ode_runner.fields.counted_field import CountedField
from ode_runner.fields.ledger import Ledger
from ode_runner.gradients.captured_adjoint import capture_adjoint
from ode_runner.gradients.continuous import (
    AdjointEquation,
    AdjointRule,
    adjoint_slopes,
    solve_back,
    split_adjoint,
    split_like,
)
from ode_runner.gradients.solve_rule import solve_by_rule
from ode_runner.problem import Problem, Solution
from ode_runner.solvers.base import Solver
from ode_runner.solvers.first_order import OF_A_SOLVE, first_order
from ode_runner.solvers.one_step import Gathered, RungeKutta, solution_along
from ode_runner.solvers.packed_field import PackedField
from ode_runner.types import State, Time, Times, Trajectory


def compile_adjoint(forward: Solver, backward: Solver, problem: Problem, *, fuses: bool = False) -> CompiledSolve:
    """A solve and the solve of its adjoint equation by compiled (on a GPU: recorded) steps, for problems like this one.

    On a GPU, `fuses` compiles the field into fused kernels first.

    Raises:
        CannotCompile: the field or the solver cannot be compiled.
    """
    if problem.y0.device.type == "cuda":
        return capture_adjoint(forward, backward, problem, fuses=fuses)
    return partial(_compiled(forward, backward, problem), forward)


def compile_adjoint_piece(forward: Solver, backward: Solver, problem: Problem) -> CompiledPiece:
    """As `compile_adjoint`, on a CPU, for the solves of such a problem from break to break.

    Raises:
        CannotCompile: the field or the solver cannot be compiled.
    """
    check_pieces(forward, problem)
    return _compiled(forward, backward, problem)


def _compiled(forward: Solver, backward: Solver, problem: Problem) -> CompiledPiece:
    forward_steps, values = steps_of(forward, problem)
    found = [value.detach() for value in values.tensors(problem.field)]
    field, y0 = problem.field, problem.y0.detach()
    flat = torch.cat([part.reshape(-1) for part in (y0, torch.ones_like(y0), *found[: values.learned])])
    of_integrals = [y0.new_ones(len(y0) * len(field.names))] if field.names else []
    equation = _Slopes(values, field, y0)
    backward_steps = CompiledSteps(
        compilable(backward), equation, flat, [*found, *of_integrals], learned=values.learned
    )
    backward_steps.products_each = products_at(field, y0) if field.names else 0
    adjoint = WholeAdjoint.of(backward_steps, y0.numel(), integrals=sum(c.numel() for c in of_integrals))
    return partial(_solve, values, forward_steps, backward_steps, (WholeSolves.of(forward_steps), adjoint))


def _solve(
    values: Values,
    forward_steps: CompiledSteps,
    backward_steps: CompiledSteps,
    whole: tuple[WholeSolves | None, WholeAdjoint | None],
    solver: Solver,
    problem: Problem,
) -> Solution:
    field, first = problem.field, first_step_of(solver)
    theta = forward_steps.packing.pack([value.detach() for value in values.tensors(field)])
    if whole[0] is not None and whole[1] is not None and len(problem.ts) > 1:
        solution = solve_whole_adjoint(whole[0], whole[1], backward_steps, problem, theta, first=first)
        if solution is not None:
            return solution
    rule = AdjointRule(
        partial(_solve_forward, forward_steps, theta, first),
        stepping_back(backward_steps, field.ledger, theta, first=first),
        partial(_PackedAdjoint, forward_steps.learned),
    )
    return solve_by_rule(rule, field, problem.y0.contiguous(), problem.ts)


def _solve_forward(
    forward_steps: CompiledSteps, theta: Tensor, first: float | None, field: CountedField, y0: State, ts: Times
) -> Solution:
    """The forward solve, with a loop over steps in Python."""
    solver = stepping_by(forward_steps, field.ledger, theta, first=first)
    if not field.names:
        return solver.solve(field, y0, ts)

    def solve(packed: Problem) -> Solution:
        along = forward_steps.around(packed.field, packed.y0)
        gathered = Gathered(solver, along, packed.y0)
        for step in solver.steps(along, packed.y0, ts):
            gathered.add(step)
        field.ledger.tally.products += forward_steps.products(gathered.accepted_steps, back=False)
        return gathered.solution()

    return solve_with_integrals(solve, Problem(field=field, y0=y0, ts=ts))


def stepping_back(backward_steps: CompiledSteps, ledger: Ledger, theta: Tensor, *, first: float | None) -> RungeKutta:
    """The solver of the adjoint equation; its values are theta, followed by dL/dq if there are integrals."""

    def stepper(adjoint: VectorField) -> CompiledStepper:
        assert isinstance(adjoint, AdjointEquation)
        c = adjoint.of_integrals
        return CompiledStepper(
            backward_steps, adjoint, ledger, theta if c is None else torch.cat([theta, c.reshape(-1)])
        )

    return replace(with_first_step(backward_steps.solver, first), stepping=stepper)


def solve_whole_adjoint(
    forward: WholeSolves,
    backward: WholeAdjoint,
    backward_steps: CompiledSteps,
    problem: Problem,
    theta: Tensor,
    *,
    first: float | None,
) -> Solution | None:
    """The solve and that of the adjoint equation, each as one call of machine code; None: use the loops in Python."""
    field, y0 = problem.field, problem.y0.contiguous()
    if backward.library is None:
        return None
    rows = PackedField(field, y0) if field.names else None  # making it costs more than a small step
    begin = y0.detach() if rows is None else rows.begin(y0.detach())
    solved = forward.solve(begin, problem.ts, theta, first=first)
    if solved is None:
        return None
    ys, taken = solved
    accepted_steps, tally = taken.accepted_steps, field.ledger.tally
    tally.evaluations += forward.evaluations(taken, first=first)
    tally.products += forward.steps.products(accepted_steps, back=False)
    qs = ys.new_zeros(len(ys), 0)
    if rows is not None:
        ys, qs = rows.state(ys).contiguous(), ys[..., rows.width :].contiguous()
    inputs = (taken.times, first, theta, ys, qs, y0, *field.inputs())
    ys, qs = _WholeAdjointSolve.apply(field, backward, backward_steps, *inputs)
    return solution_along(accepted_steps, ys, field.named(qs))


class _WholeAdjointSolve(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        field: CountedField,
        backward: WholeAdjoint,
        backward_steps: CompiledSteps,
        times: Tensor,
        first: float | None,
        theta: Tensor,
        ys: Trajectory,
        qs: Tensor,
        y0: State,
        *inputs: Tensor,
    ) -> tuple[Trajectory, Tensor]:
        ctx.field, ctx.whole, ctx.backward_steps, ctx.times, ctx.first = field, backward, backward_steps, times, first
        ctx.inputs = (y0, *inputs)
        ctx.save_for_backward(ys, theta)
        return ys, qs

    @staticmethod
    @first_order(OF_A_SOLVE)
    def backward(ctx: Any, dys: Tensor, dqs: Tensor) -> tuple[Tensor | None, ...]:
        field, backward_steps, (ys, theta) = ctx.field, ctx.backward_steps, ctx.saved_tensors
        found = ctx.whole.solve_back(ctx.times, ys, dys.contiguous(), dqs.contiguous(), theta, first=ctx.first)
        if found is None:  # the loop in Python will find the reason
            adjoint = _PackedAdjoint(backward_steps.learned, field, field.leaves(), ys.shape[1:])
            g = theta.new_zeros(sum(backward_steps.learned.sizes))
            solver = stepping_back(backward_steps, field.ledger, theta, first=ctx.first)
            a, g = solve_back(solver, field, adjoint, ctx.times, ys, dys, dqs, g)
        else:
            a, g, tally = found
            field.ledger.tally.evaluations += tally.evaluations
            field.ledger.tally.products += tally.evaluations * backward_steps.products_each
            field.ledger.tally.enter(tally.accepted, tally.rejected, tally.smallest)
        return *[None] * 8, a, *backward_steps.learned.unpack(g)


@final
class _PackedAdjoint(AdjointEquation):
    """The adjoint equation, with g in the layout of compiled steps."""

    def __init__(self, packing: Packing, field: CountedField, parameters: Sequence[Tensor], shape: torch.Size) -> None:
        super().__init__()
        self.packing, self.field, self.wanted, self.shape = packing, field, parameters, shape

    def gradients(self, g: Tensor) -> list[Tensor]:
        return self.packing.unpack(g)

    def forward(self, t: Time, y: State) -> State:
        """The eager evaluation, for operations without compiled code."""
        y, a, _ = self.split(y)
        dy, slopes = adjoint_slopes(self.field, t, y, a, self.of_integrals, self.wanted)
        da, of_values = slopes[: a.numel()], slopes[a.numel() :]
        return torch.cat([dy.reshape(-1), da, self.packing.pack(split_like(of_values, self.wanted))])


@final
class _Slopes:
    """The adjoint equation as a function of its values, too, the last of which is dL/dq if there are integrals.

    The state is that of `AdjointEquation`, with g in the layout of compiled steps.
    """

    def __init__(self, values: Values, field: CountedField, y0: State) -> None:
        self.shape, self.learned, self.integrals = y0.shape, values.learned, len(field.names)
        self.equation, self.rated = values.equation(field), values.slope_and_rates(field)

    def __call__(self, t: Time, flat: Tensor, values: Sequence[Tensor]) -> Tensor:
        y, a, _ = split_adjoint(flat, self.shape)
        learned, fixed = values[: self.learned], values[self.learned :]
        cotangents: Tensor | tuple[Tensor, Tensor] = -a
        if self.integrals:
            found = vjp(lambda y, *some: self.rated(t, y, [*some, *fixed[:-1]]), y, *learned)
            dy, cotangents = found[0][0], (-a, -fixed[-1].view(len(y), self.integrals))
        else:
            found = vjp(lambda y, *some: self.equation(t, y, [*some, *fixed]), y, *learned)
            dy = found[0]
        da, *parts = found[1](cotangents)
        return torch.cat([dy.reshape(-1), da.reshape(-1), Packing(learned).pack(parts)])
