"""The mass of a density on a grid, which is 1 if the density is solved well and the grid holds it."""

from collections.abc import Iterator, Mapping

from torch import Tensor

TOLERATED = 0.01  # difference of the mass from 1 above which there is a warning
COARSE = 0.1  # relative difference between thirds of a grid above which its cells are too large for the density


def mass_of(density: Tensor, cell: float) -> dict[str, float]:
    """The integral of a density over a grid of cell centres, and its largest change if every third centre is used.

    With every second one, a density that is symmetric about its centre would show no change, however large the cells.

    Args:
        density: one axis for each coordinate.
        cell: the area, or length, of a cell.
    """
    whole = float(density.double().sum())
    thirds = [part.double() for k in range(density.dim()) for part in _thirds(density.movedim(k, 0))]
    return {"mass": whole * cell, "mass_error": max(abs(whole - 3 * float(part.sum())) for part in thirds) * cell}


def _thirds(values: Tensor) -> list[Tensor]:
    return [values[first::3] for first in range(3)]


def is_wrong(metrics: Mapping[str, float], *, solved: bool) -> bool:
    """Whether the run's own solver gives a density with a mass that is not 1, as far as the grid can tell."""
    mass, error = metrics["test/mass"], metrics["test/mass_error"]
    seen = abs(mass - 1) > TOLERATED and error < COARSE * mass
    return seen and bool(metrics["nfe/eval"]) and (mass > 1 or not solved)


def mass_remarks(metrics: Mapping[str, float], *, solved: bool, finer: str) -> Iterator[str]:
    """A warning if the mass is not 1: either the cells of the grid are too large, or the solve is wrong.

    Args:
        solved: whether test points and samples have the densities that a fine solve gives them.
        finer: what makes the error of the solver smaller.
    """
    mass, error = metrics["test/mass"], metrics["test/mass_error"]
    if abs(mass - 1) <= TOLERATED:
        return
    if not error < COARSE * mass:
        yield (
            f"the density sums up to {mass:.4f}, and with every third of its cells to {error:.2g} more or less: the "
            "cells are too large for its peaks. Use a larger task.grid."
        )
    elif is_wrong(metrics, solved=solved):
        yield (
            f"the density has mass {mass:.4f} by the run's own solver, instead of 1: its NLL is not that of a "
            f"distribution. Use {finer}."
        )
    else:
        yield f"the density has mass {mass:.4f} on the grid, and the rest outside it, where there are no data."
