"""Detects training that diverged, which a run that keeps its best weights would not show, or that stood still."""

import math
from collections.abc import Mapping, Sequence

from ode_runner.recording.display import shown

FEWEST = 8  # evaluations: ups and downs of fewer say nothing
LEAST_EQUAL = 3  # equal evaluations that count as a standstill; the first evaluation comes after an epoch
SAME = 1e-4  # relative: validation losses closer than this are equal, since the samples are the same every time
BEGIN_ELSEWHERE = "Begin elsewhere: with another seed, or another model.start where there is one."
MARGIN = 0.1  # relative: a loss has risen if it is higher than at first by more than this


def divergence(rows: Sequence[Mapping[str, float]], *, criterion: tuple[str, bool], lr: float | None) -> str:
    """A sentence if both the training loss and the criterion on validation ended worse than they began.

    Each epoch of the last quarter is compared with the first two epochs. A training loss alone may rise because the
    weights of its terms change, and validation alone may worsen by overfitting; if both do, it is neither.

    Args:
        rows: the rows of metrics.jsonl.
        criterion: the metric by which weights are chosen, and whether higher is better.
        lr: the learning rate of the configuration; None: the optimizer has none.

    Returns:
        "" if training did not diverge, or there are fewer than 8 evaluations.
    """
    name, higher_is_better = criterion
    losses = _by_epoch(rows, "train/loss")
    judged = _by_epoch(rows, f"eval/{name}")
    if not (_rose(losses) and _rose([-value if higher_is_better else value for value in judged])):
        return ""
    advice = BEGIN_ELSEWHERE if lr is None else f"Try an optimizer.lr below {lr:g}, or trainer.max_grad_norm=1."
    ended, began = shown(name, judged[-1]), shown(name, judged[0])
    return (
        f"training diverged: its loss went from {losses[0]:.3g} to {losses[-1]:.3g}, and {ended} on validation is "
        f"worse than after the first epoch ({began}). {advice}"
    )


def standstill(rows: Sequence[Mapping[str, float]], *, lr: float | None) -> str:
    """A sentence if the validation loss is the same after every epoch, and the training loss ends where it began.

    A model that learns everything in its first epoch does not change afterwards either, but its loss began higher.

    Args:
        rows: the rows of metrics.jsonl.
        lr: the learning rate of the configuration; None: the optimizer has none.

    Returns:
        "" if training changed something, or there are fewer than 3 evaluations.
    """
    judged, losses = _by_epoch(rows, "eval/loss"), [row["train/loss"] for row in rows if "train/loss" in row]
    if len(judged) < LEAST_EQUAL or not max(judged) - min(judged) <= SAME * abs(judged[-1]):
        return ""
    if not abs(losses[0] - losses[-1]) <= MARGIN * abs(losses[-1]):
        return ""
    advice = BEGIN_ELSEWHERE if lr is None else f"Try an optimizer.lr above {lr:g}, or another seed."
    return (
        f"training changed next to nothing: after each of {len(judged)} epochs the loss on validation is "
        f"{judged[-1]:.4g}. {advice}"
    )


def _by_epoch(rows: Sequence[Mapping[str, float]], name: str) -> list[float]:
    """The last value of each epoch."""
    return list({math.ceil(row["epoch"]): row[name] for row in rows if name in row and "epoch" in row}.values())


def _rose(values: Sequence[float]) -> bool:
    """Whether every value of the last quarter is above the first two by more than the margin."""
    if len(values) < FEWEST:
        return False
    began = max(values[:2])
    return min(values[-(len(values) // 4) :]) > began + MARGIN * abs(began)
