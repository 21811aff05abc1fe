"""Solves by diagonally implicit steps, each as one call of machine code."""

import abc
import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise
from typing import Any, final

import torch
from torch import Tensor
from torch.func import vjp

from ode_runner.compiling.c_code.graph import Function, has_code
from ode_runner.compiling.one_call import NUMBER, POINTER, Control, OneCall, differentiable
from ode_runner.compiling.solves import CompiledSolve
from ode_runner.compiling.stepper import check_repeated, values_of
from ode_runner.compiling.steps import CompiledSteps
from ode_runner.compiling.values import Values
from ode_runner.compiling.whole_solves import ROOM, accepted_steps_of
from ode_runner.errors import CannotCompile
from ode_runner.field import KnownJacobian
from ode_runner.fields.ledger import Tally
from ode_runner.problem import Problem, Solution
from ode_runner.solvers.implicit.diagonally_implicit import AdaptiveImplicit, DiagonallyImplicit, FixedImplicit
from ode_runner.solvers.one_step import AcceptedStep, solution_along
from ode_runner.solvers.tableau import EmbeddedTableau
from ode_runner.types import State, Time, Times, Trajectory

LARGEST = 32  # numbers of a sample: for larger matrices, LAPACK in eager solves factorises faster than these loops


@final
class ImplicitSteps(CompiledSteps):
    """The parts of diagonally implicit steps: slopes, Jacobians of all samples, and the backward pass of a slope."""

    def piece(self, name: str) -> tuple[Function, list[Tensor]]:
        t = self.clock[1].clone()
        if name == "jacobian":
            return self._jacobian, [t, self.y0, self.theta]
        if name == "slope_vjp":
            return self._slope_vjp, [t, self.y0, self.noise(), self.sums(), self.theta]
        return super().piece(name)

    def _jacobian(self, t: Time, y: State, theta: Tensor) -> list[Tensor]:
        """df/dy, (batch, element, element); samples must not interact."""
        values, size = self.packing.unpack(theta), y[0].numel()
        pull = vjp(lambda y: self.equation(t, y, values), y)[1]
        units = torch.eye(size, dtype=y.dtype).view(size, 1, *y.shape[1:]).expand(size, *y.shape)
        rows = [pull(unit.contiguous())[0].reshape(len(y), size) for unit in units.unbind()]
        return [torch.stack(rows, dim=1)]

    def _slope_vjp(self, t: Time, y: State, cotangent: Tensor, sums: Tensor, theta: Tensor) -> list[Tensor]:
        return self.field_vjp(lambda y, values: self.equation(t, y, values), y, cotangent, sums, theta)


@dataclass(frozen=True, kw_only=True)
class TakenImplicit:
    """What a solve saves for its backward pass."""

    times: Tensor  # float64
    accepted_steps: list[AcceptedStep]
    steps: Tensor  # (step, 5), float64: see adaptive.c
    states: Tensor  # (step + 1, batch, *state): the beginnings of steps, and the end of the last
    stages: Tensor  # (step, stage, batch, *state): the states at stages


