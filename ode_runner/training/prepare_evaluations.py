"""Compiles the solves of validation, if training is compiled on a CPU and validation is frequent enough."""

import time
from collections import Counter
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

import torch

from ode_runner.batch import Split
from ode_runner.compiling.solves import kind_of_problem
from ode_runner.compiling.stepper import has_c_code
from ode_runner.errors import CannotCompile, SolverFailed
from ode_runner.experiment.experiment import Experiment
from ode_runner.field import StochasticField
from ode_runner.fields.counted_field import CountedField
from ode_runner.fields.ledger import Ledger
from ode_runner.gradients.breaks import with_any_span
from ode_runner.gradients.recorded import RecordProblems
from ode_runner.problem import Problem
from ode_runner.training.prepare_compiled import FEWEST_SOLVES, repaid
from ode_runner.training.training_problems import check_recorded, undisturbed


class Kind(NamedTuple):
    """Solves that differ only in values and times."""

    problem: Problem  # the first of them
    often: int  # how many there are in one evaluation of a split


def compile_validation(experiment: Experiment, *, validations: int, steps: int, say: Callable[[str], None]) -> float:
    """Compile the validation solves that a run makes a hundred times or more; returns the seconds that this took.

    The choice depends on the configuration only, so that a resumed run makes the same one. Other solves stay eager.

    Args:
        experiment: the experiment that is validated, perhaps with averaged weights; its integrator gets the solves.
        validations: the number of validations of the whole training.
        steps: the number of steps of the whole training.
        say: prints a line.
    """
    begun, compiled, refused = time.perf_counter(), 0, list[str]()
    with undisturbed(experiment.model, experiment.device, training=False):
        for problem, count in solves_of(experiment, Split.VALIDATION):
            if count * validations >= FEWEST_SOLVES:
                try:
                    compiled += _compile(experiment, problem, steps=steps)
                except CannotCompile as reason:
                    refused.append(str(reason))
    if refused:
        some = f"{compiled} of {compiled + len(refused)} kinds of its solves are, and not the others"
        said = f"compiled in part: {some}" if compiled else "not compiled"
        say(f"validation is {said}: {'; '.join(dict.fromkeys(refused))}")
    return time.perf_counter() - begun


@torch.no_grad()
def solves_of(experiment: Experiment, split: Split) -> list[Kind]:
    """The kinds of solves that the model makes for a split, in its present mode. No field is evaluated."""
    found, counts, known = dict[Hashable, Problem](), Counter[Hashable](), dict[Hashable, list[Problem]]()
    for batch in experiment.task.batches(split, batch_size=experiment.options.eval_batch_size, epoch=0):
        shape = (batch.inputs.shape, batch.part)
        if shape not in known:
            recorded = RecordProblems()
            integrator = replace(experiment.integrator, gradient=recorded, ledger=Ledger())  # not counted in the run's
            recording = replace(experiment, integrator=integrator)
            recording.loss(batch.to(experiment.dtype))
            known[shape] = recorded.problems
        for problem in known[shape]:
            kind = kind_of_problem(problem)
            found.setdefault(kind, problem)
            counts[kind] += 1
    return [Kind(problem, counts[kind]) for kind, problem in found.items()]


@torch.no_grad()
def _compile(experiment: Experiment, wanted: Problem, *, steps: int) -> bool:
    """Compile by making such a solve; returns False, and compiles nothing, if that takes longer than it saves.

    Raises:
        CannotCompile: there is no C code for it, and PyTorch's compiler would take too long for an evaluation.
    """
    check_recorded(wanted, experiment)
    stochastic = isinstance(wanted.field.field, StochasticField)  # the solve itself finds out if it has C code
    if not stochastic and not has_c_code(wanted):
        raise CannotCompile("an operation of the field has no C code")
    if experiment.options.compile == "auto" and not repaid(wanted, steps):
        return False
    solve = experiment.integrator.compile_evaluation(wanted)
    counted = CountedField.around(wanted.field.field, Ledger(), **wanted.field.options())
    with suppress(SolverFailed):  # validation will fail likewise, with a crash dump
        solve(with_any_span(replace(wanted, field=counted)))
    return True
