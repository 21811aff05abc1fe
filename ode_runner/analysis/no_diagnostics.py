"""No diagnosis."""

from dataclasses import dataclass
from typing import final

from ode_runner.analysis.diagnostics import Diagnostics
from ode_runner.experiment.experiment import Cell


@final
@dataclass(frozen=True, kw_only=True)
class NoDiagnostics(Diagnostics):
    """Looks at nothing."""

    def look(self, cell: Cell, *, epoch: int) -> dict[str, float]:
        del cell, epoch
        return {}
