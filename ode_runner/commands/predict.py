"""`predict=`: the predictions of a trained model for given inputs, the test split or other data, at given times."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ode_runner.batch import Answer, Split
from ode_runner.commands.classify import classify
from ode_runner.commands.forecast import forecast
from ode_runner.commands.log_densities import write_log_densities
from ode_runner.commands.trained_run import TrainedRun
from ode_runner.commands.typed_numbers import check_no_file, numbers, typed_dates, typed_times
from ode_runner.encoding import Encoding
from ode_runner.errors import IncompatibleChoice, RefusedInput, as_typed
from ode_runner.event import Events
from ode_runner.experiment.experiment import Experiment
from ode_runner.models.base import Model
from ode_runner.models.events import has_events
from ode_runner.plots.trajectories import draw_predictions
from ode_runner.recording.csv_table import write_csv
from ode_runner.recording.display import Display, counted
from ode_runner.recording.pictures import save_pictures
from ode_runner.recording.record import RunStatus
from ode_runner.tasks.base import Task
from ode_runner.tasks.classification import Classification
from ode_runner.tasks.density import DensityTask
from ode_runner.tasks.forecasting import ForecastingTask
from ode_runner.tasks.own_data import OwnDataTask
from ode_runner.tasks.texts.token_task import TokenTask
from ode_runner.types import Times, Trajectory

MOST_TYPED = 8  # numbers of an input of which an example is shown
SHOWN = 10  # samples of the test split, if no inputs are given


def predict(trained: TrainedRun, *, times: Any, inputs: Any, data: Any, folder: Path) -> RunStatus:
    """Write predictions as files that suit the task.

    A forecast of series is in `forecast.csv`, log densities of all points are in `log_density.csv`, and classes are in
    `predictions.csv`, for every sample of the test split or for the inputs. States, if the model has some, are in
    `states.npz` and in `states.csv`, one row per sample and time; if a network draws several initial states of a
    sample, one row per draw as well.

    Args:
        trained: the run.
        times: as typed, a list or `begin:end:count`; None for those of the task.
        inputs: as typed, a list of inputs of the task's shape; None for the test split (states: its first samples).
        data: as typed, a file or folder that replaces the run's own data; None for the run's own.
        folder: where to write.

    Raises:
        RefusedInput: times do not increase, inputs do not have the task's shape, or it does not take such data.
        IncompatibleChoice: the model predicts nothing.
    """
    experiment = trained.experiment()
    task = experiment.task if data is None else _task_of(data, trained, experiment, inputs=inputs)
    if isinstance(task, ForecastingTask):
        return _forecast(trained, task, times=times, inputs=inputs, folder=folder)
    if isinstance(task, TokenTask):
        raise IncompatibleChoice(
            f"model={trained.record.choices['model']} draws texts. Type how many: predict=RUN samples=4; a text with "
            "blanks, which they complete, is inputs=."
        )
    if isinstance(task, DensityTask) and isinstance(task, OwnDataTask) and inputs is not None:
        raise RefusedInput(f"inputs={as_typed(inputs)}: points are read of a file. Type its path: data=new.csv.")
    answers = experiment.model.answers()
    classifies = isinstance(task, Classification) and times is None
    tells_density = isinstance(task, DensityTask) and Answer.LOG_DENSITY in answers
    tells_density = tells_density and times is None and inputs is None
    if Answer.STATES not in answers and not classifies and not tells_density:
        raise _says_nothing(trained, experiment.model, times=times)
    if Answer.STATES in answers and not tells_density:
        experiment.check_follows()
    given = None if inputs is None else _inputs(inputs, experiment)
    if isinstance(task, Classification) and classifies:
        classify(experiment, task, inputs=given, folder=folder)
    if isinstance(task, DensityTask) and tells_density:
        write_log_densities(experiment, task, folder=folder)
    if Answer.STATES in answers and experiment.follows:
        _write_states(experiment, task, times=times, inputs=given, folder=folder)
    return RunStatus.COMPLETED


def _says_nothing(trained: TrainedRun, model: Model, *, times: Any) -> IncompatibleChoice:
    name, answers = f"model={trained.record.choices['model']}", model.answers()
    if Answer.VALUES not in answers and Answer.LOG_DENSITY not in answers:
        return IncompatibleChoice(f"{name} draws samples, and gives no answers to inputs. Type how many: samples=4.")
    instead = "Leave times out." if times is not None else "Use predict= on another."
    return IncompatibleChoice(f"{name} {model.untimed}. {instead}")


def _forecast(trained: TrainedRun, task: ForecastingTask, *, times: Any, inputs: Any, folder: Path) -> RunStatus:
    if inputs is not None:
        raise RefusedInput("a forecast begins with the series that the run has read. Leave inputs out.")
    typed = typed_dates if task.dated else typed_times
    return forecast(trained, task=task, times=None if times is None else typed(times).tolist(), folder=folder)


def _task_of(data: Any, trained: TrainedRun, experiment: Experiment, *, inputs: Any) -> Task:
    """The run's task on the data typed."""
    task, name = experiment.task, trained.record.choices["task"]
    if not isinstance(data, str):
        raise RefusedInput(f"data={as_typed(data)} is no file. Type its path: data=new.csv.")
    if inputs is not None:
        raise RefusedInput("inputs= are typed and data= are read. Leave one of them out.")
    if not isinstance(task, OwnDataTask):
        raise RefusedInput(f"data={data}: task={name} does not read your own files. Leave data out.")
    if isinstance(task, ForecastingTask):
        experiment.model.check_new_series()
    return task.with_data(Path(data))


