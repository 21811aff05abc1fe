"""No diagnostics."""

from dataclasses import dataclass
from typing import final

from ode_runner.analysis.diagnostics import Diagnostics
from ode_runner.experiment.experiment import Experiment


@final
@dataclass(frozen=True, kw_only=True)
class NoDiagnostics(Diagnostics):
    """Measures nothing."""

    def measure(self, experiment: Experiment, *, epoch: int) -> dict[str, float]:
        del experiment, epoch
        return {}
