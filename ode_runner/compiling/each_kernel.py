"""Adaptive solves in which every sample has its own steps, as one GPU kernel with a thread for each sample."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import final

import torch
from torch import Tensor

from ode_runner.compiling import cuda_kernel
from ode_runner.compiling.c_code.drivers import driver_source
from ode_runner.compiling.c_code.graph import check_right, refusing
from ode_runner.compiling.c_code.operations import WITH_CODE, NoCode
from ode_runner.compiling.c_code.recorder import record
from ode_runner.compiling.c_code.source import c_source
from ode_runner.compiling.each_solves import checked_pair, enter_steps_anew, solution_of_each
from ode_runner.compiling.each_steps import EachSteps
from ode_runner.compiling.one_call import Control, SolveCall, differentiable
from ode_runner.compiling.solves import CompiledSolve
from ode_runner.compiling.stepper import values_of
from ode_runner.errors import CannotCompile
from ode_runner.fields.counted_field import CountedField
from ode_runner.fields.ledger import Ledger, Tally
from ode_runner.problem import Problem, Solution
from ode_runner.solvers.base import Solver
from ode_runner.solvers.embedded import EmbeddedRungeKutta
from ode_runner.solvers.per_sample import PerSampleStepping
from ode_runner.types import State, Times, Trajectory

FORWARD, BACKWARD = ("begin", "slope_change", "step"), ("step_vjp", "dense_step_vjp")
LARGEST_INLINED = 8  # numbers of an array that becomes registers by unrolling loops; for a layer of 64 that takes 20 s
MOST_LEARNED = 512  # learned numbers: each thread sums their derivatives in local memory, reserved for all threads
INLINED, CALLED = "__forceinline__", "__noinline__"
MOST_SUMS = 2**26  # numbers in memory at once: derivatives of samples with respect to parameters


@dataclass(kw_only=True)
class TakenByKernel:
    """What a solve by a kernel saves for its backward pass."""

    times: Tensor  # float64
    y0: Tensor  # rows, as in EachSteps
    counts: Tensor  # (batch, 3), int64, on the CPU: accepted steps, attempts, and whether the end was reached
    rounds: Tensor | None = None  # (2, attempts of the hardest sample), int32; found by the backward pass


@final
class EachKernel(SolveCall[TakenByKernel]):
    """Solves by one kernel on a GPU. No step is saved for the backward pass, which solves once more.

    `back` says whether a backward pass is compiled; without it, solves cannot be differentiated.

    Raises:
        CannotCompile: an operation of the field has no C code, or the code does not compile; or the compiled code gives
            another result than the operations in double precision; or too many numbers are learned.
    """

    steps: EachSteps

    def __init__(self, steps: EachSteps, solver: EmbeddedRungeKutta, device: torch.device, *, back: bool) -> None:
        super().__init__(steps)
        self.solver, self.device = solver, device
        if back and (learned := sum(steps.learned.sizes)) > MOST_LEARNED:
            raise CannotCompile(
                f"an ensemble on a GPU is differentiated by up to {MOST_LEARNED} learned numbers, and here are "
                f"{learned}; field.requires_grad_(False) has it compiled for solves that nobody differentiates"
            )
        self.forward = self._compiled(FORWARD, "solve_each", "control.c", "each_kernel.cu")
        self.backward = self._compiled(BACKWARD, "pull_back_each", "each_kernel_accepted.cu") if back else {}

    def _compiled(self, pieces: Sequence[str], kernel: str, *files: str) -> Mapping[str, cuda_kernel.Kernel]:
        """The kernel of this name in `files`, and kernels that call each of the pieces alone, to check them."""
        functions = {name: self.steps.piece(name) for name in pieces}
        source = kernel_source(self.steps, self.solver, pieces, *files)
        with refusing(), torch.no_grad():
            found = cuda_kernel.compile_kernels(source, [kernel, *(f"call_{name}" for name in pieces)], self.device)
            for name, (function, examples) in functions.items():
                call = partial(self._call, found[f"call_{name}"], function(*examples))
                check_right(call, function, examples)
        return found

    def _call(self, kernel: cuda_kernel.Kernel, like: Sequence[Tensor], *inputs: Tensor) -> list[Tensor]:
        found = [torch.empty_like(y, device=self.device) for y in like]
        kernel(1, *(x.contiguous().to(self.device) for x in inputs), *found)
        return [y.cpu() for y in found]

    def solve(self, y0: State, ts: Times, theta: Tensor) -> tuple[Trajectory, TakenByKernel]:
        """Solve from `y0`, which is contiguous; the CPU waits for the GPU."""
        times = ts.to(y0.device, torch.float64).contiguous()
        ys, counts = self._solve(times, y0, theta, *[0] * 5)
        return ys, TakenByKernel(times=times, y0=y0, counts=counts.cpu().long())

    def _solve(self, times: Tensor, y0: Tensor, theta: Tensor, *notes: Tensor | int) -> tuple[Tensor, Tensor]:
        ys, batch = y0.new_empty(len(times), *y0.shape), len(y0)
        counts = torch.empty(batch, 3, dtype=torch.int32, device=y0.device)
        self.forward["solve_each"](batch, times, len(times), batch, y0, theta, ys, counts, *notes)
        return ys, counts

    def pull_back(self, taken: TakenByKernel, dys: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        times, y0, accepted = taken.times, taken.y0, taken.counts[:, 0]
        places = torch.cat([accepted.new_zeros(1), accepted.cumsum(0)]).to(y0.device)
        states, steps = y0.new_empty(int(accepted.sum()), y0.shape[1]), times.new_empty(int(accepted.sum()), 3)
        taken.rounds = torch.zeros(2, int(taken.counts[:, 1].max()), dtype=torch.int32, device=y0.device)
        self._solve(times, y0, theta, places, states, steps, taken.rounds, taken.rounds.shape[1])
        a, sums, begun = torch.empty_like(y0), theta.new_zeros(sum(self.steps.learned.sizes)), times == times[0]
        share, given = max(MOST_SUMS // len(sums), 1), (places, states, steps, theta, dys, a)
        for start in range(0, len(y0), share):
            parts = theta.new_empty(min(share, len(y0) - start), len(sums))
            numbers = int(begun.cumprod(0).sum()), len(y0), start, len(parts)
            self.backward["pull_back_each"](len(parts), times, *numbers, *given, parts)
            sums += parts.sum(0)
        return a, sums

    def kept(self, taken: TakenByKernel) -> list[Tensor]:
        return [taken.y0]

    def enter_backward(self, tally: Tally, taken: TakenByKernel) -> None:
        assert taken.rounds is not None
        accepted, dense = taken.rounds.sum(1).tolist()
        enter_steps_anew(self.steps, tally, taken.counts, accepted=accepted, dense=dense)


def kernel_source(steps: EachSteps, solver: EmbeddedRungeKutta, pieces: Sequence[str], *files: str) -> str:
    """The CUDA code of pieces of the steps, and of the files that call them.

    Raises:
        CannotCompile: an operation of the field has no C code.
    """
    sizes: dict[str, int | str] = {"W": steps.y0[0].numel(), "LEARNED": sum(steps.learned.sizes)}
    sizes |= {"FIRST": repr(solver.first_step or 0.0), "CONTROL": Control.of(solver).in_c()}
    try:
        recordings = {name: record(*steps.piece(name), whole=WITH_CODE) for name in pieces}
        made = [operation.result for one in recordings.values() for operation in one.operations]
        way = INLINED if max(x.numel() for x in made) <= LARGEST_INLINED else CALLED
        header = f"{cuda_kernel.HEADER}#define LOOPS static {way} void\n"
        return c_source(recordings, driver_source(steps.y0.dtype, sizes, *files), header=header)
    except NoCode as error:
        raise CannotCompile(f"a kernel of a GPU is made of C code, and {error} has none") from error


def each_on_gpu(solver: Solver, y0: State) -> bool:
    """Whether samples have their own steps and are on a GPU."""
    return y0.is_cuda and isinstance(solver, PerSampleStepping) and solver.per_sample


def compile_each_kernel(solver: Solver, problem: Problem, *, eager: CompiledSolve, back: bool) -> CompiledSolve:
    """A solve by one kernel for problems like this one; if `back`, with the derivative of its steps.

    If there is no time between first and last output, or a sample fails, `eager` solves.

    Raises:
        CannotCompile: the field or the solver does not allow it.
    """
    pair = checked_pair(solver, problem)
    with refusing():
        cpu_problem = _on_cpu(problem)
    steps = EachSteps(pair, cpu_problem.field, cpu_problem.y0, values_of(cpu_problem), lanes=1)
    return partial(_solve, EachKernel(steps, pair, problem.y0.device, back=back), steps, eager)


def _on_cpu(problem: Problem) -> Problem:
    """A copy of the problem on the CPU, where the operations of its field are traced."""
    field = problem.field
    given = [z.detach().cpu().requires_grad_(z.requires_grad) for z in field.given]
    integrals = {name: deepcopy(one).cpu() for name, one in zip(field.names, field.integrals, strict=True)}
    cpu_field = CountedField.around(
        *(deepcopy(field.field).cpu(), Ledger()), attached=field.attached, given=given, integrals=integrals
    )
    return Problem(field=cpu_field, y0=problem.y0.detach().cpu(), ts=problem.ts.detach().cpu())


def _solve(kernel: EachKernel, steps: EachSteps, eager: CompiledSolve, problem: Problem) -> Solution:
    field, ts = problem.field, problem.ts
    if len(ts) == 1:
        return eager(problem)
    found, y0 = steps.tensors(field), steps.begin_rows(field, problem.y0)
    theta = steps.packing.pack([value.detach() for value in found])
    ys, taken = kernel.solve(y0.detach().contiguous(), ts.detach(), theta)
    _, attempts, arrived = taken.counts.unbind(1)
    if not bool(attempts.any()) or not bool(arrived.all()):  # no time passes, or a sample has failed
        return eager(problem)
    ys = differentiable(kernel, field, taken, ys, theta, y0, found)
    return solution_of_each(steps, kernel.solver.first_step, problem, ys, taken.counts)
