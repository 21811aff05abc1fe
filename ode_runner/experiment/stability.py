"""The picture of a solver's stability region, with the eigenvalues of the linear field that it solves."""

from collections.abc import Iterator

import torch

from ode_runner.fields.structured_field import MatrixField
from ode_runner.plots.figure_types import Figure
from ode_runner.plots.stability import draw_stability
from ode_runner.solvers.base import FixedStepSolver, Solver
from ode_runner.solvers.stability import amplification
from ode_runner.types import State

LEFT, RIGHT, ACROSS = -5.0, 2.0, 4.0  # the part of the complex plane that the picture shows, at least
CELLS = 241  # along each axis


def stability_figures(solver: Solver, field: MatrixField, y0: State) -> Iterator[tuple[str, Figure]]:
    """A picture, if the region is known. With fixed steps, it also shows step size times the field's eigenvalues."""
    eigenvalues, size = torch.zeros(0, dtype=torch.complex128), None
    if isinstance(solver, FixedStepSolver):
        size = solver.size
        eigenvalues = size * torch.linalg.eigvals(field.matrix(y0.new_zeros(()), y0).cpu().double())
    left = min([LEFT, *(1.2 * eigenvalues.real).tolist()])
    across = max([ACROSS, *(1.2 * eigenvalues.imag.abs()).tolist()])
    x, y = torch.linspace(left, RIGHT, CELLS).double(), torch.linspace(-across, across, CELLS).double()
    growth = amplification(solver, torch.complex(*torch.meshgrid(x, y, indexing="xy")))
    if growth is not None:
        yield "stability", draw_stability(x, y, growth, eigenvalues=eigenvalues, size=size)
