"""The implicit Euler method."""

from dataclasses import dataclass, field
from typing import ClassVar, final

from ode_runner.solvers.implicit.diagonally_implicit import FixedImplicit
from ode_runner.solvers.tableau import Tableau


@final
@dataclass(frozen=True, kw_only=True)
class ImplicitEuler(FixedImplicit):
    """Order 1, L-stable: it damps stiff components, and many others, too."""

    order: int = field(default=1, init=False)
    tableau: ClassVar[Tableau] = Tableau(
        a=((1.0,),),
        b=(1.0,),
    )
