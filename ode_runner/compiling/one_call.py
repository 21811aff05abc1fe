"""Solves that are one call of machine code each; their backward passes are another."""

import abc
import ctypes
from collections.abc import Sequence
from threading import Lock
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from ode_runner.compiling.c_code.drivers import driver_source
from ode_runner.compiling.c_code.graph import compile_library
from ode_runner.compiling.steps import OF_COMPILED_STEPS, CompiledSteps
from ode_runner.errors import CannotCompile
from ode_runner.fields.counted_field import CountedField
from ode_runner.fields.ledger import Tally
from ode_runner.solvers.embedded import AdaptiveRungeKutta
from ode_runner.solvers.first_order import first_order
from ode_runner.solvers.step_control import FILTERS
from ode_runner.types import State, Times, Trajectory

POINTER, NUMBER = ctypes.c_void_p, ctypes.c_longlong

TakenT = TypeVar("TakenT")  # what a solve saves for its backward pass


class SolveCall(abc.ABC, Generic[TakenT]):
    """A compiled solve from autograd's side: its vector-Jacobian product, and the evaluations that this takes."""

    def __init__(self, steps: CompiledSteps) -> None:
        self.steps = steps

    @abc.abstractmethod
    def pull_back(self, taken: TakenT, dys: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """dL/dy0 and dL/dtheta from dL/dys, which is contiguous."""

    @abc.abstractmethod
    def enter_backward(self, tally: Tally, taken: TakenT) -> None:
        """Add to the ledger what `pull_back` has taken; called after it."""

    @abc.abstractmethod
    def kept(self, taken: TakenT) -> list[Tensor]:
        """The tensors saved for the backward pass that grow with the number of steps."""


class OneCall(SolveCall[TakenT]):
    """Solves on a CPU, each as one call of machine code. Each function is compiled when it is first needed."""

    def __init__(self, steps: CompiledSteps) -> None:
        super().__init__(steps)
        self._backwards: dict[bool, ctypes.PyDLL | None] = {}  # by whether outputs may lie within steps
        self.lock = Lock()  # for buffers that every solve writes into: PyTorch releases the GIL while it copies

    @property
    @abc.abstractmethod
    def forward(self) -> ctypes.PyDLL | None:
        """The machine code of solves; None if an operation has no C code."""

    @abc.abstractmethod
    def compiled_backward(self, *, dense: bool) -> ctypes.PyDLL | None:
        """The machine code of `pull_back`; `dense`: also for outputs within steps. None: an operation has no C code."""

    def backward(self, ts: Times) -> ctypes.PyDLL | None:
        """The machine code of `pull_back` for solves to `ts`; None if an operation has no C code."""
        dense = len(ts) > 2 or True in self._backwards
        if dense not in self._backwards:
            self._backwards[dense] = self.compiled_backward(dense=dense)
        return self._backwards[dense]

    def check_compiled(self, ts: Times) -> None:
        """Raises CannotCompile unless there is code for solves to `ts` and, if gradients are wanted, `pull_back`."""
        if self.forward is None or (torch.is_grad_enabled() and self.backward(ts) is None):
            raise CannotCompile("the system's compiler does not understand the code of these steps")

    def library(self, pieces: Sequence[str], *drivers: str, **sizes: int) -> ctypes.PyDLL | None:
        """Compile pieces of the steps with the files of C code that call them; None if an operation has no C code.

        `sizes` are numbers that the files read, by their names there.
        """
        steps = self.steps
        sizes |= {"N": steps.y0.numel(), "LEARNED": sum(steps.learned.sizes), "STAGES": len(steps.tableau.b)}
        names = {name: int(size) for name, size in sizes.items()}  # C has no True
        functions = {name: steps.piece(name) for name in pieces}
        return compile_library(functions, driver_source(steps.y0.dtype, names, *drivers, constants=self.constants()))

    def constants(self) -> str:
        """Further definitions in C that the files read, besides the sizes."""
        return ""


class Control(ctypes.Structure):
    """The options of step control, as the struct of this name in control.c."""

    _fields_: ClassVar = [
        ("filter", ctypes.c_double * 3),
        *((name, ctypes.c_double) for name in ("order", "safety", "shrink", "grow", "min_step", "max_step")),
        *((name, ctypes.c_longlong) for name in ("terms", "hold", "max_attempts")),
    ]

    def in_c(self) -> str:
        """An initialiser in C with the same values."""
        _, *names = (field[0] for field in self._fields_)
        values = [getattr(self, name) for name in names]
        numbers = ", ".join("INFINITY" if x == float("inf") else repr(x) for x in values)
        return f"{{{{{', '.join(map(repr, self.filter))}}}, {numbers}}}"

    @staticmethod
    def of(solver: AdaptiveRungeKutta) -> "Control":
        powers = FILTERS[solver.control]
        numbers = solver.error_order, solver.safety, solver.shrink, solver.grow, solver.min_step or 0.0
        longest = float("inf") if solver.max_step is None else solver.max_step
        hold = len(powers) > 1 or solver.hold
        return Control((ctypes.c_double * 3)(*powers), *numbers, longest, len(powers), hold, solver.max_steps)


def differentiable(
    call: SolveCall[TakenT],
    field: CountedField,
    taken: TakenT,
    ys: Trajectory,
    theta: Tensor,
    y0: State,
    values: Sequence[Tensor],
) -> Trajectory:
    """The states `ys` of a solve from `y0`, with the derivative of the steps that it has taken."""
    found: Trajectory = _OneCallSolve.apply(field, call, taken, ys, theta, y0, *values)
    return found


class _OneCallSolve(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        field: CountedField,
        call: SolveCall[Any],
        taken: Any,
        ys: Trajectory,
        theta: Tensor,
        y0: State,
        *values: Tensor,
    ) -> Trajectory:
        ctx.field, ctx.call, ctx.taken, ctx.theta = field, call, taken, theta
        ctx.inputs = (y0, *values)
        ctx.save_for_backward(*call.kept(taken), theta)  # so that saved bytes can be measured
        return ys

    @staticmethod
    @first_order(OF_COMPILED_STEPS)
    def backward(ctx: Any, dys: Tensor) -> tuple[Tensor | None, ...]:
        steps = ctx.call.steps
        a, sums = ctx.call.pull_back(ctx.taken, dys.contiguous(), ctx.theta)
        ctx.call.enter_backward(ctx.field.ledger.tally, ctx.taken)
        fixed = len(steps.packing.sizes) - len(steps.learned.sizes)
        return None, None, None, None, None, a, *steps.learned.unpack(sums), *[None] * fixed
