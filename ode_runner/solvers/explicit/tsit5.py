"""Tsitouras's pair of orders 5 and 4."""

from dataclasses import dataclass, field
from typing import ClassVar, final

from ode_runner.solvers.embedded import EmbeddedRungeKutta
from ode_runner.solvers.tableau import EmbeddedTableau


@final
@dataclass(frozen=True, kw_only=True)
class Tsit5(EmbeddedRungeKutta):
    """Order 5(4), first same as last: six evaluations per attempt; often fewer steps than `dopri5`.

    The dense output of order 4 is the quartic with the states and slopes at both ends and the state in the middle.

    Tsitouras. Runge-Kutta pairs of order 5(4) satisfying only the first column simplifying assumption.
    Computers and Mathematics with Applications 62, 2011.
    """

    order: int = field(default=5, init=False)
    tableau: ClassVar[EmbeddedTableau] = EmbeddedTableau(
        a=(
            (),
            (0.161,),
            (-0.008480655492356989, 0.335480655492357),
            (2.8971530571054935, -6.359448489975075, 4.3622954328695815),
            (5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525),
            (5.86145544294642, -12.92096931784711, 8.159367898576159, -0.071584973281401, -0.028269050394068383),
            (0.09646076681806523, 0.01, 0.4798896504144996, 1.379008574103742, -3.290069515436081, 2.324710524099774),
        ),
        b=(
            0.09646076681806523,
            0.01,
            0.4798896504144996,
            1.379008574103742,
            -3.290069515436081,
            2.324710524099774,
            0.0,
        ),
        b_error=(
            0.00178001105222577714,
            0.0008164344596567469,
            -0.007880878010261995,
            0.1447110071732629,
            -0.5823571654525552,
            0.45808210592918697,
            -1 / 66,
        ),
        middle=(
            0.10741235230096871,
            0.01135625,
            0.39560903056045305,
            -0.34475214352593553,
            1.3161853649581645,
            -1.0170608542936508,
            1 / 32,
        ),
    )