def _write_states(experiment: Experiment, task: Task, *, times: Any, inputs: Tensor | None, folder: Path) -> None:
    batch = next(task.batches(Split.TEST, batch_size=SHOWN, epoch=0))
    wanted = batch.ts if times is None else _times(times, experiment)
    given = batch.inputs if inputs is None else inputs
    ts = wanted.to(experiment.device, experiment.dtype)
    with torch.no_grad():
        dtype = experiment.dtype if given.is_floating_point() else given.dtype  # tokens are whole numbers
        encoding = experiment.model.encode(given.to(experiment.device, dtype))
        begin = batch.ts[:1].to(ts)
        events = _events(experiment, encoding, ts, begin=begin)
        states = states_at(experiment, encoding, ts, begin=begin)
        outputs = experiment.model.head(states.flatten(0, 1)).unflatten(0, states.shape[:2])
    names = task.coordinates() if len(task.coordinates()) == outputs[0, 0].numel() else ()
    same = bool(names) and experiment.model.learned_field() is not None and states.shape == outputs.shape
    heads = _heads(states, outputs, names, same=same)
    clock = experiment.model.time_heading
    write(folder, ts=ts, inputs=given, states=states, outputs=outputs, heads=heads, events=events, clock=clock)
    draws = states.shape[1] // len(given)
    written = f"{folder / 'states.csv'}, {folder / 'states.npz'}"
    display = Display()
    if names and len(ts) > 1:
        marked = outputs if events is None else outputs.masked_fill(~events.valid[..., None], torch.nan)
        mean = marked.unflatten(1, (draws, len(given))).mean(dim=1)
        save_pictures(lambda: [("states", draw_predictions(ts, mean, names))], folder=folder, display=display)
        written += f", {folder / 'states.png'}"
    of_each = f", {draws} draws of each," if draws > 1 else ""
    display.say(
        f"{counted(len(given), 'sample')}{of_each} at {counted(len(ts), 'time')}, "
        f"states of shape {tuple(states.shape[2:])}: {written}"
    )


def _heads(states: Trajectory, outputs: Trajectory, names: Sequence[str], *, same: bool) -> list[str]:
    """The headings of the columns: states, then outputs by the task's names of coordinates, without backslashes.

    `same`: states and outputs are the same numbers, so that there is one heading for both.
    """
    plain = [name.replace("\\", "") for name in names]
    own = plain or [f"output{i}" for i in range(outputs[0, 0].numel())]
    return own if same else [*(f"y{i}" for i in range(states[0, 0].numel())), *own]


def states_at(experiment: Experiment, encoding: Encoding, ts: Times, *, begin: Times) -> Trajectory:
    """States (time, batch, *state) at increasing times `ts`; some may precede `begin` (1,), where the model begins."""
    before, after = (torch.cat([begin, times]) for times in (ts[ts < begin].flip(0), ts[ts > begin]))
    integrate = experiment.integrate(len(encoding.y0))
    earlier, later = (experiment.model.states(encoding, times, integrate) for times in (before, after))
    return torch.cat([earlier[1:].flip(0), later if bool((ts == begin).any()) else later[1:]])


