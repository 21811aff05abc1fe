"""`predict=` of a density: the log density of every point of the test split, or of other data."""

from pathlib import Path

import torch

from ode_runner.batch import Split
from ode_runner.experiment.experiment import Experiment
from ode_runner.experiment.model_view import model_view
from ode_runner.experiment.signals import stop_on_signals
from ode_runner.recording.csv_table import write_csv
from ode_runner.recording.display import Display, counted
from ode_runner.tasks.density import DensityTask, in_parts

FILE = "log_density.csv"


@torch.no_grad()
def write_log_densities(experiment: Experiment, task: DensityTask, *, folder: Path) -> None:
    """Write `log_density.csv`: points in the data's units, and the log density of each in these units, in nats.

    Args:
        experiment: an experiment with a trained model that gives densities.
        task: its task, on its own points or on others.
        folder: where to write.
    """
    points = task.points[Split.TEST]
    with stop_on_signals() as stop:
        view = model_view(experiment, [], stop)
        by_model = in_parts(lambda inputs: view.predict(inputs, None), points)
        remarks = list(task.solve_remarks(view, points, by_model))
    log_density = by_model + task.log_determinant(points)
    table = task.density_table(log_density)
    write_csv(folder / FILE, table.header, table.rows)
    by = "" if view.answers else ", by a fine solve, because a sampler gives no density"
    nll = -float(log_density.double().mean())
    display = Display()
    display.say(f"{counted(len(points), 'point')}, NLL {nll:.4f} nats{by}: {folder / FILE}")
    for remark in remarks:
        display.say(remark, style="yellow")
