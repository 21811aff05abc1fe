"""Adaptive solves in which every sample has its own steps, each as one call of machine code."""

import ctypes
from dataclasses import dataclass
from functools import cached_property, partial
from typing import final

import torch
from torch import Tensor

from ode_runner.compiling.c_code.graph import has_code
from ode_runner.compiling.each_steps import EachSteps
from ode_runner.compiling.one_call import NUMBER, POINTER, Control, OneCall, differentiable
from ode_runner.compiling.solves import CompiledSolve, check_lasting
from ode_runner.compiling.stepper import compilable, values_of
from ode_runner.errors import CannotCompile
from ode_runner.fields.ledger import EachSample, Tally
from ode_runner.problem import Problem, Solution
from ode_runner.solvers.base import Solver
from ode_runner.solvers.embedded import EmbeddedRungeKutta
from ode_runner.solvers.mapped_field import MappedField
from ode_runner.solvers.packed_field import PackedField
from ode_runner.types import State, Times, Trajectory

LANES = 64  # samples computed together: with fewer, matrix products are slower; with more, lanes idle at the end
MOST_GIVEN = 256  # numbers given to a sample, which are stored with its state
ROOM = 4096  # accepted steps for which memory is allocated at first
ACCEPTED, DENSE, NO_ROOM = 1, 2, -2  # as in each.c


@dataclass(frozen=True, kw_only=True)
class TakenEach:
    """What a solve saves for its backward pass."""

    times: Tensor  # float64
    states: Tensor  # (step, *state): the states at which accepted steps begin
    steps: Tensor  # (step, 4), float64: see each.c
    counts: Tensor  # (batch, 3), int64: accepted steps, attempts and the last step of each sample
    rounds: Tensor  # (attempts of the hardest sample,), uint8: see each.c


