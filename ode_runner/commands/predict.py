"""`predict=`: states and outputs of a trained continuous model at given times."""

import itertools
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ode_runner.batch import Answer, Split
from ode_runner.commands.forecast import forecast
from ode_runner.commands.trained_run import TrainedRun
from ode_runner.encoding import Encoding
from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.event import Events
from ode_runner.experiment.experiment import Experiment
from ode_runner.models.events import has_events
from ode_runner.quoting import as_typed
from ode_runner.recording.csv_table import write_csv
from ode_runner.recording.display import Display, counted
from ode_runner.recording.record import RunStatus
from ode_runner.tasks.forecasting import ForecastingTask
from ode_runner.types import Times, Trajectory

SHOWN = 10  # samples of the test split, where no inputs are given
MOST_TIMES = 1_000_000


def predict(trained: TrainedRun, *, times: Any, inputs: Any, folder: Path) -> RunStatus:
    """Write `states.csv`, one row per sample and time, and `states.npz` with inputs, times, states and outputs.

    Args:
        trained: the run.
        times: as typed, a list or `begin:end:count`; None for those of the task.
        inputs: as typed, a list of inputs of the task's shape; None for the first samples of the test split.
        folder: where to write.

    Raises:
        RefusedInput: times that do not increase, or inputs of another shape than the task's.
        IncompatibleChoice: the model has no states between its blocks.
    """
    experiment = trained.experiment()
    if Answer.STATES not in experiment.model.answers():
        raise IncompatibleChoice(
            f"model={trained.record.choices['model']} has blocks and no time between them. Use predict= on another."
        )
    if isinstance(experiment.task, ForecastingTask):
        if inputs is not None:
            raise RefusedInput("a forecast begins with the series that the run has read. Leave inputs out.")
        asked = None if times is None else typed_times(times).tolist()
        return forecast(trained, times=asked, folder=folder)
    batch = next(experiment.task.batches(Split.TEST, batch_size=SHOWN, epoch=0))
    wanted = batch.ts if times is None else _times(times, experiment)
    given = batch.inputs if inputs is None else _inputs(inputs, experiment)
    ts = wanted.to(experiment.device, experiment.dtype)
    with torch.no_grad():
        begun = experiment.model.encode(given.to(experiment.device, experiment.dtype))
        begin = batch.ts[:1].to(ts)
        events = _events(experiment, begun, ts, begin=begin)
        states = states_at(experiment, begun, ts, begin=begin)
        outputs = experiment.model.head(states.flatten(0, 1)).unflatten(0, states.shape[:2])
    write(folder, ts=ts, inputs=given, states=states, outputs=outputs, events=events)
    Display().say(
        f"{counted(states.shape[1], 'sample')} at {counted(len(ts), 'time')}, "
        f"states of shape {tuple(states.shape[2:])}: {folder / 'states.csv'}, {folder / 'states.npz'}"
    )
    return RunStatus.COMPLETED


def states_at(experiment: Experiment, begun: Encoding, ts: Times, *, begin: Times) -> Trajectory:
    """States (time, batch, *state) at increasing times `ts`; some may precede `begin` (1,), the model's first."""
    before, after = (torch.cat([begin, times]) for times in (ts[ts < begin].flip(0), ts[ts > begin]))
    integrate = experiment.integrate(len(begun.y0))
    earlier, later = (experiment.model.states(begun, times, integrate) for times in (before, after))
    return torch.cat([earlier[1:].flip(0), later if bool((ts == begin).any()) else later[1:]])


def _events(experiment: Experiment, begun: Encoding, ts: Times, *, begin: Times) -> Events | None:
    """Those on the way from `begin` to the last of `ts`; None where the model's solves have none.

    Raises:
        RefusedInput: a time precedes the beginning, and a reset cannot be undone.
    """
    if not has_events(type(experiment.task), type(experiment.model)):
        return None
    if bool((ts < begin).any()):
        raise RefusedInput(
            f"times begin at {float(ts[0]):g}, before the model does at {float(begin):g}, and what events have reset "
            "cannot be followed back. Leave those times out."
        )
    if bool((ts == begin).any()):
        return experiment.model.solution(begun, ts, experiment.integrator).events
    found = experiment.model.solution(begun, torch.cat([begin, ts]), experiment.integrator).events
    return found and found._replace(valid=found.valid[1:])


