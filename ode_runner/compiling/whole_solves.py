"""Adaptive solves, and the ways back along their steps, as one call of machine code each."""

import ctypes
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, final

import torch
from torch import Tensor

from ode_runner.compiling.c_loops import TYPES
from ode_runner.compiling.graph import compile_library
from ode_runner.compiling.steps import OF_COMPILED_STEPS, CompiledSteps
from ode_runner.compiling.values import Values
from ode_runner.counted_field import CountedField
from ode_runner.problem import Problem, Solution
from ode_runner.solvers.embedded import AdaptiveRungeKutta
from ode_runner.solvers.first_order import first_order
from ode_runner.solvers.one_step import AcceptedStep, solution_along
from ode_runner.solvers.step_control import FILTERS
from ode_runner.types import State, Times, Trajectory

POINTER, NUMBER = ctypes.c_void_p, ctypes.c_longlong
ROOM = 1000  # accepted steps for which there is memory; Python takes more


class Taken(NamedTuple):
    """What a solve has come to."""

    times: Tensor  # float64
    states: Tensor  # (step, batch, *state): where each accepted step begins
    steps: Tensor  # (step, 5), float64: see adaptive.c
    attempts: int

    def places(self) -> list[AcceptedStep]:
        """The accepted steps."""
        times, rows = self.times.tolist(), self.steps.tolist()
        ends = [1, *(int(row[4]) for row in rows)]
        return [
            AcceptedStep(t0=t0, t1=t1, due=times[begin:end], rejected=int(rejected), ahead=ahead)
            for (t0, t1, ahead, rejected, _), (begin, end) in zip(rows, pairwise(ends), strict=True)
        ]


