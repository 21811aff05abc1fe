"""The Python interface, `import ode_runner`: runs as on the command line, and the solvers alone."""

from ode_runner.api.loading import load
from ode_runner.api.run import Run
from ode_runner.api.solving import compile, integrate
from ode_runner.api.table import runs
from ode_runner.api.training import RunFailed, train
from ode_runner.errors import RefusedInput

__all__ = ["RefusedInput", "Run", "RunFailed", "compile", "integrate", "load", "runs", "train"]
