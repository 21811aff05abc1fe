"""What `import ode_runner` offers to a notebook or a script: the command line's runs, and the engine alone."""

from ode_runner.api.loading import Run, load
from ode_runner.api.solving import compile, integrate
from ode_runner.api.table import runs
from ode_runner.api.training import RunFailed, train
from ode_runner.errors import RefusedInput

__all__ = ["RefusedInput", "Run", "RunFailed", "compile", "integrate", "load", "runs", "train"]
