"""Tables of docs/choices.md: the members of each group, and which solvers, gradient modes and models go together."""

from typing import Any

from ode_runner.compatibility import check_compatible
from ode_runner.config.help import conf_dir
from ode_runner.errors import IncompatibleChoice
from ode_runner.models.base import Numerics
from tests.composition import composition
from tests.helpers import options
from tests.problems import build, named_class


def members(group: str) -> str:
    """Markdown: every choice of a group, with the first comment line of its yaml."""
    lines = ["| name | what |", "| --- | --- |"]
    lines += [f"| `{name}` | {_first_comment(group, name)} |" for name in options(group)]
    return "\n".join(lines)


def matrix() -> str:
    """Markdown: a row a solver, a column a gradient mode, in each cell the classes of models that it may serve.

    Models that may have the same solvers and gradient modes are one class, named by a letter.
    """
    pairs = [(solver, gradient) for solver in options("solver") for gradient in options("gradient")]
    classes = _classes(pairs)
    letters = {models: letter for letter, models in zip("ABCDEFGHIJ", classes, strict=False)}
    legend = [f"- {letter}: {', '.join(f'`{model}`' for model in models)}" for models, letter in letters.items()]
    gradients = options("gradient")
    rows = [f"| solver | {' | '.join(f'`{gradient}`' for gradient in gradients)} |"]
    rows.append("| --- |" + " :-: |" * len(gradients))
    for solver in options("solver"):
        cells = [
            " ".join(letter for models, letter in letters.items() if (solver, gradient) in classes[models]) or "·"
            for gradient in gradients
        ]
        rows.append(f"| `{solver}` | {' | '.join(cells)} |")
    return "\n".join([*legend, "", *rows])


def _classes(pairs: list[tuple[str, str]]) -> dict[tuple[str, ...], frozenset[tuple[str, str]]]:
    """Models that learn through a solver, those with the same admissible pairs together, by name."""
    located = {name: named_class("model", name) for name in options("model")}
    admissible: dict[frozenset[tuple[str, str]], list[str]] = {}
    for name, model in located.items():
        if model.numerics not in (Numerics.NONE, Numerics.SOLVER):
            found = frozenset(pair for pair in pairs if _compatible(name, model, *pair))
            admissible.setdefault(found, []).append(name)
    return {tuple(names): found for found, names in admissible.items()}


def _compatible(name: str, model: Any, solver: str, gradient: str) -> bool:
    choices = {"model": name, "solver": solver, "gradient": gradient}
    numerics = (build(composition, group, choices[group]) for group in ("solver", "gradient"))
    try:
        check_compatible(choices, model, *numerics)
    except IncompatibleChoice:
        return False
    return True


def _first_comment(group: str, name: str) -> str:
    lines = (conf_dir() / group / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    comments = (line[1:].strip() for line in lines if line.startswith("#"))
    return next(line for line in comments if not line.startswith("@")).replace("|", "\\|")
