"""Hydra looks for plugins in this namespace only; the sweeper itself is part of the program."""

from ode_runner.sweeps.sweeper import Cells


class CellSweeper(Cells):
    """What conf/hydra/sweeper/cells.yaml names."""
