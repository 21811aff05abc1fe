"""What implicit one-step solvers share."""

from dataclasses import dataclass

from ode_runner.solvers.one_step import OneStepSolver


@dataclass(frozen=True, kw_only=True)
class ImplicitSolver(OneStepSolver):
    """Some stages are equations of the size of the state, solved by Newton's method.

    How many evaluations that takes depends on the field and cannot be predicted. Up to 512 equations a sample are
    factorised; more are solved by GMRES without a matrix, which is for fields that are not very stiff: the number of
    products grows with the root of the stiffness where the Jacobian is symmetric.
    """
