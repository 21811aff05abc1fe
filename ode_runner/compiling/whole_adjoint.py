"""The adjoint equation, solved backwards through all output times as one call of machine code."""

import ctypes
from functools import cached_property
from typing import ClassVar, NamedTuple, final

import torch
from torch import Tensor

from ode_runner.compiling.one_call import NUMBER, POINTER
from ode_runner.compiling.steps import CompiledSteps
from ode_runner.compiling.whole_solves import ROOM, WholeSolves
from ode_runner.types import Trajectory


class AdjointTally(ctypes.Structure):
    """The struct Tally of adjoint.c."""

    _fields_: ClassVar = [
        *((name, ctypes.c_longlong) for name in ("accepted", "rejected", "evaluations")),
        ("smallest", ctypes.c_double),
    ]


class AdjointSolution(NamedTuple):
    """dL/dy0 and dL/dtheta, and the work that they took."""

    a: Tensor
    g: Tensor
    tally: AdjointTally


@final
class WholeAdjoint:
    """The adjoint equation, solved backwards by machine code. If a method returns None, Python takes the steps.

    Args:
        solves: compiled solves of the adjoint equation.
        elements: the number of elements of the original state.
        integrals: the number of integral values in all samples; dL/dq are the last values of its steps.
    """

    def __init__(self, solves: WholeSolves, elements: int, integrals: int) -> None:
        self.solves, self.elements, self.integrals = solves, elements, integrals

    @staticmethod
    def of(back: CompiledSteps, elements: int, *, integrals: int) -> "WholeAdjoint | None":
        """The backward solve by compiled steps; None if their solves are not one call of machine code each."""
        solves = WholeSolves.of(back)
        return None if solves is None else WholeAdjoint(solves, elements, integrals)

    @cached_property
    def library(self) -> ctypes.PyDLL | None:
        """`adjoint.c`, compiled; None if an operation has no C code."""
        values = self.solves.steps.theta.numel() - self.integrals
        sizes = {"M": self.elements, "Q": self.integrals, "VALUES": values}
        made = self.solves.library(
            ["begin", "slope_change", "step"], "control.c", "first_step.c", "adaptive.c", "adjoint.c", **sizes
        )
        if made is not None:
            made.solve_back.restype = NUMBER
            made.solve_back.argtypes = [POINTER, NUMBER, ctypes.c_double, *[POINTER] * 5, NUMBER, *[POINTER] * 4]
        return made

    def solve_back(
        self, times: Tensor, ys: Trajectory, dys: Tensor, dqs: Tensor, theta: Tensor, *, first: float | None
    ) -> AdjointSolution | None:
        """dL/dy0 and dL/dtheta from dL/dy and dL/dq at the output times, all contiguous; None: Python must solve.

        `first` is the size of the first step; None: it is chosen.
        """
        assert self.library is not None
        solves, size = self.solves, ys[0].numel()
        if self.integrals:
            theta = torch.cat([theta, theta.new_empty(self.integrals)])
        flat, tally = torch.empty_like(solves.steps.y0), AdjointTally(smallest=float("inf"))
        ended = self.library.solve_back(
            *(times.data_ptr(), len(times), first or 0.0, ctypes.addressof(solves.control)),
            *(x.data_ptr() for x in (ys, dys, dqs, theta)),
            *(ROOM, solves.states.data_ptr(), solves.rows.data_ptr(), flat.data_ptr(), ctypes.addressof(tally)),
        )
        if ended < 0:
            return None
        return AdjointSolution(flat[size : 2 * size].view_as(ys[0]), flat[2 * size :], tally)
