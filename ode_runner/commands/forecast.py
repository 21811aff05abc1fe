"""`predict=` of a run on series: a forecast beyond the data, with bands if runs of other seeds are beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ode_runner.commands.trained_run import TrainedRun, load_weights
from ode_runner.experiment.experiment import Experiment
from ode_runner.experiment.model_view import model_view
from ode_runner.experiment.signals import StopRequest, stop_on_signals
from ode_runner.models.copies import copied
from ode_runner.recording.checkpoint import Checkpoints
from ode_runner.recording.csv_table import write_csv
from ode_runner.recording.display import Display, counted
from ode_runner.recording.pictures import save_pictures
from ode_runner.recording.record import FILE, RunRecord, RunStatus
from ode_runner.recording.text_layout import aligned
from ode_runner.tasks.forecasting import LEFT_OUT, WIDTH, Forecast, ForecastingTask


def forecast(trained: TrainedRun, *, task: ForecastingTask, times: Sequence[float] | None, folder: Path) -> RunStatus:
    """Write `forecast.csv`, in columns and units of the series' file, and `forecast.png`.

    If runs that differ only in their seed are beside the run, the forecast is the mean of all of them, and the band is
    two of their standard deviations to each side: the uncertainty of the model, without the noise of measurements. If
    each forecast has a band of its own, such as that of a latent state, the band combines both.

    Args:
        trained: the run.
        task: its task, on its own series or on others.
        times: in the file's unit, increasing; None: beyond the end of each series.
        folder: where to write.

    Raises:
        RefusedInput: times are before the beginning of a series.
    """
    experiment, display = trained.experiment(), Display()
    with stop_on_signals() as stop:
        others = other_seeds(trained.record, trained.folder)
        found = forecast_of_seeds(experiment, others, task, times, stop)
    table = task.forecast_table(found)
    write_csv(folder / "forecast.csv", table.header, table.rows)
    save_pictures(lambda: [("forecast", task.forecast_figure(found))], folder=folder, display=display)
    for sentence in task.not_forecast([] if times is None else times):
        display.say(sentence)
    for line in _lines(table.header, table.rows):
        display.say(line)
    if others:
        names = ", ".join(map(str, [trained.record.seed, *others]))
        display.say(f"bands: mean of {len(others) + 1} seeds ({names}), and {found[0].band}")
    elif found[0].half_width is not None:
        display.say(f"bands: {found[0].band}. Those of runs of other seeds join them: train it with -m seed=0,1,2,3,4.")
    else:
        display.say("no bands: they take runs of other seeds beside this one. Train it with -m seed=0,1,2,3,4.")
    display.say(f"{counted(len(table.rows), 'row')}: {folder / 'forecast.csv'}, {folder / 'forecast.png'}")
    return RunStatus.COMPLETED


def forecast_of_seeds(
    experiment: Experiment,
    others: Mapping[int, Path],
    task: ForecastingTask,
    times: Sequence[float] | None,
    stop: StopRequest,
) -> list[Forecast]:
    """The mean forecast of a run and of `others` (see `other_seeds`), with a band; without others, the run's own."""
    members = [experiment, *(_with_weights_of(other, experiment) for other in others.values())]
    with torch.no_grad():
        each = [task.forecasts(model_view(member, [], stop), times) for member in members]
    return [together(same) for same in zip(*each, strict=True)]


def other_seeds(own: RunRecord, folder: Path) -> dict[int, Path]:
    """The completed runs beside this one with the same fingerprint, by seed; the seed is not part of a fingerprint."""
    found = {}
    for path in folder.parent.glob(f"*/{FILE}"):
        record = RunRecord.read(path.parent)
        alike = record is not None and record.fingerprint == own.fingerprint
        if record is not None and alike and record.status is RunStatus.COMPLETED:
            found[record.seed] = path.parent
    found.pop(own.seed, None)
    return dict(sorted(found.items()))


def _with_weights_of(folder: Path, experiment: Experiment) -> Experiment:
    record = RunRecord.read(folder)
    assert record is not None
    checkpoints = Checkpoints(folder / "checkpoints", fingerprint=record.fingerprint, seed=record.seed)
    model = copied(experiment.model)
    load_weights(model, checkpoints.load(checkpoints.best).get("model"), path=checkpoints.best)
    model.eval()
    return replace(experiment, model=model)


def together(same: Sequence[Forecast]) -> Forecast:
    """The mean of several seeds' forecasts of one series, with a band that includes their own bands, if any."""
    if len(same) == 1:
        return same[0]
    own = [one.half_width for one in same if one.half_width is not None]
    within = np.mean(np.square(own), axis=0) if own else 0.0
    half_width = np.sqrt(within + np.square(WIDTH * np.std([one.values for one in same], axis=0, ddof=1)))
    of = "latent states and seeds" if own else "seeds"
    band = f"{WIDTH:g} standard deviations of {of}{LEFT_OUT}"
    return replace(same[0], values=np.mean([one.values for one in same], axis=0), half_width=half_width, band=band)


def _lines(header: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """The first rows as text: numbers with five digits, times with as many as distinguish them."""
    most = 12
    cells = [[f"{cell:.5g}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows[:most]]
    clock = next((i for i, cell in enumerate(rows[0]) if isinstance(cell, float)), 0)  # numbers or dates
    for row, time in zip(cells, _apart([row[clock] for row in rows[:most]]), strict=True):
        row[clock] = time
    lines = ["  " + line for line in aligned([header, *cells], right=range(len(header)))]
    return [*lines, f"  and {len(rows) - most} more"] if len(rows) > most else lines


def _apart(times: Sequence[object]) -> list[str]:
    """Times as text; seconds since 1970 need ten digits."""
    for digits in (5, 8, 12, 17):
        cells = [f"{time:.{digits}g}" if isinstance(time, float) else str(time) for time in times]
        if len(set(cells)) == len(set(times)):
            break
    return cells
