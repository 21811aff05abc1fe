"""Tableaus that several methods use."""

from ode_runner.solvers.tableau import Tableau

EULER = Tableau(a=((),), b=(1.0,))
HEUN = Tableau(a=((), (1.0,)), b=(1 / 2, 1 / 2))
KUTTA = Tableau(a=((), (1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)), b=(1 / 6, 1 / 3, 1 / 3, 1 / 6))  # of order 4
