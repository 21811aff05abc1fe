"""Experiments with differential equations in deep learning: task x model x network x solver x gradient mode.

    import ode_runner as ode

    run = ode.train("task=half_moons", "solver=rk4")
    run.predict([[0.5, 0.25]])

The names are imported on first use, so that `import ode_runner` itself is quick.
"""

import importlib
from typing import TYPE_CHECKING, Any

from ode_runner.config import moved_modules
from ode_runner.config.version import VERSION as __version__

if TYPE_CHECKING:
    from ode_runner.api import RefusedInput, Run, RunFailed, compile, integrate, load, runs, train

moved_modules.find()

__all__ = ["RefusedInput", "Run", "RunFailed", "__version__", "compile", "integrate", "load", "runs", "train"]


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})  # what TAB offers


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'ode_runner' has no attribute '{name}'")
    return getattr(importlib.import_module("ode_runner.api"), name)
