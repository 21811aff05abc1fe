"""What `import ode_runner` offers to a notebook or a script: the command line's runs, and the engine alone."""

from ode_runner.api.loading import Run, load
from ode_runner.api.solving import compile, integrate
from ode_runner.api.table import runs
from ode_runner.api.training import train

__all__ = ["Run", "compile", "integrate", "load", "runs", "train"]
