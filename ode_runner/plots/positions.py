"""The accuracy at each position of a sequence."""

from torch import Tensor

from ode_runner.plots import style
from ode_runner.plots.figure_types import Figure


def draw_accuracy_by_position(accuracies: Tensor) -> Figure:
    """The share of correct tokens (positions,) at each position."""
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    accuracies = accuracies.detach().cpu().double()
    figure = style.figure(5.6, 3.6)
    axes = figure.subplots()
    axes.bar(range(1, len(accuracies) + 1), accuracies.numpy(), color=style.BLUE)
    axes.set(xlabel="position", ylabel="right tokens", ylim=(0, 1.02))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_title(f"{float(accuracies.mean()):.1%} of the test tokens are right", fontsize=10)
    axes.grid(axis="y", alpha=0.3)
    return figure