def _events(experiment: Experiment, encoding: Encoding, ts: Times, *, begin: Times) -> Events | None:
    """The events from `begin` to the last of `ts`; None if the model's solves have none.

    Raises:
        RefusedInput: a time precedes `begin`, because a reset cannot be undone.
    """
    if not has_events(type(experiment.task), type(experiment.model)):
        return None
    if bool((ts < begin).any()):
        raise RefusedInput(
            f"times begin at {float(ts[0]):g}, before the model does at {float(begin):g}, and resets by events cannot "
            "be undone. Leave those times out."
        )
    if bool((ts == begin).any()):
        return experiment.model.solution(encoding, ts, experiment.integrator).events
    found = experiment.model.solution(encoding, torch.cat([begin, ts]), experiment.integrator).events
    return None if found is None else found._replace(valid=found.valid[1:])


def write(
    folder: Path,
    *,
    ts: Times,
    inputs: Tensor,
    states: Trajectory,
    outputs: Trajectory,
    heads: Sequence[str],
    events: Events | None = None,
    clock: str = "t",
) -> None:
    """Write both files. Event times are in `states.npz`, and rows after the end of a sample are marked.

    `heads` are the headings of states and outputs, or of states only, and `clock` that of times. If several states of
    each input are drawn, the sample axis has all samples of the first draw, then of the second, and so on; both files
    have sample and draw.
    """
    times, given, along, read_out = (array.cpu().numpy() for array in (ts, inputs, states, outputs))
    marks: dict[str, Any] = {}
    draws, samples = np.divmod(np.arange(states.shape[1]), len(inputs))
    if several := states.shape[1] > len(inputs):
        marks = {"sample": samples, "draw": draws}
    if events is not None:
        marks |= {"event_times": events.times.cpu().numpy(), "valid": events.valid.cpu().numpy()}
    np.savez(folder / "states.npz", times=times, inputs=given, states=along, outputs=read_out, **marks)
    flat, read = (x.flatten(2).cpu().tolist() for x in (states, outputs))
    valid = None if events is None else events.valid.int().tolist()
    names = [*heads, *(["valid"] if valid else [])]
    of_rows = [[sample, draw] if several else [sample] for sample, draw in zip(samples, draws, strict=True)]
    rows = (
        [*of_rows[row], t, *(flat[time][row] + read[time][row])[: len(heads)], *([valid[time][row]] if valid else [])]
        for row, (time, t) in itertools.product(np.argsort(samples, kind="stable"), enumerate(ts.tolist()))
    )
    write_csv(folder / "states.csv", ["sample", *(["draw"] if several else []), clock, *names], rows)


def _times(times: Any, experiment: Experiment) -> Times:
    """The typed times, as a tensor (time,) of the experiment's dtype."""
    found = typed_times(times)
    ts = torch.from_numpy(found).to(experiment.dtype)
    if not bool(ts.isfinite().all()) or bool((ts[1:] <= ts[:-1]).any()):
        raise RefusedInput(
            f"times={as_typed(times)} cannot be distinguished in trainer.precision={experiment.options.precision}: "
            "they are too large, or too close together."
        )
    return ts


def _inputs(inputs: Any, experiment: Experiment) -> Tensor:
    spec, shape = experiment.task.spec, experiment.task.spec.conditioned_shape
    size, example = math.prod(shape), None
    if size <= MOST_TYPED:
        ascending = np.arange(size) % spec.tokens if spec.tokens else np.arange(1.0, size + 1)
        example = as_typed(ascending.reshape(1, *shape).tolist())
    check_no_file("inputs", inputs, example=example)
    found = numbers(inputs) if isinstance(inputs, list) else None
    if found is None or len(found) == 0 or found.shape[1:] != shape:
        raise RefusedInput(
            f"inputs={as_typed(inputs)} must be a list of inputs, each of shape {shape}"
            f"{f', such as {example}' if example else '. From Python, ode.load(FOLDER).predict(array) takes an array'}."
        )
    given = torch.from_numpy(found)
    if not bool(given.to(experiment.dtype).isfinite().all()):
        raise RefusedInput(
            f"inputs={as_typed(inputs)} are too large for trainer.precision={experiment.options.precision}."
        )
    return spec.checked(given)
