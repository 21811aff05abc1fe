"""`evaluate=`: test metrics of a trained model under another solver, and whether the model is a valid ODE."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch

from ode_runner.commands.other_options import sentence_on_options
from ode_runner.commands.trained_run import TrainedRun
from ode_runner.commands.unused_words import typed_now
from ode_runner.config.arguments import root_of
from ode_runner.experiment.experiment import Experiment
from ode_runner.experiment.model_view import model_view
from ode_runner.experiment.per_sample_cost import PerSampleCounts, report
from ode_runner.experiment.signals import StopRequest, stop_on_signals
from ode_runner.experiment.test_split import evaluate_test, invalid, measured_with
from ode_runner.field import StochasticField
from ode_runner.models.base import Numerics
from ode_runner.models.copies import convert, copied
from ode_runner.recording.atomic_write import atomic_write
from ode_runner.recording.bookkeeping import COMMANDS, OBSERVERS, PLACEMENT, PROCESSES
from ode_runner.recording.display import Display, shown
from ode_runner.recording.environment import describe_environment
from ode_runner.recording.record import UNUSED, RunStatus, utc_now
from ode_runner.recording.strict_json import to_json
from ode_runner.solvers.base import AdaptiveSolver, FixedStepSolver, Solver
from ode_runner.solvers.explicit.rk4 import RK4
from ode_runner.solvers.runge_kutta import FixedStepRungeKutta
from ode_runner.solvers.samplers.sampler import Sampler
from ode_runner.tasks.base import ModelView, Task
from ode_runner.tasks.sampled import SampledTask

SLACK_HIGHER, SLACK_LOWER = 0.01, 0.1  # allowed relative worsening of an accuracy, and of an error
TRAINING = "training"  # a column of the printed table
UNDOING = ("solver.num_steps=null", "solver.step_size=null")  # added to what is typed if the other of the two is


class Verdict(NamedTuple):
    """What the columns say of a model."""

    sentence: str
    depends_on_solver: bool = False  # so that metrics under another solver say nothing of its training


def evaluate(
    trained: TrainedRun, *, solver: str, own_solver: Solver, own_task: Callable[[Experiment], Task], folder: Path
) -> RunStatus:
    """Evaluate a run on the test split under another solver and under the training solver made much more accurate.

    A model that has learned an ODE keeps its test metrics when its own solver takes smaller steps; one that has
    learned to use the solver's error loses them. The test metrics under the training solver come from the record. They
    are measured again if the task has other options than in training, the user's own code has changed since, or the run
    is not completed. Writes `evaluation.json` into `folder` and prints a table.

    Args:
        trained: the run.
        solver: the name of the solver that the run's experiment has now; "-" if its model uses none.
        own_solver: the solver that the run was trained with.
        own_task: makes the task that the run was trained with, from an experiment with the command's task.
        folder: where to write.

    Ott, Katiyar, Hennig, Tiemann. ResNet After All: Neural ODEs and Their Numerical Solution. ICLR 2021.
    """
    experiment, counts, finer_solver = trained.experiment(), PerSampleCounts(), much_finer(own_solver)
    asked, finer = _heading(trained, solver), _in_words(finer_solver)
    with stop_on_signals() as stop:
        view = model_view(experiment, [], stop)
        columns = {TRAINING: trained.record.metrics}
        if trained.other_task or trained.other_code or trained.unfinished:
            columns[TRAINING] = _tested(_with_solver(experiment, own_solver), stop)
        columns[asked] = evaluate_test(experiment, view, stop, counts)
        columns[asked] |= _apart(experiment, view, own_solver, stop)
        if experiment.model.numerics is not Numerics.NONE:
            columns[finer] = _tested(_in_double(experiment, finer_solver), stop)
        found = {"training": columns[TRAINING], "asked": columns[asked], "finer": columns.get(finer, {})}
        verdict = _verdict(trained, experiment, solver, **found)
    content = {
        "run": str(trained.folder),
        "run_status": str(trained.record.status),
        "solver": {"name": solver, **_plain(experiment.integrator.solver)},
        "metrics": columns[asked],
        "measured_with": measured_with(experiment, view),
        "invalid": invalid(experiment, columns[asked]),
        "training": {"solver": _plain(own_solver), "metrics": columns[TRAINING]},
        "much_finer": {"solver": _plain(finer_solver), "metrics": columns.get(finer, {})},
        "verdict": verdict.sentence,
        "environment": describe_environment(experiment.device),
        "finished": utc_now(),
    }
    atomic_write(folder / "evaluation.json", lambda file: file.write(to_json(content, indent=2).encode()))
    if trained.other_task:
        _say_options(trained, own=own_task(experiment), now=experiment.task)
    _print(experiment, columns, verdict, counts, asked=asked, folder=folder)
    return RunStatus.COMPLETED


def _tested(experiment: Experiment, stop: StopRequest) -> dict[str, float]:
    """The metrics of the test split."""
    return evaluate_test(experiment, model_view(experiment, [], stop), stop, PerSampleCounts())


def _say_options(trained: TrainedRun, *, own: Task, now: Task) -> None:
    recorded = trained.record.config["task"]
    Display().say(sentence_on_options(trained.other_task, recorded, own=own, now=now))


def _print(
    experiment: Experiment,
    columns: Mapping[str, dict[str, float]],
    verdict: Verdict,
    counts: PerSampleCounts,
    *,
    asked: str,
    folder: Path,
) -> None:
    display = Display()
    display.comparison(columns)
    display.say(verdict.sentence, style="bold")
    if not verdict.depends_on_solver:
        for remark in experiment.remarks(columns[asked]):
            display.say(remark, style="yellow")
    report(counts.found(), experiment.task, folder=folder, display=display, logger=None)
    display.say(f"recorded in {folder / 'evaluation.json'}")


def _heading(trained: TrainedRun, solver: str) -> str:
    """The heading of the column of the command: the solver, and options that were typed."""
    left_out = ("gradient", *COMMANDS, *PLACEMENT, *PROCESSES, *OBSERVERS)
    typed = [word for word in typed_now(trained.folder) if root_of(word) not in left_out]
    typed = ["corrected" if root_of(word) == "correction" else word for word in typed]  # the path would be too long
    options = [word.removeprefix("solver.") for word in typed if not word.startswith("solver=") and word not in UNDOING]
    return " ".join([*([] if solver == UNUSED else [f"solver={solver}"]), *options]) or "again"


def _in_words(solver: Solver) -> str:
    """The heading of the column of much finer steps."""
    name = solver.shown_name.removeprefix("solver=")
    if isinstance(solver, AdaptiveSolver):
        return f"{name}, rtol={solver.rtol:.3g}"
    if solver == solver.refined():  # without steps; this column is computed in float64
        return f"{name}, fp64"
    steps = solver.num_steps if isinstance(solver, FixedStepSolver | Sampler) else None
    return f"{name}, {steps} steps" if steps else f"{name}, finer"


def _verdict(
    trained: TrainedRun,
    experiment: Experiment,
    solver: str,
    *,
    training: dict[str, float],
    asked: dict[str, float],
    finer: dict[str, float],
) -> Verdict:
    """From the test metrics under the solver of training, the solver typed, and much finer steps."""
    if experiment.model.numerics is Numerics.NONE:
        return Verdict(f"model={trained.record.choices['model']} solves no ODE.")
    if experiment.model.generator() is None and issubclass(experiment.integrator.solver.fields, StochasticField):
        said = "A stochastic equation, which is no ODE: the columns show the effect of steps with the same noise."
        return Verdict(said)
    if experiment.model.objective.solves:
        return describe_as_ode(experiment, training, finer)
    generator = experiment.model.generator()
    if generator is not None and generator.rounded:
        said = f"Learned without a solve. Samples by solver={solver} are rounded to tokens: compare them with the data."
        return Verdict(said)
    return Verdict(describe_samples(solver, asked))


def _apart(experiment: Experiment, view: ModelView, own_solver: Solver, stop: StopRequest) -> dict[str, float]:
    """The root mean square distance between samples by this solver and by the run's own, from the same noise.

    Empty if there are no samples, they are rounded to tokens, or one of the solvers draws noise of its own.
    """
    task, drawing = experiment.task, experiment.integrator.solver.draws or own_solver.draws
    generator = experiment.model.generator()
    if generator is None or generator.rounded or drawing or not isinstance(task, SampledTask):
        return {}
    own = _with_solver(experiment, own_solver)
    ours, theirs = (task.drawn(one).path[-1].double() for one in (view, model_view(own, [], stop)))
    return {"test/apart_from_own": float((ours - theirs).flatten(1).square().sum(dim=1).mean().sqrt())}


def _with_solver(experiment: Experiment, solver: Solver) -> Experiment:
    return dataclasses.replace(experiment, integrator=dataclasses.replace(experiment.integrator, solver=solver))


def describe_samples(solver: str, metrics: Mapping[str, float]) -> str:
    """A sentence about a field that was learned without a solve, so that it cannot depend on a solver's error.

    Args:
        solver: the solver by which samples were drawn.
        metrics: the metrics of these samples.
    """
    apart = metrics.get("test/endpoint_rmse")
    if apart is None:
        return f"Learned without a solve. solver={solver} draws noise on the way: compare its samples with the data."
    said = f"Learned without a solve: samples by solver={solver} are {apart:.3g} from the ends of a fine solve"
    other = metrics.get("test/apart_from_own")
    return f"{said}." if other is None else f"{said}, and {other:.3g} from those by the run's own solver."


def describe_as_ode(experiment: Experiment, trained: dict[str, float], finer: dict[str, float]) -> Verdict:
    """Whether the model is an ODE, from its test metrics.

    Args:
        experiment: has the model and the task, whose objective is compared.
        trained: test metrics under the training solver.
        finer: test metrics under the same solver with much smaller steps.
    """
    if not experiment.parameters():
        return Verdict("The true field, without training: the columns show the results of the solver.")
    task, key = experiment.task, f"test/{experiment.task.objective}"
    before, after = trained[key], finer[key]
    worse = before - after if task.higher_is_better else after - before
    slack = SLACK_HIGHER if task.higher_is_better else SLACK_LOWER
    change = f"{task.objective} on the test split goes from {shown(key, before)} to {shown(key, after)}"
    if not worse <= slack * abs(before):  # not `worse >`, so that NaN counts as worse
        because = "so the model depends on its training solver's error"
        return Verdict(f"Not an ODE: {change} under much finer steps, {because}.", depends_on_solver=True)
    return Verdict(f"A valid ODE: {change} under much finer steps.")


def much_finer(solver: Solver) -> Solver:
    """The solver of training with an error that is small beside that of training.

    An explicit Runge-Kutta method of an order below 4 becomes the classical one of order 4, with shorter steps, too.
    """
    finer = solver.refined()
    if isinstance(finer, FixedStepRungeKutta) and finer.order < RK4.order:
        return RK4(num_steps=finer.num_steps, step_size=finer.step_size)
    low = isinstance(finer, FixedStepSolver) and finer.of_ordinary_equations and finer.order < 3
    return finer.refined() if low else finer


def _in_double(experiment: Experiment, solver: Solver) -> Experiment:
    """The experiment with another solver, in float64, where rounding does not hide the effect of its steps."""
    integrator = dataclasses.replace(experiment.integrator, solver=solver, field_dtype=None)
    finer = dataclasses.replace(experiment, integrator=integrator)
    if experiment.device.type == "mps":  # mps has no float64
        return finer
    options = dataclasses.replace(experiment.options, precision="fp64")
    return dataclasses.replace(finer, model=convert(copied(experiment.model), dtype=torch.float64), options=options)


def _plain(thing: object) -> dict[str, object]:
    """The class and the options of a solver, including those of nested objects such as another solver."""
    options = {key: _plain_value(value) for key, value in vars(thing).items() if value is not None}
    return {"class": type(thing).__name__, **options}


def _plain_value(value: object) -> object:
    if isinstance(value, Solver) or dataclasses.is_dataclass(value):
        return _plain(value)
    if isinstance(value, list | tuple):
        return [_plain_value(one) for one in value]
    return value if isinstance(value, str | int | float | Mapping) else type(value).__name__
