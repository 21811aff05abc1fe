"""The adjoint ODE, solved backwards in time: shared code of the modes that are not exact."""

import abc
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, final

import torch
from torch import Tensor

from ode_runner.devices.transfer import select_times
from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.field import StackedField, VectorField
from ode_runner.fields.counted_field import CountedField
from ode_runner.gradients.solve_rule import SolveRule, solve_by_rule
from ode_runner.gradients.vjp import field_vjp
from ode_runner.problem import Problem, Solution
from ode_runner.solvers.base import AdaptiveSolver, Solver
from ode_runner.solvers.initial_step import rms
from ode_runner.types import State, Time, Times, Trajectory


class AdjointEquation(VectorField):
    """The adjoint equation for the flat (y, a, g), where a = dL/dy and g accumulates dL/dtheta.

    The derivatives are f, -a df/dy and -a df/dtheta.
    """

    shape: torch.Size  # (batch, *state)
    of_integrals: Tensor | None = None  # (batch, integral): dL/dq; constant between two output times

    @final
    def split(self, flat: Tensor) -> tuple[State, State, Tensor]:
        """y, a and g from the flat adjoint state."""
        return split_adjoint(flat, self.shape)

    @abc.abstractmethod
    def gradients(self, g: Tensor) -> list[Tensor]:
        """dL/dtheta in the shapes of the parameters, from the flat `g`."""


def split_adjoint(flat: Tensor, shape: torch.Size) -> tuple[State, State, Tensor]:
    """y, a and g from a flat adjoint state; `shape` is that of y."""
    size = shape.numel()
    return flat[:size].view(shape), flat[size : 2 * size].view(shape), flat[2 * size :]


Adjoint = Callable[[CountedField, Sequence[Tensor], torch.Size], AdjointEquation]


def solve_with_adjoint(
    forward: Solver, backward: Solver, problem: Problem, *, adjoint: Adjoint | None = None
) -> Solution:
    """The solution at `ts`; its derivative comes from the adjoint ODE, solved by `backward`."""
    rule = AdjointRule(forward.solve, backward, adjoint or AdjointField)
    return solve_by_rule(rule, problem.field, problem.y0, problem.ts)


def check_a_use(solver: Solver, *, rtol: float | None, atol: float | None) -> None:
    """Raises RefusedInput if tolerances of the backward pass are invalid, or the solver has no step size control."""
    for name, value in (("rtol", rtol), ("atol", atol)):
        if value is not None and not 0 < value < math.inf:
            raise RefusedInput(f"gradient.{name} must be positive or null, not {value}.")
    if not isinstance(solver, AdaptiveSolver) and (rtol is not None or atol is not None):
        raise IncompatibleChoice(
            "gradient.rtol and gradient.atol need an adaptive solver; a fixed grid has no tolerance. "
            "Leave them null, or use solver=dopri5."
        )


def backward_solver(solver: Solver, blocks: tuple[int, ...], *, rtol: float | None, atol: float | None) -> Solver:
    """The solver of the backward pass: the same, with an error norm over the blocks of the flat adjoint state."""
    check_a_use(solver, rtol=rtol, atol=atol)
    if not issubclass(VectorField, solver.fields):
        raise IncompatibleChoice(
            f"{solver.shown_name} takes {solver.fields_in_words} alone, and an adjoint equation is none. "
            "Use gradient=backprop."
        )
    if not isinstance(solver, AdaptiveSolver):
        return solver
    return replace(solver, rtol=rtol or solver.rtol, atol=atol or solver.atol, norm=block_norm(blocks))


def warm_started(solver: Solver, solution: Solution) -> Solver:
    """The solver for the next interval of a backward pass; step control goes on with the last step size."""
    if isinstance(solver, AdaptiveSolver) and solution.next_step is not None:
        return replace(solver, first_step=solution.next_step)
    return solver


def block_norm(sizes: tuple[int, ...]) -> Any:
    """Error norm of a flat state: the largest root mean square of its blocks of these sizes; the rest is ignored."""

    def norm(flat: Tensor) -> Tensor:
        blocks = flat[: sum(sizes)].split(sizes)
        return torch.stack([rms(block) for block in blocks if block.numel()]).max()

    return norm


def block_sizes(field: VectorField, y0: State) -> tuple[int, int, int]:
    """The numbers of elements of the state, its adjoint and the parameter integral in the flat adjoint state."""
    return y0.numel(), y0.numel(), sum(p.numel() for p in field.parameters() if p.requires_grad)