@final
class WholeSolves:
    """Those by certain steps; Python takes these where None is returned.

    Each is compiled when it is first wanted.
    """

    def __init__(self, steps: CompiledSteps, solver: AdaptiveRungeKutta) -> None:
        self.steps, self.first, self.control = steps, solver.first_step, _Control.of(solver)
        self._ways_back: dict[bool, ctypes.PyDLL | None] = {}  # by whether outputs may lie within steps
        self.states = steps.y0.new_empty(ROOM, *steps.y0.shape)
        self.rows = torch.empty(ROOM, 5, dtype=torch.float64)

    @staticmethod
    def of(steps: CompiledSteps) -> "WholeSolves | None":
        """None for steps of a fixed grid, and those of a pair whose last stage is not the slope at their end."""
        solver = steps.solver
        if not isinstance(solver, AdaptiveRungeKutta) or not solver.tableau.first_same_as_last:
            return None
        return WholeSolves(steps, solver)

    @cached_property
    def forward(self) -> ctypes.PyDLL | None:
        """`adaptive.c`; None where something has no C code."""
        made = self.library(["begin", "bend", "step"], "adaptive.c")
        if made is not None:
            made.solve.restype = NUMBER
            made.solve.argtypes = [POINTER, NUMBER, ctypes.c_double, *[POINTER] * 3, NUMBER, *[POINTER] * 4]
        return made

    def way_back(self, ts: Times) -> ctypes.PyDLL | None:
        """`accepted.c` for solves with outputs at so many times; None where something has no C code."""
        dense = len(ts) > 2 or True in self._ways_back
        if dense not in self._ways_back:
            pieces = ["step_vjp", *["dense_step_vjp"] * dense]
            made = self._ways_back[dense] = self.library(pieces, "accepted.c", DENSE=dense)
            if made is not None:
                made.pull_back.restype = None
                made.pull_back.argtypes = [*[POINTER] * 2, NUMBER, *[POINTER] * 5]
        return self._ways_back[dense]

    def library(self, pieces: Sequence[str], *drivers: str, **sizes: int) -> ctypes.PyDLL | None:
        """Pieces of the steps, and files of C code that calls them, with names for numbers in it."""
        steps = self.steps
        sizes |= {"N": steps.y0.numel(), "LEARNED": sum(steps.learned.sizes), "STAGES": len(steps.tableau.b)}
        names = [f"#define {name} {int(size)}" for name, size in sizes.items()]
        code = [Path(__file__).with_name(driver).read_text(encoding="utf-8") for driver in drivers]
        functions = {name: steps.piece(name) for name in pieces}
        return compile_library(functions, "\n".join([f"typedef {TYPES[steps.y0.dtype]} R;", *names, *code]))

    def solve(self, y0: State, ts: Times, theta: Tensor, *, first: float | None) -> tuple[Trajectory, Taken] | None:
        """From `y0`, contiguous; `first` is the size of the first step, if somebody has chosen it."""
        if self.forward is None:
            return None
        times, attempts = ts.to(torch.float64).contiguous(), ctypes.c_longlong()
        ys = y0.new_empty(len(times), *y0.shape)
        count = self.forward.solve(
            *(times.data_ptr(), len(times), first or 0.0, ctypes.addressof(self.control)),
            *(y0.data_ptr(), theta.data_ptr(), ROOM),
            *(x.data_ptr() for x in (self.states, self.rows, ys)),
            ctypes.addressof(attempts),
        )
        if count < 0:
            return None
        return ys, Taken(times, self.states[:count].clone(), self.rows[:count].clone(), attempts.value)

    def evaluations(self, taken: Taken, *, first: float | None) -> int:
        """That `solve` has made."""
        return 1 + (first is None) + taken.attempts * (len(self.steps.tableau.b) - 1)

    def pull_back(self, taken: Taken, dys: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """dL/dy0 and dL/dtheta by dL/dys, contiguous."""
        made = self.way_back(taken.times)
        assert made is not None
        a, sums = torch.empty_like(dys[0]), theta.new_empty(sum(self.steps.learned.sizes))
        inputs = (taken.states, theta, dys, a, sums)
        made.pull_back(
            taken.times.data_ptr(), taken.steps.data_ptr(), len(taken.steps), *(x.data_ptr() for x in inputs)
        )
        return a, sums


class _Control(ctypes.Structure):
    """As in adaptive.c."""

    _fields_: ClassVar = [
        ("filter", ctypes.c_double * 3),
        *((name, ctypes.c_double) for name in ("order", "safety", "shrink", "grow", "min_step", "max_step")),
        *((name, ctypes.c_longlong) for name in ("terms", "hold", "max_attempts")),
    ]

    @staticmethod
    def of(solver: AdaptiveRungeKutta) -> "_Control":
        powers = FILTERS[solver.control]
        numbers = solver.error_order, solver.safety, solver.shrink, solver.grow, solver.min_step or 0.0
        longest = float("inf") if solver.max_step is None else solver.max_step
        hold = len(powers) > 1 or solver.hold
        return _Control((ctypes.c_double * 3)(*powers), *numbers, longest, len(powers), hold, solver.max_steps)


def solve_whole(whole: WholeSolves, values: Values, problem: Problem) -> Solution | None:
    """A solve whose derivative is that of its steps, which are taken anew on the way back."""
    field, y0, ts = problem.field, problem.y0.contiguous(), problem.ts
    if whole.way_back(ts) is None:
        return None
    found = values.tensors(field)
    theta = whole.steps.packing.pack([value.detach() for value in found])
    solved = whole.solve(y0.detach(), ts, theta, first=whole.first)
    if solved is None:
        return None
    ys, taken = solved
    places, tally = taken.places(), field.ledger.tally
    tally.evaluations += whole.evaluations(taken, first=whole.first)
    tally.products += whole.steps.products(places, back=False)
    return solution_along(places, _WholeSolve.apply(field, whole, taken, places, ys, theta, y0, *found))


class _WholeSolve(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        field: CountedField,
        whole: WholeSolves,
        taken: Taken,
        places: Sequence[AcceptedStep],
        ys: Trajectory,
        theta: Tensor,
        y0: State,
        *values: Tensor,
    ) -> Trajectory:
        ctx.field, ctx.whole, ctx.taken, ctx.places, ctx.theta = field, whole, taken, places, theta
        ctx.inputs = (y0, *values)
        return ys

    @staticmethod
    @first_order(OF_COMPILED_STEPS)
    def backward(ctx: Any, dys: Tensor) -> tuple[Tensor | None, ...]:
        steps = ctx.whole.steps
        a, sums = ctx.whole.pull_back(ctx.taken, dys.contiguous(), ctx.theta)
        steps.enter_way_back(ctx.field.ledger.tally, ctx.places)
        fixed = len(steps.packing.sizes) - len(steps.learned.sizes)
        return None, None, None, None, None, None, a, *steps.learned.unpack(sums), *[None] * fixed
