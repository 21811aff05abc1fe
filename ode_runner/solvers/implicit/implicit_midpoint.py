"""The implicit midpoint rule."""

from dataclasses import dataclass, field
from typing import ClassVar, final

from ode_runner.solvers.implicit.diagonally_implicit import FixedImplicit
from ode_runner.solvers.tableau import Tableau


@final
@dataclass(frozen=True, kw_only=True)
class ImplicitMidpoint(FixedImplicit):
    """Order 2, A-stable, symmetric and symplectic: it conserves quadratic invariants and has no numerical damping."""

    order: int = field(default=2, init=False)
    tableau: ClassVar[Tableau] = Tableau(
        a=((1 / 2,),),
        b=(1.0,),
    )
