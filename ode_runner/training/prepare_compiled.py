"""Compiles the solver's steps before training, where that is requested or worth while."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import ClassVar, final

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ode_runner.batch import Split
from ode_runner.buffers import Buffers
from ode_runner.counted_field import CountedField
from ode_runner.errors import CannotCompile, IncompatibleChoice, SolverFailed
from ode_runner.experiment.experiment import Experiment
from ode_runner.field import Ledger
from ode_runner.gradients.base import GradientMode
from ode_runner.models.base import Numerics
from ode_runner.problem import Problem, Solution
from ode_runner.solvers.base import AdaptiveSolver, Solver

FEWEST_STEPS = 10_000  # of training that repay the compiler's half minute
LARGEST = 1_000_000  # multiplications and additions in an evaluation; beyond, arithmetic is what takes the time


def compile_solves(experiment: Experiment, *, steps: int, processes: int, say: Callable[[str], None]) -> float | None:
    """Compile the solves of a training step if trainer.compile asks for it; returns the seconds taken, or None.

    What `auto` decides depends on the configuration and the number of processes only, so that a resumed run takes the
    same steps.

    Args:
        experiment: whose integrator is given the compiled solves.
        steps: of the whole training.
        processes: of the run.
        say: prints a line.

    Raises:
        IncompatibleChoice: trainer.compile=on, and a solve cannot be compiled.
    """
    requested, begun = experiment.options.compile, time.perf_counter()
    if requested == "off" or (requested == "auto" and steps < FEWEST_STEPS):
        return None
    try:
        _check_possible(experiment, processes)
        with _as_in_training(experiment.model):
            solves = training_solves(experiment)
            if requested == "auto" and not all(map(_small, solves)):
                return None
            say("compiling the solver's steps: half a minute the first time, then seconds")
            for solve in solves:
                _compile(experiment, solve)
    except CannotCompile as reason:
        if requested == "on":
            raise IncompatibleChoice(f"trainer.compile=on: {reason}. Use trainer.compile=off.") from reason
        say(f"not compiled: {reason}")
        return None
    return time.perf_counter() - begun


@final
@dataclass(frozen=True, kw_only=True)
class RecordProblems(GradientMode):
    """Solves nothing: keeps each problem, and gives the initial state at every time."""

    exact: ClassVar[bool] = False
    through_autograd: ClassVar[bool] = True
    as_posed: ClassVar[bool] = True
    problems: list[Problem] = field(default_factory=list)

    def solve(self, solver: Solver, problem: Problem) -> Solution:
        if problem.field.names:
            raise CannotCompile(f"something is integrated along the solve: {', '.join(problem.field.names)}")
        if problem.field.noise is not None or problem.breaks:
            raise CannotCompile("the solve has noise or breaks")
        self.problems.append(problem)
        return Solution(ys=torch.stack([problem.y0] * len(problem.ts)))


def training_solves(experiment: Experiment) -> list[Problem]:
    """The solves that the model, in the mode it is in, makes for the first training batch; no field is evaluated.

    Raises:
        CannotCompile: a solve has integrals, noise or breaks.
    """
    batches = experiment.task.batches(Split.TRAIN, batch_size=experiment.options.batch_size, epoch=0)
    recorded = RecordProblems()
    recording = replace(experiment, integrator=replace(experiment.integrator, gradient=recorded))
    with torch.enable_grad():  # which tells what is given that has a gradient
        recording.loss(next(batches).to(experiment.dtype))
    return recorded.problems


@contextmanager
def _as_in_training(model: nn.Module) -> Iterator[None]:
    """Put the model into training mode, in which it may make other solves; restore random state and buffers.

    Otherwise a resumed run would have other random numbers than an uninterrupted one.
    """
    buffers = Buffers.now(model)
    with torch.random.fork_rng(devices=[]):
        model.train()
        try:
            yield
        finally:
            buffers.restore()


def _check_possible(experiment: Experiment, processes: int) -> None:
    if experiment.model.numerics is Numerics.NONE:
        raise CannotCompile("the model solves nothing")
    if not experiment.objective.solves:
        raise CannotCompile("the model is trained without a solve")
    if experiment.device.type != "cpu":
        raise CannotCompile(f"steps are compiled for trainer.device=cpu only, and this is {experiment.device.type}")
    if experiment.integrator.field_dtype is not None:
        raise CannotCompile("compiled steps are of trainer.precision=fp32 or fp64")
    if processes > 1:
        raise CannotCompile("compiled steps are those of one process")


def _small(problem: Problem) -> bool:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        problem.field.field(problem.ts[0], problem.y0, *problem.field.given)
    return counter.get_total_flops() <= LARGEST


def _compile(experiment: Experiment, wanted: Problem) -> None:
    """Compile forward and backward steps, with outputs at the ends of steps and within them, by making such solves."""
    integrate, field, ts, y0 = experiment.integrator, wanted.field.field, wanted.ts, wanted.y0.detach()
    given = [z.detach().requires_grad_(z.requires_grad) for z in wanted.field.given]
    if not any(field is module for module in experiment.model.modules()):
        raise CannotCompile("the model makes its field anew for every solve")
    solve, parameters = integrate.compile(field, y0, given=given), [p for p in field.parameters() if p.requires_grad]
    counted = CountedField.around(field, Ledger(), given=given, attached=integrate.gradient.through_autograd)
    spans = [ts]
    if isinstance(integrate.solver, AdaptiveSolver) and len(ts) > 2:
        spans += [ts[[0, -1]], torch.stack([ts[0], ts[0] + (ts[-1] - ts[0]) / math.pi, ts[-1]])]
    for times in spans:
        with torch.enable_grad(), suppress(SolverFailed):  # training will fail likewise, with a crash dump
            ys = solve(Problem(field=counted, y0=y0, ts=times)).ys
            torch.autograd.grad(ys.sum(), parameters, allow_unused=True)
