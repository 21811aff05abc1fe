"""Adaptive solves by steps that all samples share, each as one call of machine code."""

import ctypes
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import final

import torch
from torch import Tensor

from ode_runner.compiling.one_call import NUMBER, POINTER, Control, OneCall, differentiable
from ode_runner.compiling.steps import CompiledSteps
from ode_runner.compiling.values import Values
from ode_runner.fields.ledger import Tally
from ode_runner.problem import Problem, Solution
from ode_runner.solvers.embedded import AdaptiveRungeKutta
from ode_runner.solvers.one_step import AcceptedStep, solution_along
from ode_runner.types import State, Times, Trajectory

ROOM = 1000  # accepted steps for which memory is allocated; longer solves are made in Python


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What a solve saves for its backward pass."""

    times: Tensor  # float64
    states: Tensor  # (step, batch, *state): the states at which accepted steps begin
    steps: Tensor  # (step, 5), float64: see adaptive.c
    attempts: int

    @cached_property
    def accepted_steps(self) -> list[AcceptedStep]:
        return accepted_steps_of(self.times, self.steps)


def accepted_steps_of(times: Tensor, steps: Tensor) -> list[AcceptedStep]:
    """The accepted steps of a solve to these times, from the rows that C has written, (step, 5); see adaptive.c."""
    outputs, rows = times.tolist(), steps.tolist()
    ends = [1, *(int(row[4]) for row in rows)]
    return [
        AcceptedStep(t0=t0, t1=t1, due=outputs[begin:end], rejected=int(rejected), ahead=ahead)
        for (t0, t1, ahead, rejected, _), (begin, end) in zip(rows, pairwise(ends), strict=True)
    ]


@final
class WholeSolves(OneCall[Taken]):
    """Solves by compiled steps that all samples share. If `solve` returns None, Python takes the steps."""

    def __init__(self, steps: CompiledSteps, solver: AdaptiveRungeKutta) -> None:
        super().__init__(steps)
        self.control = Control.of(solver)
        self.states = steps.y0.new_empty(ROOM, *steps.y0.shape)
        self.rows = torch.empty(ROOM, 5, dtype=torch.float64)

    @staticmethod
    def of(steps: CompiledSteps) -> "WholeSolves | None":
        """The solves by these steps; None on a fixed grid, or if the pair's last stage is not the slope at the end."""
        solver = steps.solver
        if not isinstance(solver, AdaptiveRungeKutta) or not solver.tableau.first_same_as_last:
            return None
        return WholeSolves(steps, solver)

    @cached_property
    def forward(self) -> ctypes.PyDLL | None:
        """`adaptive.c`, compiled; None if an operation has no C code."""
        made = self.library(["begin", "slope_change", "step"], "control.c", "first_step.c", "adaptive.c")
        if made is not None:
            made.solve.restype = NUMBER
            made.solve.argtypes = [POINTER, NUMBER, ctypes.c_double, *[POINTER] * 3, NUMBER, *[POINTER] * 4]
        return made

    def compiled_backward(self, *, dense: bool) -> ctypes.PyDLL | None:
        """`accepted.c`, compiled; None if an operation has no C code."""
        pieces = ["step_vjp", *["dense_step_vjp"] * dense]
        made = self.library(pieces, "accepted.c", DENSE=dense)
        if made is not None:
            made.pull_back.restype = None
            made.pull_back.argtypes = [*[POINTER] * 2, NUMBER, *[POINTER] * 5]
        return made

    def solve(self, y0: State, ts: Times, theta: Tensor, *, first: float | None) -> tuple[Trajectory, Taken] | None:
        """States at `ts` from `y0`, contiguous; None if C gives up, for example on a failure: Python makes the message.

        `first` is the size of the first step; None: it is chosen, which takes one evaluation.
        """
        if self.forward is None:
            return None
        times, attempts = ts.to(torch.float64).contiguous(), ctypes.c_longlong()
        ys = y0.new_empty(len(times), *y0.shape)
        with self.lock:
            count = self.forward.solve(
                *(times.data_ptr(), len(times), first or 0.0, ctypes.addressof(self.control)),
                *(y0.data_ptr(), theta.data_ptr(), ROOM),
                *(x.data_ptr() for x in (self.states, self.rows, ys)),
                ctypes.addressof(attempts),
            )
            states, steps = self.states[: max(count, 0)].clone(), self.rows[: max(count, 0)].clone()
        if count < 0:
            return None
        return ys, Taken(times=times, states=states, steps=steps, attempts=attempts.value)

    def evaluations(self, taken: Taken, *, first: float | None) -> int:
        """The number of evaluations that `solve` has made."""
        return 1 + (first is None) + taken.attempts * (len(self.steps.tableau.b) - 1)

    def pull_back(self, taken: Taken, dys: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        made = self.backward(taken.times)
        assert made is not None
        a, sums = torch.empty_like(dys[0]), theta.new_empty(sum(self.steps.learned.sizes))
        inputs = (taken.states, theta, dys, a, sums)
        made.pull_back(
            taken.times.data_ptr(), taken.steps.data_ptr(), len(taken.steps), *(x.data_ptr() for x in inputs)
        )
        return a, sums

    def kept(self, taken: Taken) -> list[Tensor]:
        return [taken.states]

    def enter_backward(self, tally: Tally, taken: Taken) -> None:
        self.steps.enter_backward(tally, taken.accepted_steps)


def solve_whole(whole: WholeSolves, values: Values, problem: Problem, *, first: float | None) -> Solution | None:
    """A solve whose derivative, if needed, is that of its steps, which the backward pass recomputes.

    `first` is as in `WholeSolves.solve`.
    """
    field, y0, ts = problem.field, problem.y0.contiguous(), problem.ts
    if torch.is_grad_enabled() and whole.backward(ts) is None:
        return None
    found = values.tensors(field)
    theta = whole.steps.packing.pack([value.detach() for value in found])
    solved = whole.solve(y0.detach(), ts, theta, first=first)
    if solved is None:
        return None
    ys, taken = solved
    tally = field.ledger.tally
    tally.evaluations += whole.evaluations(taken, first=first)
    tally.products += whole.steps.products(taken.accepted_steps, back=False)
    return solution_along(taken.accepted_steps, differentiable(whole, field, taken, ys, theta, y0, found))
