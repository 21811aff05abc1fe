"""Compiles the solves of validation, where training is compiled on a CPU and validates often enough."""

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
from ode_runner.gradients.recorded import RecordProblems
from ode_runner.problem import Problem
from ode_runner.training.prepare_compiled import FEWEST_SOLVES, repaid
from ode_runner.training.training_problems import check_posed, undisturbed


class Kind(NamedTuple):
    """Solves that differ in values and times alone."""

    problem: Problem  # the first of them
    often: int  # in one evaluation of a split


def compile_validation(experiment: Experiment, *, validations: int, steps: int, say: Callable[[str], None]) -> float:
    """Compile the solves of validation that a run makes a hundred times or more; returns the seconds that it takes.

    Which these are depends on the configuration only, so that a resumed run makes the same. Others stay eager.

    Args:
        experiment: as it is validated, by an average of the weights, say; its integrator is given the solves.
        validations: of the whole training.
        steps: likewise.
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
    """The kinds of solves that the model, in the mode it is in, makes for a split; no field is evaluated."""
    found, counts, known = dict[Hashable, Problem](), Counter[Hashable](), dict[Hashable, list[Problem]]()
    for batch in experiment.task.batches(split, batch_size=experiment.options.eval_batch_size, epoch=0):
        shape = (batch.inputs.shape, batch.part)
        if shape not in known:
            recorded = RecordProblems()
            integrator = replace(experiment.integrator, gradient=recorded, ledger=Ledger())  # no session counts this
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
    """By making such a solve; returns whether it is compiled: not where that would take longer than it saves.

    Raises:
        CannotCompile: there is no C code for it; to evaluate it, PyTorch's compiler would take too long.
    """
    check_posed(wanted, experiment)
    stochastic = isinstance(wanted.field.field, StochasticField)  # of which the solve itself finds out
    if not stochastic and not has_c_code(wanted):
        raise CannotCompile("an operation of the field has no C code")
    if experiment.options.compile == "auto" and not repaid(wanted, steps):
        return False
    solve = experiment.integrator.compile_evaluation(wanted)
    counted = CountedField.around(wanted.field.field, Ledger(), **wanted.field.options())
    with suppress(SolverFailed):  # validation will fail likewise, with a crash dump
        solve(replace(wanted, field=counted))
    return True
