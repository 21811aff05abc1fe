"""The README's table of what goes together, generated from the capabilities themselves: `python -m tests.readme`."""

from functools import cache
from typing import Any

from hydra import compose, initialize_config_dir

from ode_runner.compatibility import demand_compatible
from ode_runner.construct import construct, locate
from ode_runner.errors import IncompatibleChoice
from ode_runner.help import conf_dir
from ode_runner.models.base import Numerics
from tests.helpers import options


def matrix() -> str:
    """Markdown: which models each solver and gradient mode may serve."""
    gradients = options("gradient")
    models = {name: locate(_configuration("model", name), "model") for name in options("model")}
    models = {name: model for name, model in models.items() if model.numerics in (Numerics.ANY, Numerics.DISCRETE)}
    lines = [f"| solver | {' | '.join(gradients)} |", "| --- |" + " --- |" * len(gradients)]
    for solver in options("solver"):
        cells = [_cell(solver, gradient, models) for gradient in gradients]
        lines.append(f"| `{solver}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(solver: str, gradient: str, models: dict[str, Any]) -> str:
    made = {
        axis: construct(_configuration(axis, name), axis) for axis, name in (("solver", solver), ("gradient", gradient))
    }
    return " ".join(name for name, model in models.items() if _compatible(name, model, solver, gradient, made)) or "·"


def _compatible(name: str, model: Any, solver: str, gradient: str, made: dict[str, Any]) -> bool:
    try:
        demand_compatible({"model": name, "solver": solver, "gradient": gradient}, model, **made)
    except IncompatibleChoice:
        return False
    return True


@cache
def _configuration(group: str, name: str) -> Any:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("config", overrides=[f"{group}={name}"])


if __name__ == "__main__":
    print(matrix())