@final
class EachSolves(OneCall[TakenEach]):
    """Solves by compiled steps of each sample. If `solve` returns None, the caller solves eagerly."""

    steps: EachSteps

    def __init__(self, steps: EachSteps, solver: EmbeddedRungeKutta) -> None:
        super().__init__(steps)
        self.first, self.control = solver.first_step, Control.of(solver)
        self.sizes = {"LANES": len(steps.y0), "W": steps.y0[0].numel()}
        self.room = ROOM

    @cached_property
    def forward(self) -> ctypes.PyDLL | None:
        """`each.c`, compiled; None if an operation has no C code."""
        made = self.library(["begin", "slope_change", "step"], "control.c", "each.c", **self.sizes)
        if made is not None:
            made.solve_each.restype = NUMBER
            made.solve_each.argtypes = [
                POINTER,
                NUMBER,
                NUMBER,
                ctypes.c_double,
                *[POINTER] * 3,
                NUMBER,
                *[POINTER] * 7,
            ]
        return made

    def compiled_backward(self, *, dense: bool) -> ctypes.PyDLL | None:
        """`each_accepted.c`, compiled; None if an operation has no C code."""
        pieces = ["step_vjp", *["dense_step_vjp"] * dense]
        made = self.library(pieces, "each_accepted.c", DENSE=dense, **self.sizes)
        if made is not None:
            made.pull_back_each.restype = None
            made.pull_back_each.argtypes = [POINTER, NUMBER, NUMBER, *[POINTER] * 7]
        return made

    def solve(self, y0: State, ts: Times, theta: Tensor) -> tuple[Trajectory, TakenEach] | None:
        """States at `ts` from `y0`, contiguous; None if a sample fails or the C code does not handle a case."""
        assert self.forward is not None
        times, room = ts.to(torch.float64).contiguous(), self.room
        ys, slopes, sizes = y0.new_empty(len(times), *y0.shape), torch.empty_like(y0), times.new_empty(len(y0))
        states, steps = y0.new_empty(room, *y0.shape[1:]), times.new_empty(room, 4)
        counts, rounds = torch.empty(len(y0), 3, dtype=torch.int64), torch.zeros(room, dtype=torch.uint8)
        count = self.forward.solve_each(
            *(times.data_ptr(), len(times), len(y0), self.first or 0.0, ctypes.addressof(self.control)),
            *(y0.data_ptr(), theta.data_ptr(), room),
            *(x.data_ptr() for x in (states, steps, ys, slopes, sizes, counts, rounds)),
        )
        if count == NO_ROOM:
            self.room *= 4
            return self.solve(y0, ts, theta)
        if count < 0:
            return None
        rounds = rounds[: int(counts[:, 1].max())]
        return ys, TakenEach(
            times=times, states=states[:count].clone(), steps=steps[:count].clone(), counts=counts, rounds=rounds
        )

    def pull_back(self, taken: TakenEach, dys: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        made = self.backward(taken.times)
        assert made is not None
        a, sums = torch.empty_like(dys[0]), theta.new_empty(sum(self.steps.learned.sizes))
        begun = int((taken.times == taken.times[0]).cumprod(0).sum())
        given = taken.steps, taken.counts, taken.states, theta, dys, a, sums
        made.pull_back_each(taken.times.data_ptr(), begun, len(a), *(x.data_ptr() for x in given))
        return a, sums

    def kept(self, taken: TakenEach) -> list[Tensor]:
        return [taken.states]

    def enter_backward(self, tally: Tally, taken: TakenEach) -> None:
        accepted, dense = (int(((taken.rounds & flag) > 0).sum()) for flag in (ACCEPTED, DENSE))
        enter_steps_anew(self.steps, tally, taken.counts, accepted=accepted, dense=dense)


def checked_pair(solver: Solver, problem: Problem) -> EmbeddedRungeKutta:
    """The solver, if its steps along the field of a problem can be compiled for each sample by itself.

    Raises:
        CannotCompile: they cannot be.
    """
    field, y0, pair = problem.field, problem.y0, compilable(solver, each=True)
    assert isinstance(pair, EmbeddedRungeKutta)
    if not pair.tableau.first_same_as_last:
        raise CannotCompile("steps of each sample's own need a first-same-as-last pair, such as dopri5")
    if sum(z[0].numel() for z in field.given) > MOST_GIVEN:
        raise CannotCompile(f"steps of each sample's own are compiled with up to {MOST_GIVEN} given numbers per sample")
    check_lasting(problem)
    MappedField(field).check_declared(y0.new_tensor([0.125, 0.25]), y0.detach())
    return pair


def solution_of_each(
    steps: EachSteps, first: float | None, problem: Problem, ys: Trajectory, counts: Tensor
) -> Solution:
    """The solution with states `ys` of rows; adds its evaluations to the ledger.

    A batch counts as many evaluations as its hardest sample, because all samples are in the same calls. `counts`
    (batch, at least 2) has accepted steps and attempts of each sample; `first` is the solver's `first_step`.
    """
    accepted, attempts = counts[:, 0], counts[:, 1]
    evaluations = (1 if first else 2) + (len(steps.tableau.b) - 1) * attempts
    _enter(steps, problem.field.ledger.tally, int(evaluations.max()))
    each = EachSample(evaluations=evaluations, accepted=accepted, rejected=attempts - accepted, failures={})
    most_accepted, most_rejected = each.most_attempts()
    solution = Solution(ys=ys, accepted=most_accepted, rejected=most_rejected, each=each)
    return PackedField(problem.field, problem.y0).unpacked(solution)


def enter_steps_anew(steps: EachSteps, tally: Tally, counts: Tensor, *, accepted: int, dense: int) -> None:
    """Add to the ledger the evaluations of a backward pass, which recomputes accepted steps.

    In `accepted` rounds of attempts, some sample had an accepted step; in `dense`, one with outputs within it.
    """
    _enter(steps, tally, steps.tableau.stages * accepted + dense)
    tally.accepted += int(counts[int(counts[:, 1].argmax()), 0])  # of the sample that took most attempts


def _enter(steps: EachSteps, tally: Tally, evaluations: int) -> None:
    tally.evaluations += evaluations
    tally.products += evaluations * steps.products_each


def compile_each(solver: Solver, problem: Problem, *, eager: CompiledSolve) -> CompiledSolve:
    """A compiled solve for problems like this one.

    If there is a single output time, or a solve fails, `eager` solves.

    Raises:
        CannotCompile: the field or the solver does not allow it.
    """
    pair, field, y0 = checked_pair(solver, problem), problem.field, problem.y0
    values = values_of(problem)
    steps = EachSteps(pair, field, y0, values, lanes=min(LANES, len(y0)))
    if not all(has_code(*steps.piece(name)) for name in ("step", "dense_step_vjp")):
        raise CannotCompile("steps of each sample's own are compiled in C, and an operation of the field has no C code")
    return partial(_solve, EachSolves(steps, pair), steps, eager)


def _solve(each: EachSolves, steps: EachSteps, eager: CompiledSolve, problem: Problem) -> Solution:
    field, ts = problem.field, problem.ts
    if len(ts) == 1:
        return eager(problem)
    each.check_compiled(ts)
    found, y0 = steps.tensors(field), steps.begin_rows(field, problem.y0)
    theta = steps.packing.pack([value.detach() for value in found])
    solved = each.solve(y0.detach(), ts, theta)
    if solved is None:
        return eager(problem)
    ys, taken = solved
    ys = differentiable(each, field, taken, ys, theta, y0, found)
    return solution_of_each(steps, each.first, problem, ys, taken.counts)