def write(
    folder: Path, *, ts: Times, inputs: Tensor, states: Trajectory, outputs: Trajectory, events: Events | None = None
) -> None:
    """Write both files; where there are events their times are in `states.npz`, and rows after the end are marked."""
    times, given, along, read_out = (array.cpu().numpy() for array in (ts, inputs, states, outputs))
    marks: dict[str, Any] = (
        {} if events is None else {"event_times": events.times.cpu().numpy(), "valid": events.valid.cpu().numpy()}
    )
    np.savez(folder / "states.npz", times=times, inputs=given, states=along, outputs=read_out, **marks)
    flat, read = (x.flatten(2).cpu().tolist() for x in (states, outputs))
    names = [f"{name}{i}" for name, part in (("y", flat), ("output", read)) for i in range(len(part[0][0]))]
    valid = None if events is None else events.valid.int().tolist()
    names += ["valid"] if valid else []
    rows = (
        [sample, t, *flat[time][sample], *read[time][sample], *([valid[time][sample]] if valid else [])]
        for sample, (time, t) in itertools.product(range(len(flat[0])), enumerate(ts.tolist()))
    )
    write_csv(folder / "states.csv", ["sample", "t", *names], rows)


def typed_times(times: Any) -> np.ndarray:
    """The times typed, `[0, 0.5, 2]` or `begin:end:count`, which increase: float64 (time,)."""
    _check_no_file("times", times, example="[0,0.5,2]")
    found = _spaced(times) if isinstance(times, str) else _numbers(times if isinstance(times, list) else [times])
    if found is None or found.ndim != 1 or len(found) == 0:
        raise RefusedInput(f"times={as_typed(times)} is neither a list, such as [0,0.5,2], nor begin:end:count.")
    if bool((found[1:] <= found[:-1]).any()):
        raise RefusedInput(f"times={as_typed(times)} must increase from each to the next.")
    return found


def _times(times: Any, experiment: Experiment) -> Times:
    """The times typed, as a tensor (time,) of the experiment's dtype."""
    found = typed_times(times)
    ts = torch.from_numpy(found).to(experiment.dtype)
    if not bool(ts.isfinite().all()) or bool((ts[1:] <= ts[:-1]).any()):
        raise RefusedInput(
            f"times={as_typed(times)} cannot be told apart in trainer.precision={experiment.options.precision}: "
            "they are too large, or too close together."
        )
    return ts


def _spaced(times: str) -> np.ndarray | None:
    """Equally spaced times from `begin:end:count`; None where the text has another form."""
    try:
        begin, end, count = times.split(":")
        first, last, many = float(begin), float(end), int(count)
    except ValueError:
        return None
    if many > MOST_TIMES:  # before memory is asked for
        raise RefusedInput(f"times={as_typed(times)} asks for more than {MOST_TIMES:,} times.")
    return np.linspace(first, last, many) if many > 0 and math.isfinite(last - first) else None


def _numbers(values: list[Any]) -> np.ndarray | None:
    """Nested lists of finite numbers as an array; None where something else is among them or lengths differ."""
    try:
        found = np.array(values)
    except (OverflowError, ValueError):  # lists of several lengths
        return None
    plain = found.dtype.kind in "iuf" and not _holds_a_truth_value(values)
    return found.astype(np.float64) if plain and bool(np.isfinite(found).all()) else None


def _holds_a_truth_value(values: Any) -> bool:
    """numpy makes a number of true where there are others."""
    return any(map(_holds_a_truth_value, values)) if isinstance(values, list) else isinstance(values, bool)


def _check_no_file(option: str, value: Any, *, example: str) -> None:
    """Raises RefusedInput where the value looks like the name of a file: files are not read."""
    if isinstance(value, str) and (Path(value).is_file() or re.search(r"[^:]\.\D|/", value)):
        raise RefusedInput(
            f"{option}={as_typed(value)}: no file is read. Type the numbers, such as {option}={example}, or "
            f'{option}="$(cat FILE)" for a file that holds them so.'
        )


def _inputs(inputs: Any, experiment: Experiment) -> Tensor:
    shape = experiment.task.spec.told_shape
    _check_no_file("inputs", inputs, example="[[1.0,2.0]]")
    found = _numbers(inputs) if isinstance(inputs, list) else None
    if found is None or len(found) == 0 or found.shape[1:] != shape:
        raise RefusedInput(
            f"inputs={as_typed(inputs)} must be a list of inputs, each of shape {shape}, such as [[1.0,2.0]]."
        )
    given = torch.from_numpy(found)
    if not bool(given.to(experiment.dtype).isfinite().all()):
        raise RefusedInput(
            f"inputs={as_typed(inputs)} are too large for trainer.precision={experiment.options.precision}."
        )
    return given