def adjoint_slopes(
    field: CountedField, t: Time, y: State, a: State, c: Tensor | None, parameters: Sequence[Tensor]
) -> tuple[State, Tensor]:
    """f(t, y), and the flat (-a df/dy - c dg/dy, -a df/dtheta - c dg/dtheta), where c = dL/dq for integrals q of g.

    This is the generalised adjoint. The integrals themselves are not solved backwards, because nothing depends on them.

    Massaroli, Poli, Park, Yamashita, Asama. Dissecting Neural ODEs. NeurIPS 2020.
    """
    with torch.enable_grad():
        y, t = y.detach().requires_grad_(), t.detach()
        dy = field(t, y)
        parts = field_vjp(field, t, y, dy, [y, *parameters], -a, None if c is None else -c)
    return dy.detach(), torch.cat([part.reshape(-1) for part in parts])


def split_like(flat: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """A flat gradient, split into the parameters' shapes."""
    return [part.view_as(p) for part, p in zip(flat.split([p.numel() for p in parameters]), parameters, strict=True)]


def enter(field: CountedField, solution: Solution) -> None:
    """Count the steps of a backward solve in the field's ledger."""
    field.ledger.tally.enter(solution.accepted, solution.rejected, solution.smallest_step)


@final
class AdjointRule(SolveRule):
    """A forward solve by any means, and the adjoint ODE backwards.

    Chen, Rubanova, Bettencourt, Duvenaud. Neural Ordinary Differential Equations. NeurIPS 2018, Algorithm 1.
    """

    def __init__(
        self, forward: Callable[[CountedField, State, Times], Solution], backward: Solver, adjoint: Adjoint
    ) -> None:
        self.forward, self.backward, self.adjoint = forward, backward, adjoint

    def solve(self, field: CountedField, y0: State, ts: Times) -> tuple[Solution, Sequence[Tensor]]:
        solution = self.forward(field, y0, ts)
        self.ts = _reached(ts, solution)
        return solution, [solution.ys]

    def pull_back(
        self, field: CountedField, kept: Sequence[Tensor], parameters: Sequence[Tensor], dys: Tensor, dqs: Tensor
    ) -> tuple[Tensor, Sequence[Tensor]]:
        [ys] = kept
        adjoint = self.adjoint(field, parameters, ys.shape[1:])
        g = ys.new_zeros(sum(p.numel() for p in parameters))
        a, g = solve_back(self.backward, field, adjoint, self.ts, ys, dys, dqs, g)
        return a, adjoint.gradients(g)


def solve_back(
    solver: Solver,
    field: CountedField,
    adjoint: AdjointEquation,
    ts: Times,
    ys: Trajectory,
    dys: Tensor,
    dqs: Tensor,
    g: Tensor,
) -> tuple[Tensor, Tensor]:
    """dL/dy0, and `g` plus dL/dtheta, from dL/dy (`dys`) and dL/dq (`dqs`) at the times."""
    a, c = dys[-1], torch.zeros_like(dqs[0])
    for i in range(len(ts) - 1, 0, -1):
        # The state restarts from its stored value, so the error of reversing it never spans two intervals.
        flat = torch.cat([ys[i].reshape(-1), a.reshape(-1), g])
        if field.names:
            adjoint.of_integrals = c = c + dqs[i]
        solution = solver.solve(adjoint, flat, select_times(ts, [i, i - 1]))
        solver = warm_started(solver, solution)
        enter(field, solution)
        _, a, g = adjoint.split(solution.ys[-1])
        a = a + dys[i - 1]
    return a, g


def _reached(ts: Times, solution: Solution) -> Times:
    """The times of the outputs: the same tensor, whose values are cached; or those up to an event, and its time."""
    if solution.stop is None:
        return ts
    return torch.cat([ts[: len(solution.ys) - 1], solution.stop.times.to(ts)])


@final
class AdjointField(AdjointEquation, StackedField):
    """The adjoint equation, evaluated by the field and autograd."""

    def __init__(self, field: CountedField, parameters: Sequence[Tensor], shape: torch.Size) -> None:
        super().__init__()
        self.field = field
        self.wanted = parameters
        self.shape, self.copies = shape, 2

    def gradients(self, g: Tensor) -> list[Tensor]:
        return split_like(g, self.wanted)

    def forward(self, t: Time, y: State) -> State:
        y, a, _ = self.split(y)
        dy, slopes = adjoint_slopes(self.field, t, y, a, self.of_integrals, self.wanted)
        return torch.cat([dy.reshape(-1), slopes])
