"""Evaluations and steps of each sample of the test split, for solvers that choose steps for each sample."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ode_runner.batch import Batch
from ode_runner.fields.ledger import EachSample
from ode_runner.recording.csv_table import write_csv
from ode_runner.recording.display import Display
from ode_runner.recording.logger import MetricLogger
from ode_runner.recording.pictures import save_pictures
from ode_runner.tasks.base import PerSampleCost, Task

FILE = "difficulty.csv"
SHOWN = 5  # hardest samples that are printed


class PerSampleCounts:
    """Collects the counts of every sample over the batches of an evaluation."""

    def __init__(self) -> None:
        self._counts: list[Tensor] = []  # (samples, 3): evaluations, accepted, rejected
        self._labels: list[Tensor] = []
        self._parts: list[str] = []

    def add(self, batch: Batch, each: Sequence[EachSample]) -> None:
        """Add a batch and its solves; no effect if the samples of the batch share their steps."""
        if not each:
            return
        self._counts.append(counts_of(each, len(batch.inputs)))
        self._parts += [batch.part] * len(batch.inputs)
        if batch.targets.dim() == 1:
            self._labels.append(batch.targets.cpu())

    def found(self) -> PerSampleCost | None:
        """The counts of all samples; None if no sample had steps of its own."""
        if not self._counts:
            return None
        evaluations, accepted, rejected = torch.cat(self._counts).unbind(dim=1)
        return PerSampleCost(
            evaluations=evaluations,
            accepted=accepted,
            rejected=rejected,
            labels=torch.cat(self._labels) if self._labels else None,
            parts=self._parts,
        )


def counts_of(each: Sequence[EachSample], samples: int) -> Tensor:
    """Evaluations, accepted and rejected steps (samples, 3), summed over the solves of one batch.

    If a sample has several states in a solve, stacked along the batch axis, their mean counts. A solve is ignored if
    the number of its states is not a multiple of the samples.
    """
    total = torch.zeros(samples, 3, dtype=torch.float64)
    for one in each:
        counts = torch.stack([one.evaluations, one.accepted, one.rejected], dim=1).double()
        if len(counts) % samples == 0:
            total += counts.view(-1, samples, 3).mean(dim=0)
    return total


def batch_scalars(each: Sequence[EachSample], samples: int) -> dict[str, float]:
    """Mean and largest evaluations per sample of a training batch; empty if all samples have the same steps."""
    return _scalars(counts_of(each, samples)[:, 0], "solver") if each else {}


def scalars(found: PerSampleCost | None) -> dict[str, float]:
    """Mean and largest evaluations per sample of the test split; empty if there are none."""
    return _scalars(found.evaluations, "test") if found is not None else {}


def report(
    found: PerSampleCost | None,
    task: Task,
    *,
    folder: Path,
    display: Display,
    logger: MetricLogger | None,
    step: int = 0,
    pictures: bool = True,
) -> None:
    """Write the counts as csv into `folder`, print the hardest samples, and draw the task's pictures of them."""
    if found is None:
        return
    _write(found, folder / FILE)
    _print_hardest(found, folder / FILE, display)
    figures = partial(task.figures_of_per_sample_cost, found)
    if pictures:
        save_pictures(figures, folder=folder / "plots", display=display, logger=logger, step=step)


def _scalars(evaluations: Tensor, prefix: str) -> dict[str, float]:
    mean, most = float(evaluations.mean()), float(evaluations.max())
    return {f"{prefix}/evaluations_per_sample_mean": mean, f"{prefix}/evaluations_per_sample_max": most}


def _rows(found: PerSampleCost) -> list[Mapping[str, object]]:
    """A row for each sample; samples are numbered from 0 within each part of the split."""
    seen: dict[str, int] = {}
    labels = found.labels.tolist() if found.labels is not None else [""] * len(found.parts)
    counts = torch.stack([found.evaluations, found.accepted, found.rejected], dim=1).tolist()
    rows: list[Mapping[str, object]] = []
    for part, label, (evaluations, accepted, rejected) in zip(found.parts, labels, counts, strict=True):
        sample = seen[part] = seen.get(part, -1) + 1
        taken = {"evaluations": f"{evaluations:g}", "accepted": f"{accepted:g}", "rejected": f"{rejected:g}"}
        rows.append({"part": part, "sample": sample, "label": label, **taken})
    return rows


def _write(found: PerSampleCost, path: Path) -> None:
    rows = _rows(found)
    write_csv(path, list(rows[0]), (list(row.values()) for row in rows))


def _print_hardest(found: PerSampleCost, path: Path, display: Display) -> None:
    evaluations = found.evaluations
    mean, least, most = float(evaluations.mean()), float(evaluations.min()), float(evaluations.max())
    if least == most:
        display.say(f"evaluations per test sample: {most:g}, of each of them")
        return
    hardest = int((evaluations == most).sum())
    display.say(
        f"evaluations per test sample: mean {mean:.1f}, least {least:g}, most {most:g} "
        f"({hardest:,} of {len(evaluations):,}; all: {path})." + (" The hardest:" if hardest <= SHOWN else "")
    )
    if hardest > SHOWN:
        return  # too many samples take the most to name some of them
    rows = _rows(found)
    shown = [rows[i] for i in evaluations.argsort(descending=True, stable=True)[:SHOWN].tolist()]
    columns = [name for name in rows[0] if any(row[name] != "" for row in rows)]
    for row in [{name: name for name in columns}, *shown]:
        display.say("  " + "  ".join(f"{row[name]!s:>11}" for name in columns))
