"""The problems that a model poses in training, and compiled solves of such problems."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

import torch
from torch import Tensor, nn

from ode_runner.batch import Batch, Split
from ode_runner.compiling.solves import CompiledSolve
from ode_runner.compiling.stepper import check_pieces
from ode_runner.devices.side_effects import without_side_effects
from ode_runner.errors import CannotCompile, SolverFailed
from ode_runner.experiment.experiment import Experiment
from ode_runner.experiment.task_contract import first_of_training
from ode_runner.fields.counted_field import CountedField
from ode_runner.fields.ledger import Ledger
from ode_runner.gradients.breaks import with_any_span
from ode_runner.gradients.recorded import RecordProblems
from ode_runner.problem import Problem
from ode_runner.solvers.base import AdaptiveSolver
from ode_runner.solvers.stochastic import StochasticSolver
from ode_runner.training.accumulation import check_even, part_sizes


def pass_sizes(experiment: Experiment) -> dict[int, int]:
    """How many passes an epoch makes of batches of each size, or of their parts, by falling number."""
    options, samples = experiment.options, experiment.task.size(Split.TRAIN)
    whole, left = divmod(samples, options.batch_size)
    found = Counter[int]()
    for size, count in ((options.batch_size, whole), (left, min(left, 1))):
        for part in part_sizes(size, options.accumulate) if count else ():
            found[part] += count
    return dict(found.most_common())


def first_batch(experiment: Experiment, size: int | None = None) -> Batch:
    """A training batch of the size that most passes have, or of another size in an epoch: the first of its samples."""
    first = first_of_training(experiment.task, batch_size=experiment.options.batch_size).to(experiment.dtype)
    if (count := experiment.options.accumulate) is not None:
        check_even(first, experiment.task, f"trainer.accumulate={count}")
    size = size or next(iter(pass_sizes(experiment)))
    return first.rows(slice(0, size), every_time=experiment.task.spec.every_time) if size < len(first.inputs) else first


def training_solves(experiment: Experiment, batch: Batch | None = None) -> list[Problem]:
    """The solves that the model makes for a training batch, in its present mode. No field is evaluated.

    Args:
        experiment: has the model.
        batch: a training batch; None: the first one.

    Raises:
        CannotCompile: a solve has an event, or noise without a stochastic solver of fixed step, or breaks on a GPU,
            beside integrals or with a solver that does not go on from break to break in compiled code; or its field is
            not a module of the model.
    """
    problems = training_problems(experiment, batch)
    for problem in problems:
        check_recorded(problem, experiment)
    return problems


def training_problems(experiment: Experiment, batch: Batch | None = None) -> list[Problem]:
    """The problems that the model poses for a training batch (None: the first), in its present mode, not solved."""
    recorded = RecordProblems()
    recording = replace(experiment, integrator=replace(experiment.integrator, gradient=recorded))
    with torch.enable_grad():  # so that requires_grad tells which of the given tensors need a gradient
        recording.loss(first_batch(experiment) if batch is None else batch)
    return recorded.problems


def check_recorded(problem: Problem, experiment: Experiment) -> None:
    """Raises CannotCompile unless there may be compiled code for a solve: see `training_solves`."""
    solver = experiment.integrator.solver
    if not any(problem.field.field is module for module in experiment.model.modules()):
        raise CannotCompile("the model makes its field anew for every solve")
    noise = problem.field.noise is not None and not isinstance(solver, StochasticSolver)
    if noise or problem.event is not None:
        raise CannotCompile("the solve has noise or an event")
    if problem.breaks:
        check_pieces(solver, problem)


@contextmanager
def undisturbed(model: nn.Module, device: torch.device, *, training: bool) -> Iterator[None]:
    """Put the model into training or evaluation mode, on which its solves depend; restore random state and buffers.

    Without that, a resumed run would draw other random numbers than an uninterrupted one. The mode is not restored.
    """
    with without_side_effects(model, device):
        model.train(training)
        yield


def compile_lazily(experiment: Experiment, wanted: Problem, *, fuses: bool = False) -> CompiledSolve:
    """Have the integrator use compiled code for solves like this one; it is compiled at the first such solve.

    Raises:
        CannotCompile: such solves cannot be compiled.
    """
    field, given = wanted.field.field, wanted.field.of_field(_detached(wanted.field.given))
    along = {"integrals": wanted.field.options()["integrals"], "breaks": bool(wanted.breaks)}
    return experiment.integrator.compile(field, wanted.y0.detach(), given=given, fuses=fuses, **along)


def _detached(given: Sequence[Tensor]) -> list[Tensor]:
    return [z.detach().requires_grad_(z.requires_grad) for z in given]


def compile_now(experiment: Experiment, wanted: Problem, *, fuses: bool = False) -> CompiledSolve:
    """Have the integrator use compiled code for solves like this one, and compile it now, by making some solves.

    These have outputs at the ends of steps and within steps. Returns the compiled solve.
    """
    integrate, field, ts, y0 = experiment.integrator, wanted.field.field, wanted.ts, wanted.y0.detach()
    solve, integrals = compile_lazily(experiment, wanted, fuses=fuses), wanted.field.options()["integrals"]
    parameters = [p for p in field.parameters() if p.requires_grad]
    options = {"given": _detached(wanted.field.given), "integrals": integrals, "noise": wanted.field.noise}
    counted = CountedField.around(field, Ledger(), attached=integrate.gradient.through_autograd, **options)
    example = with_any_span(Problem(field=counted, y0=y0, ts=ts, breaks=wanted.breaks))
    spans = [ts]
    if isinstance(integrate.solver, AdaptiveSolver) and len(ts) > 2:
        spans += [ts[[0, -1]], torch.stack([ts[0], ts[0] + (ts[-1] - ts[0]) / math.pi, ts[-1]])]
    for times in spans:
        with torch.enable_grad(), suppress(SolverFailed):  # training will fail likewise, with a crash dump
            ys = solve(replace(example, ts=times)).ys
            torch.autograd.grad(ys.sum(), parameters, allow_unused=True)
    return solve
