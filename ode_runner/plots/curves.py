"""What changed during training."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ode_runner.plots import style

History = Sequence[Mapping[str, float]]


def draw_curves(history: History, *, quality: str = "accuracy") -> Figure:
    """Loss, the metric named `quality` and evaluations per solve against epochs."""
    figure = style.figure(12, 3.6)
    loss, middle, nfe = figure.subplots(1, 3)
    _draw(loss, history, {"train/loss": "training", "eval/loss": "validation"})
    loss.set(title="Loss", xlabel="epoch", yscale=_scale(history, "train/loss", "eval/loss"))
    _draw(middle, history, {f"train/{quality}": "training", f"eval/{quality}": "validation"})
    if not middle.lines:
        middle.axis("off")
        middle.text(0.5, 0.5, "measured in the test alone", ha="center", color=style.GREY)
    elif quality == "accuracy":
        middle.set(title="Accuracy", xlabel="epoch", ylim=(None, 1.0))
        middle.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g} %")
    else:
        scale = _scale(history, f"train/{quality}", f"eval/{quality}")
        middle.set(title=quality.replace("_", " ").upper(), xlabel="epoch", yscale=scale)
    keys = {"nfe/forward": "forward", "nfe/backward": "backward", "nfe/eval": "evaluation"}
    if any(row.get(key) for row in history for key in keys):
        _draw(nfe, history, keys)
        nfe.set(title="Evaluations of the field (NFE) per batch", xlabel="epoch", ylim=(0, None))
    else:
        nfe.axis("off")
        nfe.text(0.5, 0.5, "this model solves no ODE", ha="center", color=style.GREY)
    return figure


def _scale(history: History, *keys: str) -> str:
    """Logarithmic, unless a number is not positive, as a log density may be."""
    return "log" if all(row[key] > 0 for row in history for key in keys if key in row) else "linear"


def _draw(axes: Axes, history: History, keys: Mapping[str, str]) -> None:
    for (key, label), colour, line in zip(keys.items(), style.CLASSES, ("-", "--", ":"), strict=False):
        points = [(row["epoch"], row[key]) for row in history if key in row]
        if points:
            marker = "o" if len(points) <= 60 else ""  # more of them would hide the lines
            axes.plot(*zip(*points, strict=True), line, color=colour, label=label, marker=marker, markersize=3)
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend()
