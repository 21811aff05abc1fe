"""Compiles the solver's steps before training, if that is requested or worth its time; on a GPU, captures them."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, TypeVar

import torch

from ode_runner.batch import Split
from ode_runner.compiling.captured_modules import CapturedModules, noted_calls
from ode_runner.compiling.captured_solve import CapturedSolve
from ode_runner.compiling.fused import fusible
from ode_runner.compiling.solves import CompiledSolve
from ode_runner.compiling.stepper import has_c_code
from ode_runner.errors import CannotCompile, IncompatibleChoice
from ode_runner.experiment.experiment import Experiment
from ode_runner.experiment.forward_pass import ForwardPass
from ode_runner.experiment.operation_work import OperationCount
from ode_runner.field import StochasticField
from ode_runner.models.base import Numerics
from ode_runner.models.events import has_events
from ode_runner.problem import Problem
from ode_runner.solvers.base import AdaptiveSolver
from ode_runner.training.captured_pass import CapturedPasses
from ode_runner.training.planned_pass import AttemptHistory, PlannedPasses
from ode_runner.training.training_problems import (
    compile_lazily,
    compile_now,
    first_batch,
    pass_sizes,
    training_solves,
    undisturbed,
)

Captured = TypeVar("Captured")

FEWEST_STEPS = 2_000  # training steps that repay the seconds of the system's compiler
FEWEST_SOLVES = 100  # solves of a kind that repay a second of that compiler, if other solves are compiled anyway
FEWEST_FUSED = 10_000  # training steps that repay the half minute of PyTorch's compiler
FEWEST_CAPTURED = 200  # training steps that repay the seconds of capturing
# Multiplications and additions in an evaluation above which arithmetic dominates, so that compiled steps gain little
LARGEST = 20_000_000
LARGEST_FUSED = 1_000_000  # the same for PyTorch's compiler
SLOWER = 60_000_000  # above this, recomputing steps in the backward pass costs more than compiling saves


class Compiled(NamedTuple):
    """What was compiled before training: captured passes, or solves, which are in the integrator."""

    seconds: float | None = None  # that it took; None: nothing was compiled
    passes: CapturedPasses | PlannedPasses | None = None
    layers: CapturedModules | None = None  # before and after captured solves
    measurable: bool = True  # whether saved bytes can be measured; saved tensor hooks do not see recorded steps


def compile_training(
    forward: ForwardPass,
    *,
    steps: int,
    processes: int,
    say: Callable[[str], None],
    history: AttemptHistory | None = None,
) -> Compiled:
    """Compile as trainer.compile says: solves on a CPU; on a GPU passes, or single steps if the solve is adaptive.

    The decision of `auto` depends only on the configuration and the number of processes, so that a resumed run takes
    the same steps.

    Args:
        forward: makes the forward passes of training; its experiment's integrator gets the solves.
        steps: the steps of the whole training.
        processes: the number of processes of the run.
        say: prints a line.
        history: the attempts of the training so far; None if training begins.

    Raises:
        IncompatibleChoice: trainer.compile=on, and a solve cannot be compiled.
    """
    experiment, begun = forward.experiment, time.perf_counter()
    requested, on_gpu = experiment.options.compile, experiment.device.type == "cuda"
    if requested == "off" or (requested == "auto" and steps < (FEWEST_CAPTURED if on_gpu else FEWEST_STEPS)):
        return Compiled()
    passes: CapturedPasses | PlannedPasses | None = None
    layers = None
    try:
        check_not_ruled_out(experiment, processes)
        with undisturbed(experiment.model, experiment.device, training=True):
            if on_gpu and not _adaptive(experiment):
                passes = _capture_passes(forward, fuses=steps >= FEWEST_FUSED, say=say)
            elif on_gpu:
                captured, layers = _capture_solves(experiment, fuses=steps >= FEWEST_FUSED, say=say)
                passes = _plan_passes(forward, captured, history or AttemptHistory(), say=say)
            elif not _compile_solves(experiment, steps=steps, say=say):
                return Compiled()
    except CannotCompile as reason:
        experiment.integrator.forget_compiled()
        if requested == "on":
            raise _refusal(reason) from reason
        say(f"not {'captured' if on_gpu else 'compiled'}: {reason}")
        return Compiled()
    measurable = not on_gpu or isinstance(passes, CapturedPasses)
    return Compiled(time.perf_counter() - begun, passes, layers, measurable=measurable)


def check_compilable(experiment: Experiment, *, processes: int) -> None:
    """Check, for trainer.compile=on, all that can be checked without a compiler or a GPU.

    Raises:
        IncompatibleChoice: the solves cannot be compiled.
    """
    if experiment.options.compile != "on":
        return
    try:
        check_not_ruled_out(experiment, processes)
        if experiment.device.type == "cpu":
            with undisturbed(experiment.model, experiment.device, training=True):
                for solve in training_solves(experiment):
                    compile_lazily(experiment, solve)
    except CannotCompile as reason:
        raise _refusal(reason) from reason
    finally:
        experiment.integrator.forget_compiled()


def _refusal(reason: CannotCompile) -> IncompatibleChoice:
    return IncompatibleChoice(f"trainer.compile=on: {reason}. Use trainer.compile=off.")


def _compile_solves(experiment: Experiment, *, steps: int, say: Callable[[str], None]) -> bool:
    """Compile the solves of a training step; returns False, and compiles nothing, if that is not worth its time."""
    solves = training_solves(experiment)
    if experiment.options.compile == "auto" and not all(repaid(solve, steps) for solve in solves):
        return False
    if experiment.integrator.gradient.through_autograd and (most := max(map(_work, solves))) > SLOWER:
        say(
            f"an evaluation takes {most / 1e6:,.0f} million multiplications and additions: compiled steps, which are "
            "repeated in the backward pass, are no faster above some 60 million. Compare with trainer.compile=off."
        )
    say("compiling the solver's steps: some seconds the first time, half a minute where PyTorch's compiler is needed")
    for solve in solves:
        compile_now(experiment, solve)
    _compile_other_sizes(experiment, steps=steps)
    return True


def _compile_other_sizes(experiment: Experiment, *, steps: int) -> None:
    """Compile the solves of batches and parts of other sizes, if that is worth its time; else they stay eager."""
    epochs = steps // -(-experiment.task.size(Split.TRAIN) // experiment.options.batch_size)
    _, *others = pass_sizes(experiment).items()
    for size, count in others:
        if epochs * count < FEWEST_SOLVES:
            continue
        with suppress(CannotCompile):
            for solve in training_solves(experiment, first_batch(experiment, size)):
                if has_c_code(solve):
                    compile_now(experiment, solve)


class _CapturedSolves(NamedTuple):
    problems: list[Problem]
    solves: list[CompiledSolve]
    fused: bool


def _capture_solves(
    experiment: Experiment, *, fuses: bool, say: Callable[[str], None]
) -> tuple[_CapturedSolves, CapturedModules]:
    """Record the steps of the solves of a training step, and the layers before and after them."""
    with noted_calls(experiment.model) as calls:
        problems = training_solves(experiment)

    def capture(fuses: bool) -> _CapturedSolves:
        experiment.integrator.forget_compiled()
        return _CapturedSolves(problems, [compile_now(experiment, one, fuses=fuses) for one in problems], fuses)

    captured = _fused_if_possible(capture, fuses=fuses, say=say)
    return captured, CapturedModules(calls, lower=experiment.options.lower_dtype, say=say)


def _plan_passes(
    forward: ForwardPass, captured: _CapturedSolves, history: AttemptHistory, *, say: Callable[[str], None]
) -> PlannedPasses | None:
    """Planned passes, if there is a single solve, all its steps are saved, and its only output is at its end."""
    if len(captured.solves) != 1:
        return None
    [solve], [problem] = captured.solves, captured.problems
    if not isinstance(solve, CapturedSolve) or not solve.keeps or len(problem.ts) != 2:
        return None
    modules = fusible(forward.experiment.model) if captured.fused else []
    return PlannedPasses(forward, solve, history, first_batch(forward.experiment), fusing=modules, say=say)


def _capture_passes(forward: ForwardPass, *, fuses: bool, say: Callable[[str], None]) -> CapturedPasses:
    """Capture the pass for batches like the first."""
    passes, batch = CapturedPasses(forward, say=say), first_batch(forward.experiment)
    modules = fusible(forward.experiment.model)
    _fused_if_possible(lambda fuses: passes.prepare(batch, fusing=modules if fuses else ()), fuses=fuses, say=say)
    return passes


def _fused_if_possible(capture: Callable[[bool], Captured], *, fuses: bool, say: Callable[[str], None]) -> Captured:
    """Capture with fields and blocks compiled into fused kernels, if `fuses` and that is possible."""
    if fuses:
        say("compiling fields and blocks for the GPU: half a minute the first time, then seconds")
        try:
            return capture(True)
        except CannotCompile as reason:
            say(f"captured without being compiled: {reason}")
    return capture(False)


def _adaptive(experiment: Experiment) -> bool:
    """Whether the solves of training are adaptive, so that the CPU waits for errors to choose step sizes."""
    solves = experiment.model.numerics is not Numerics.NONE and experiment.objective.solves
    return solves and isinstance(experiment.integrator.solver, AdaptiveSolver)


def check_not_ruled_out(experiment: Experiment, processes: int) -> None:
    """Raises CannotCompile if the choices rule out that anything can be compiled or recorded."""
    if processes > 1:
        raise CannotCompile("compiled steps are those of one process")
    if has_events(type(experiment.task), type(experiment.model)):
        raise CannotCompile("the solves have events")
    if experiment.model.draws_work:
        raise CannotCompile("the amount of computation is drawn at random in each step")
    if experiment.device.type == "cuda":
        return
    if experiment.model.numerics is Numerics.NONE:
        raise CannotCompile("the model solves nothing")
    if not experiment.objective.solves:
        raise CannotCompile("the model is trained without a solve")
    if experiment.device.type != "cpu":
        raise CannotCompile(f"steps are compiled on a CPU or a GPU of NVIDIA's, and this is {experiment.device.type}")
    if experiment.integrator.field_dtype is not None:
        raise CannotCompile("compiled steps are of trainer.precision=fp32 or fp64")


def repaid(problem: Problem, steps: int) -> bool:
    """Whether so many steps of training repay the time of compiling, as `auto` decides.

    Raises:
        CannotCompile: the solve cannot be compiled.
    """
    if has_c_code(problem):
        return _work(problem) <= LARGEST
    return steps >= FEWEST_FUSED and _work(problem) <= LARGEST_FUSED


def _work(problem: Problem) -> int:
    """Multiplications and additions of an evaluation, in matrix products and convolutions."""
    with torch.no_grad(), OperationCount() as operations:
        field = problem.field.field
        calls = [field.drift, field.diffusion] if isinstance(field, StochasticField) else [field]
        for call in calls:
            call(problem.ts[0], problem.y0, *problem.field.of_field(problem.field.given))
    return operations.flops
