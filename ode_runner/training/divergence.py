"""Whether training went up instead of down, which a run that keeps its best weights would not show, or nowhere."""

import math
from collections.abc import Mapping, Sequence

from ode_runner.recording.display import shown

FEWEST = 8  # evaluations: of fewer, ups and downs say nothing
LEAST_EQUAL = 3  # evaluations that are all the same: the first comes after an epoch
SAME = 1e-4  # of the loss on validation, which is of the same samples every time
MARGIN = 0.1  # of where it began, by which what rose has risen at least


def divergence(rows: Sequence[Mapping[str, float]], *, criterion: tuple[str, bool], lr: float) -> str:
    """A sentence where both the loss of training and the criterion on validation ended worse than they began.

    Each of the last quarter of the epochs is compared with the first two. A loss whose terms are weighted anew on the
    way may rise, and validation may worsen by overfitting; both at once are neither.

    Args:
        rows: of metrics.jsonl.
        criterion: the name by which weights are chosen, and whether more of it is better.
        lr: the learning rate of the configuration.

    Returns:
        Nothing where training did not diverge, or there are fewer than 8 evaluations.
    """
    name, higher_is_better = criterion
    losses = _by_epoch(rows, "train/loss")
    judged = _by_epoch(rows, f"eval/{name}")
    if not (_rose(losses) and _rose([-value if higher_is_better else value for value in judged])):
        return ""
    ended, began = shown(name, judged[-1]), shown(name, judged[0])
    return (
        f"training diverged: its loss went from {losses[0]:.3g} to {losses[-1]:.3g}, and {ended} on validation is "
        f"worse than after the first epoch ({began}). Try an optimizer.lr below {lr:g}, or trainer.max_grad_norm=1."
    )


def standstill(rows: Sequence[Mapping[str, float]], *, lr: float) -> str:
    """A sentence where the loss on validation is the same after every epoch, and that of training where it began.

    A model that has learned all there is in its first epoch is the same ever after as well, but its loss began higher.

    Args:
        rows: of metrics.jsonl.
        lr: the learning rate of the configuration.

    Returns:
        Nothing where training changed something, or there are fewer than 3 evaluations.
    """
    judged, losses = _by_epoch(rows, "eval/loss"), [row["train/loss"] for row in rows if "train/loss" in row]
    if len(judged) < LEAST_EQUAL or not max(judged) - min(judged) <= SAME * abs(judged[-1]):
        return ""
    if not abs(losses[0] - losses[-1]) <= MARGIN * abs(losses[-1]):
        return ""
    return (
        f"training changed next to nothing: after each of {len(judged)} epochs the loss on validation is "
        f"{judged[-1]:.4g}. Try an optimizer.lr above {lr:g}, or another seed."
    )


def _by_epoch(rows: Sequence[Mapping[str, float]], name: str) -> list[float]:
    """The last number that each epoch has."""
    return list({math.ceil(row["epoch"]): row[name] for row in rows if name in row and "epoch" in row}.values())


def _rose(values: Sequence[float]) -> bool:
    """Whether each of the last quarter is above the first two."""
    if len(values) < FEWEST:
        return False
    began = max(values[:2])
    return min(values[-(len(values) // 4) :]) > began + MARGIN * abs(began)
