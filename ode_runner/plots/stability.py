"""The region of absolute stability of a method, and the problem's eigenvalues in it."""

from torch import Tensor

from ode_runner.plots import style
from ode_runner.plots.figure_types import Figure


def draw_stability(x: Tensor, y: Tensor, growth: Tensor, *, eigenvalues: Tensor, size: float | None) -> Figure:
    """The region where |growth| is at most 1, on a grid of real parts `x` and imaginary parts `y`: (y, x).

    `eigenvalues`: step size times the problem's eigenvalues, complex; empty without a single step size or matrix.
    """
    figure = style.figure(6.2, 5.0)
    axes = figure.subplots()
    axes.contourf(x, y, growth, levels=[0.0, 1.0], colors=[style.SKY], alpha=0.35)
    axes.contour(x, y, growth, levels=[1.0], colors=[style.BLUE], linewidths=1.3)
    axes.axhline(0, color="black", linewidth=0.6)
    axes.axvline(0, color="black", linewidth=0.6)
    if len(eigenvalues):
        axes.plot(
            eigenvalues.real,
            eigenvalues.imag,
            "o",
            color=style.VERMILION,
            label=f"eigenvalues, at a step of {size:.4g}",
        )
        axes.legend(loc="upper left", fontsize=8)
    axes.set(xlabel=r"Re $h\lambda$", ylabel=r"Im $h\lambda$", title="Shaded: stable, growth at most 1", aspect="equal")
    axes.grid(alpha=0.3)
    return figure