class ImplicitSolves(OneCall[TakenImplicit]):
    """Solves by compiled implicit steps. If `solve` returns None, the caller solves eagerly."""

    slopes: bool  # whether results depend on slopes at the ends of steps

    def __init__(self, steps: ImplicitSteps, solver: DiagonallyImplicit, *, products: int) -> None:
        super().__init__(steps)
        self.tableau, self.products = solver.tableau, products  # of a Jacobian
        self.implicit = sum(bool(row[-1]) for row in self.tableau.a)
        self.sizes = {"BATCH": len(steps.y0), "W": steps.y0[0].numel()}
        self.work = torch.zeros(2, dtype=torch.int64)  # evaluations and Jacobians of the last solve

    @abc.abstractmethod
    def solve(self, y0: State, ts: Times, theta: Tensor) -> tuple[Trajectory, TakenImplicit] | None:
        """States at `ts` from `y0`, contiguous; None if a solve fails in C."""

    def compiled_backward(self, *, dense: bool) -> ctypes.PyDLL | None:
        """`implicit_accepted.c`, compiled; None if an operation has no C code."""
        del dense
        sizes = self.sizes | {"SLOPES": self.slopes}
        made = self.library(["jacobian", "slope_vjp"], "stages.c", "implicit_accepted.c", **sizes)
        if made is not None:
            made.pull_back.restype = None
            made.pull_back.argtypes = [POINTER, POINTER, NUMBER, *[POINTER] * 6]
        return made

    def constants(self) -> str:
        tableau = self.tableau
        triangle = [[*row, *[0.0] * (len(tableau.a) - len(row))] for row in tableau.a]
        found = {"A[STAGES][STAGES]": triangle, "C[STAGES]": tableau.c, "B[STAGES]": tableau.b}
        found["QUARTIC[STAGES + 1][4]"] = tableau.dense.quartic
        if isinstance(tableau, EmbeddedTableau):
            found["B_ERROR[STAGES]"] = tableau.b_error
        return "\n".join(f"static const double {name} = {_in_c(values)};" for name, values in found.items())

    def pull_back(self, taken: TakenImplicit, dys: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        made = self.backward(taken.times)
        assert made is not None
        a, sums = torch.empty_like(dys[0]), theta.new_empty(sum(self.steps.learned.sizes))
        given = taken.states, taken.stages, theta, dys, a, sums
        made.pull_back(
            *(taken.times.data_ptr(), taken.steps.data_ptr(), len(taken.steps)), *(x.data_ptr() for x in given)
        )
        return a, sums

    def enter_solve(self, tally: Tally) -> None:
        evaluations, jacobians = self.work.tolist()
        tally.evaluations += evaluations
        tally.products += jacobians * self.products

    def kept(self, taken: TakenImplicit) -> list[Tensor]:
        return [taken.states, taken.stages]

    def enter_backward(self, tally: Tally, taken: TakenImplicit) -> None:
        """Counts two evaluations and a Jacobian for each implicit stage, and an evaluation for each slope."""
        count = len(taken.steps)
        tally.evaluations += 2 * self.implicit * count + (count + 1 if self.slopes else 0)
        tally.products += self.implicit * count * self.products
        tally.accepted += count


@final
class AdaptiveImplicitSolves(ImplicitSolves):
    """Solves with step size control."""

    slopes = True

    def __init__(self, steps: ImplicitSteps, solver: AdaptiveImplicit, *, products: int) -> None:
        super().__init__(steps, solver, products=products)
        self.solver, self.control = solver, Control.of(solver)
        self.states = steps.y0.new_empty(ROOM, *steps.y0.shape)
        self.stages = steps.y0.new_empty(ROOM, len(self.tableau.a), *steps.y0.shape)
        self.rows = torch.empty(ROOM, 5, dtype=torch.float64)

    @cached_property
    def forward(self) -> ctypes.PyDLL | None:
        drivers = ("control.c", "first_step.c", "stages.c", "newton.c", "implicit.c", "adaptive_implicit.c")
        made = self.library(["begin", "slope_change", "slope", "jacobian"], *drivers, **self.sizes)
        if made is not None:
            real = ctypes.c_double
            made.solve_implicit.restype = NUMBER
            made.solve_implicit.argtypes = [POINTER, NUMBER, real, POINTER, real, real, *[POINTER] * 2, NUMBER]
            made.solve_implicit.argtypes += [*[POINTER] * 5, NUMBER]
        return made

    def solve(self, y0: State, ts: Times, theta: Tensor) -> tuple[Trajectory, TakenImplicit] | None:
        assert self.forward is not None
        times, solver = ts.to(torch.float64).contiguous(), self.solver
        ys = y0.new_empty(len(times), *y0.shape)
        found = self.states, self.stages, self.rows, ys, self.work
        with self.lock:
            count = self.forward.solve_implicit(
                *(times.data_ptr(), len(times), solver.first_step or 0.0, ctypes.addressof(self.control)),
                *(solver.rtol, solver.atol, y0.data_ptr(), theta.data_ptr(), ROOM, *(x.data_ptr() for x in found)),
                torch.is_grad_enabled() or solver.exactly,
            )
            kept = zip(found[:3], (1, 0, 0), strict=True)
            states, stages, steps = (x[: max(count, 0) + more].clone() for x, more in kept)
        if count < 0:
            return None
        accepted_steps = accepted_steps_of(times, steps)
        return ys, TakenImplicit(times=times, accepted_steps=accepted_steps, steps=steps, states=states, stages=stages)


@final
class FixedImplicitSolves(ImplicitSolves):
    """Solves on a fixed grid, whose steps end on all output times."""

    def __init__(self, steps: ImplicitSteps, solver: FixedImplicit, *, products: int) -> None:
        super().__init__(steps, solver, products=products)
        self.solver, self.slopes = solver, not self.tableau.a[0][0]

    @cached_property
    def forward(self) -> ctypes.PyDLL | None:
        made = self.library(
            ["slope", "jacobian"], "stages.c", "newton.c", "implicit.c", "fixed_implicit.c", **self.sizes
        )
        if made is not None:
            made.take_grid.restype = NUMBER
            made.take_grid.argtypes = [POINTER, NUMBER, *[POINTER] * 4]
        return made

    def solve(self, y0: State, ts: Times, theta: Tensor) -> tuple[Trajectory, TakenImplicit] | None:
        assert self.forward is not None
        grids = self.solver.grids(ts)
        pairs = [(t0, t1, t1 == grid[-1]) for grid in grids for t0, t1 in pairwise(grid)]
        accepted_steps = [AcceptedStep(t0=t0, t1=t1, due=[t1] if due else []) for t0, t1, due in pairs]
        served = torch.tensor([0, *(k for k, (_, _, due) in enumerate(pairs, start=1) if due)])
        clock = torch.tensor([pairs[0][0], *(t1 for _, t1, _ in pairs)], dtype=torch.float64)
        states = y0.new_empty(len(clock), *y0.shape)
        stages = y0.new_empty(len(pairs), len(self.tableau.a), *y0.shape)
        states[0] = y0
        found = clock, theta, states, stages, self.work
        if not self.forward.take_grid(found[0].data_ptr(), len(clock), *(x.data_ptr() for x in found[1:])):
            return None
        done = 1 + torch.tensor([due for _, _, due in pairs]).cumsum(0).double()
        nothing = torch.zeros_like(done)
        steps = torch.stack([clock[:-1], clock[1:], nothing, nothing, done], dim=1)
        times = clock[served]
        return states[served], TakenImplicit(
            times=times, accepted_steps=accepted_steps, steps=steps, states=states, stages=stages
        )


def compile_implicit(solver: DiagonallyImplicit, problem: Problem, *, eager: CompiledSolve) -> CompiledSolve:
    """A compiled solve for problems like this one.

    If there is no time between first and last output, or a solve fails, `eager` solves.

    Raises:
        CannotCompile: the field or the solver does not allow it.
    """
    field, y0, values = problem.field, problem.y0, values_of(problem)
    check_repeated(solver, AdaptiveImplicit if isinstance(solver, AdaptiveImplicit) else FixedImplicit)
    if field.names:
        raise CannotCompile(
            f"implicit steps along which something is integrated ({', '.join(field.names)}) have no compiled form"
        )
    if y0[0].numel() > LARGEST:
        raise CannotCompile(f"implicit steps are compiled for states of up to {LARGEST} numbers a sample")
    found = values.tensors(field)
    steps = ImplicitSteps(solver, values.equation(field), y0, found, learned=values.learned)
    if not all(has_code(*steps.piece(name)) for name in ("jacobian", "slope_vjp")):
        raise CannotCompile("implicit steps are compiled in C, and an operation of the field has no C code")
    products = 0 if isinstance(field, KnownJacobian) else y0[0].numel()
    if isinstance(solver, AdaptiveImplicit):
        return partial(_solve, AdaptiveImplicitSolves(steps, solver, products=products), values, eager)
    assert isinstance(solver, FixedImplicit)
    return partial(_solve, FixedImplicitSolves(steps, solver, products=products), values, eager)


def _solve(implicit: ImplicitSolves, values: Values, eager: CompiledSolve, problem: Problem) -> Solution:
    field, y0, ts = problem.field, problem.y0.contiguous(), problem.ts
    if bool((ts == ts[0]).all()):
        return eager(problem)
    implicit.check_compiled(ts)
    found = values.tensors(field)
    theta = implicit.steps.packing.pack([value.detach() for value in found])
    solved = implicit.solve(y0.detach(), ts, theta)
    if solved is None:
        return eager(problem)
    ys, taken = solved
    implicit.enter_solve(field.ledger.tally)
    return solution_along(taken.accepted_steps, differentiable(implicit, field, taken, ys, theta, y0, found))


def _in_c(values: Any) -> str:
    """Numbers, and rows of numbers, as initialisers in C."""
    return f"{{{', '.join(map(_in_c, values))}}}" if isinstance(values, Sequence) else float(values).hex()
