"""The evaluations that an adaptive solver takes between two rows of a series."""

from ode_runner.batch import Batch
from ode_runner.experiment.experiment import Experiment
from ode_runner.models.series.series_model import SeriesModel
from ode_runner.solvers.base import AdaptiveSolver

MOST = 4  # evaluations per interval between rows: those of a single step of rk4


def sentence_on_rows(experiment: Experiment, batch: Batch, evaluations: float) -> str:
    """A sentence for the user if a forward pass has taken more than `MOST` evaluations per interval; otherwise ""."""
    model, solver = experiment.model, experiment.integrator.solver
    if not (isinstance(model, SeriesModel) and isinstance(solver, AdaptiveSolver)):
        return ""
    intervals = model.intervals(rows=batch.inputs.shape[1])
    if evaluations <= MOST * intervals:
        return ""
    return (
        f"{evaluations / intervals:.1f} evaluations in each of {intervals:,} intervals between rows: tolerances follow "
        f"every turn of a series. One step of rk4 in each takes {MOST}: solver=rk4 solver.num_steps=1."
    )
