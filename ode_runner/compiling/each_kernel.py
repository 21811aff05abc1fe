"""Adaptive solves whose every sample has steps of its own, as one kernel of a GPU: each sample in a thread."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import final

import torch
from torch import Tensor

from ode_runner.compiling import cuda_kernel
from ode_runner.compiling.c_operations import NoCode
from ode_runner.compiling.c_source import c_source
from ode_runner.compiling.driver import driver_source
from ode_runner.compiling.each_solves import checked_pair, enter_each
from ode_runner.compiling.each_steps import EachSteps
from ode_runner.compiling.graph import check_right, refusing
from ode_runner.compiling.one_call import Control
from ode_runner.compiling.recorder import record
from ode_runner.compiling.solves import CompiledSolve
from ode_runner.compiling.stepper import values_of
from ode_runner.counted_field import CountedField
from ode_runner.errors import CannotCompile
from ode_runner.ledger import Ledger
from ode_runner.problem import Problem, Solution
from ode_runner.solvers.base import Solver
from ode_runner.solvers.embedded import EmbeddedRungeKutta
from ode_runner.solvers.packed_field import PackedField
from ode_runner.solvers.per_sample import PerSampleStepping
from ode_runner.types import State, Times, Trajectory

PIECES = ("begin", "bend", "step")
LARGEST_INLINED = 16  # numbers: arrays become registers by unrolling all loops, which for a layer of 64 takes 20 s
INLINED, CALLED = "__forceinline__", "__noinline__"


@final
class EachKernel:
    """Solves by certain steps on a GPU, without derivatives; `counts` and times are as in each_kernel.cu.

    Raises:
        CannotCompile: an operation of the field has no C code, or NVRTC does not understand it; or what was compiled
            gives something else than the operations in double precision.
    """

    def __init__(self, steps: EachSteps, solver: EmbeddedRungeKutta, device: torch.device) -> None:
        self.steps, self.first, self.device = steps, solver.first_step, device
        functions = {name: steps.piece(name) for name in PIECES}
        names = ["solve_each", *(f"call_{name}" for name in PIECES)]
        with refusing(), torch.no_grad():
            self.kernels = cuda_kernel.compile_kernels(kernel_source(steps, solver), names, device)
            for name, (function, examples) in functions.items():
                check_right(partial(self._call, name, function(*examples)), function, examples)

    def _call(self, name: str, like: Sequence[Tensor], *inputs: Tensor) -> list[Tensor]:
        found = [torch.empty_like(y, device=self.device) for y in like]
        self.kernels[f"call_{name}"](1, *(x.contiguous().to(self.device) for x in inputs), *found)
        return [y.cpu() for y in found]

    def solve(self, y0: State, ts: Times, theta: Tensor) -> tuple[Trajectory, Tensor]:
        """States at the times, and counts, from `y0`, contiguous. Waits for the GPU."""
        ys = y0.new_empty(len(ts), *y0.shape)
        counts = torch.empty(len(y0), 3, dtype=torch.int32, device=y0.device)
        times = ts.to(y0.device, torch.float64).contiguous()
        self.kernels["solve_each"](len(y0), times, len(ts), len(y0), y0, theta, ys, counts)
        return ys, counts.cpu().long()


def kernel_source(steps: EachSteps, solver: EmbeddedRungeKutta) -> str:
    """In CUDA.

    Raises:
        CannotCompile: an operation of the field has no C code.
    """
    sizes: Mapping[str, int | str] = {"W": steps.y0[0].numel(), "FIRST": repr(solver.first_step or 0.0)}
    constants = f"#define CONTROL {Control.of(solver).in_c()}"
    try:
        recordings = {name: record(*steps.piece(name)) for name in PIECES}
        files = ("control.c", "each_kernel.cu")
        driver = driver_source(steps.y0.dtype, sizes, *files, constants=constants)
        made = [operation.result for one in recordings.values() for operation in one.operations]
        way = INLINED if max(x.numel() for x in made) <= LARGEST_INLINED else CALLED
        return c_source(recordings, driver, header=f"{cuda_kernel.HEADER}#define LOOPS static {way} void\n")
    except NoCode as error:
        raise CannotCompile(f"a kernel of a GPU is made of C code, and {error} has none") from error


def each_on_gpu(solver: Solver, y0: State) -> bool:
    """Whether samples have steps of their own, on a GPU."""
    return y0.is_cuda and isinstance(solver, PerSampleStepping) and solver.per_sample


def compile_each_kernel(solver: Solver, problem: Problem, *, eager: CompiledSolve) -> CompiledSolve:
    """For problems like this one that nobody differentiates; those out of the ordinary are solved by `eager`.

    Raises:
        CannotCompile: the field or the solver does not allow it.
    """
    pair = checked_pair(solver, problem)
    with refusing():
        twin = _on_cpu(problem)
    steps = EachSteps(pair, twin.field, twin.y0, values_of(twin), lanes=1)
    return partial(_solve, EachKernel(steps, pair, problem.y0.device), steps, eager)


def _on_cpu(problem: Problem) -> Problem:
    """One like it, of whose field the operations are recorded."""
    field = problem.field
    given = [z.detach().cpu().requires_grad_(z.requires_grad) for z in field.given]
    integrals = {name: deepcopy(one).cpu() for name, one in zip(field.names, field.integrals, strict=True)}
    twin = CountedField.around(
        *(deepcopy(field.field).cpu(), Ledger()), attached=field.attached, given=given, integrals=integrals
    )
    return Problem(field=twin, y0=problem.y0.detach().cpu(), ts=problem.ts.detach().cpu())


def _solve(kernel: EachKernel, steps: EachSteps, eager: CompiledSolve, problem: Problem) -> Solution:
    field, ts = problem.field, problem.ts
    if len(ts) == 1:
        return eager(problem)
    theta = steps.packing.pack([value.detach() for value in steps.tensors(field)])
    ys, counts = kernel.solve(steps.begin_rows(field, problem.y0).detach(), ts.detach(), theta)
    if not bool(counts[:, 2].all()):
        return eager(problem)
    accepted, attempts, _ = counts[int(counts[:, 1].argmax())].tolist()
    each = enter_each(steps, kernel.first, field.ledger.tally, counts)
    solution = Solution(ys=ys, accepted=accepted, rejected=attempts - accepted, each=each)
    return PackedField(field, problem.y0).unpacked(solution)
