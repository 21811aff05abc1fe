"""What a cell is worth: the numbers of the test split, and the task's pictures."""

import typing
from pathlib import Path

import torch

from ode_runner.batch import Split
from ode_runner.errors import NumericalFailure
from ode_runner.experiment.crash_dump import Evidence, demand_finite, evidence_of
from ode_runner.experiment.experiment import Cell
from ode_runner.experiment.per_sample_cost import Witness, scalars
from ode_runner.experiment.signals import StopRequest
from ode_runner.field import Phase
from ode_runner.recording.display import Display
from ode_runner.recording.logger import MetricLogger, MetricsFile
from ode_runner.recording.pictures import save_pictures


def judge(cell: Cell, stop: StopRequest, witness: Witness) -> dict[str, float]:
    """Metrics of the test split and of the learned field, and the evaluations that the split took per batch."""
    results = cell.evaluate(Split.TEST, stop, witness)
    nfe = {"nfe/eval": results.pop("nfe")}
    nfe |= {name.replace("_", "/", 1): results.pop(name) for name in list(results) if name.startswith("nfe_")}
    field = cell.model.learned_field()
    if field is not None:
        with torch.no_grad():
            results |= cell.task.judge_field(field)
    return {f"test/{name}": value for name, value in results.items()} | scalars(witness.found()) | nfe


def evidence_of_no_bounds(cell: Cell) -> Evidence | None:
    """The first batch of the test split whose loss is not finite."""
    cell.model.eval()
    where = f"on the {Split.TEST} split"
    try:
        for stored in cell.task.batches(Split.TEST, batch_size=cell.options.eval_batch_size, epoch=0):
            batch = stored.to(cell.dtype)
            watched = evidence_of(cell.model, batch, cell.device, learning=False, where=where)
            with watched, torch.no_grad(), cell.integrator.ledger.phase(Phase.DIAGNOSTICS):
                demand_finite(float(cell.loss(batch).total), "loss", where)
    except NumericalFailure as failure:
        return typing.cast(Evidence, failure.evidence)
    return None


def draw(cell: Cell, metrics: MetricsFile, *, folder: Path, display: Display, logger: MetricLogger, step: int) -> None:
    """The task's pictures, as files and in the logger; one that cannot be drawn is told of and left out."""
    cell.model.eval()
    with torch.no_grad(), cell.integrator.ledger.phase(Phase.DIAGNOSTICS):
        save_pictures(
            lambda: cell.task.figures(cell.findings(metrics.rows())),
            folder=folder, display=display, logger=logger, step=step,
        )  # fmt: skip
