"""All steps on a fixed grid, and the backward pass along them, as one call of machine code each."""

import ctypes
from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor

from ode_runner.compiling.c_code.drivers import driver_source
from ode_runner.compiling.c_code.graph import Function, compile_library
from ode_runner.compiling.steps import Packed
from ode_runner.types import State, Trajectory

POINTER, NUMBER = ctypes.c_void_p, ctypes.c_longlong


@final
class WholeRuns:
    """All steps of a solve by one method along one equation; `made` is the compiled `fixed_grid.c`.

    A step reads its row of each input, (steps, ...), and adds to `integrals` integrals.
    """

    def __init__(self, made: ctypes.PyDLL, packed: Packed, *, integrals: int) -> None:
        self.made, self.packed, self.integrals = made, packed, integrals
        made.take.restype = None
        made.take.argtypes = [POINTER, NUMBER, POINTER, NUMBER, *[POINTER] * 5]

    @staticmethod
    def of(
        pieces: Mapping[str, tuple[Function, Sequence[Tensor]]],
        packed: Packed,
        *,
        inputs: Sequence[Tensor],
        integrals: int,
    ) -> "WholeRuns | None":
        """Compile the steps; None if an operation has no C code.

        `pieces` are `run` for a single step, with examples `inputs`, and `run_vjp` for `pull_back`.

        Raises:
            CannotCompile: see `compile_graph`.
        """
        own = ", ".join(f"inputs[{i}] + (k) * {x.numel()}" for i, x in enumerate(inputs))
        back = "run_vjp" in pieces
        sizes = {"BACK": int(back), "N": packed.y0.numel()}
        sizes |= {"LEARNED": sum(packed.learned.sizes), "GAINS": len(packed.y0) * integrals}
        code = driver_source(packed.y0.dtype, {**sizes, "INPUTS(k)": own}, "fixed_grid.c")
        made = compile_library(pieces, code)
        if made is not None and back:
            made.pull_back.restype = None
            made.pull_back.argtypes = [POINTER, NUMBER, POINTER, NUMBER, *[POINTER] * 6]
        return None if made is None else WholeRuns(made, packed, integrals=integrals)

    def take(
        self, inputs: Sequence[Tensor], served: Tensor, y0: State, theta: Tensor
    ) -> tuple[Trajectory, Trajectory, list[Tensor]]:
        """States at the grid's times, states at the indices `served`, and gains (steps, batch, integral)."""
        steps, gains = len(inputs[0]), list[Tensor]()
        states, ys = y0.new_empty(1 + steps, *y0.shape), y0.new_empty(len(served), *y0.shape)
        if self.integrals:
            gains = [y0.new_empty(steps, len(y0), self.integrals)]
        self.made.take(
            *(_pointers(inputs), steps, served.data_ptr(), len(served)),
            *(x.data_ptr() for x in (y0, theta, states, ys)),
            gains[0].data_ptr() if gains else None,
        )
        return states, ys, gains

    def pull_back(
        self,
        inputs: Sequence[Tensor],
        served: Tensor,
        states: Trajectory,
        theta: Tensor,
        dys: Tensor,
        dgains: Sequence[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """dL/dy0 and dL/dtheta from the derivatives of the results of `take`, all contiguous."""
        a, sums = torch.empty_like(states[0]), theta.new_empty(sum(self.packed.learned.sizes))
        self.made.pull_back(
            *(_pointers(inputs), len(inputs[0]), served.data_ptr(), len(served)),
            *(x.data_ptr() for x in (states, theta, dys)),
            dgains[0].data_ptr() if dgains else None,
            *(a.data_ptr(), sums.data_ptr()),
        )
        return a, sums


def _pointers(inputs: Sequence[Tensor]) -> "ctypes.Array[ctypes.c_void_p]":
    return (POINTER * len(inputs))(*(x.data_ptr() for x in inputs))
