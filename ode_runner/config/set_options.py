"""Removes options that a model's yaml sets for the solver, if the solver that is typed does not have them."""

import re
from collections.abc import Iterator, Sequence

from ode_runner.config.choices import content_of, default_options
from ode_runner.config.exclusive_options import ALTERNATIVES, one_of_each


def completed(words: Sequence[str]) -> list[str]:
    """The overrides of one run with those that they imply: see `one_of_each`, and `~` for options without a place."""
    complete = _possible(one_of_each(words))
    return [*complete, *_without_place(complete)]


def _possible(words: Sequence[str]) -> list[str]:
    """The words without `other=null` if the solver typed has no option `other`: then the option typed is at fault."""
    typed = {word.partition("=")[0]: word.partition("=")[2] for word in words}
    solver = typed.get("solver", "")
    offered = default_options("solver", solver) if re.fullmatch(r"[\w-]+", solver) else {}
    pairs = [order for pair in ALTERNATIVES for order in (pair, pair[::-1]) if offered]
    absent = {f"{other}=null" for option, other in pairs if option in typed and other.partition(".")[2] not in offered}
    return [word for word in words if word not in absent]


def _without_place(words: Sequence[str]) -> Iterator[str]:
    """`~solver.num_steps` if the model sets it, for fixed steps, and the solver typed is adaptive."""
    typed = {word.partition("=")[0]: word.partition("=")[2] for word in words}
    model, solver = typed.get("model", ""), typed.get("solver", "")
    if not all(re.fullmatch(r"[\w-]+", name) for name in (model, solver)):
        return  # one of them is not typed, or has several values; then each cell is treated by itself
    offered = default_options("solver", solver)
    for choice in (("model", model), ("task_model", f"{typed.get('task', '')}_{model}")):
        for option in content_of(*choice).get("solver") or {}:
            word = f"~solver.{option}"
            if offered and option not in offered and word not in typed and f"solver.{option}" not in typed:
                yield word
