"""Checks the expectations of recipes against the records of their runs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ode_runner.errors import RefusedInput
from ode_runner.recipes.recipe import FACTORS, Expectation, Recipe
from ode_runner.report.rows import Statistic, without_repeats
from ode_runner.report.runs import Run
from ode_runner.report.where import choose

Runs = Mapping[str, Sequence[Run]]  # by the name of the recipe; runs of any status


class BandCheck(StrEnum):
    """Whether a result lies in its band, or why this cannot be decided."""

    PASS = "pass"
    FAIL = "fail"
    NO_BAND = "no band"
    INCOMPLETE = "incomplete"  # some seeds are missing, and a mean over the others decides nothing
    NOT_RUN = "not run"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """An expectation, and the values that its runs reached, in the unit of the expectation."""

    recipe: Recipe
    expectation: Expectation
    values: Sequence[float]  # one for each seed that has a value

    @property
    def statistic(self) -> Statistic | None:
        return Statistic.of(self.values)

    @property
    def band_check(self) -> BandCheck:
        band, statistic = self.expectation.band, self.statistic
        if statistic is None:
            return BandCheck.NOT_RUN
        if len(self.values) < len(self.recipe.seeds):
            return BandCheck.INCOMPLETE
        if band is None:
            return BandCheck.NO_BAND
        return BandCheck.PASS if band[0] <= statistic.mean <= band[1] else BandCheck.FAIL


def outcomes(recipes: Mapping[str, Recipe], runs: Runs) -> list[Outcome]:
    """The outcome of every expectation of every recipe."""
    return [
        Outcome(recipe=recipe, expectation=expectation, values=_values(recipe, expectation, recipes, runs))
        for recipe in recipes.values()
        for expectation in recipe.expect
    ]


def latest(recipe: Recipe, runs: Sequence[Run], conditions: Sequence[str]) -> dict[int, Run]:
    """The completed runs that satisfy the conditions, by seed.

    After a change of a recipe, runs from before it are still in the same folder. If there are several configurations,
    only the one that finished last counts.
    """
    completed = [run for run in runs if run.completed and run.record.seed in recipe.seeds]
    try:
        chosen = choose(completed, conditions) if completed else []
    except RefusedInput:  # no run satisfies them
        return {}
    if not chosen:
        return {}
    identity = max(chosen, key=lambda run: run.record.finished).identity
    kept, _ = without_repeats([run for run in chosen if run.identity == identity])
    return {run.record.seed: run for run in kept}


def _values(recipe: Recipe, expectation: Expectation, recipes: Mapping[str, Recipe], runs: Runs) -> list[float]:
    ours = _measured(recipe, expectation.metric, runs, expectation.where)
    if expectation.against_metric:
        theirs = _measured(recipe, expectation.against_metric, runs, expectation.where)
    elif expectation.is_ratio:
        other = recipes[expectation.against_recipe or recipe.name]
        theirs = _measured(other, expectation.metric, runs, expectation.against)
    else:
        return [value * FACTORS[expectation.unit] for value in ours.values()]
    return [value / theirs[seed] for seed, value in ours.items() if theirs.get(seed)]


def _measured(recipe: Recipe, metric: str, runs: Runs, conditions: Sequence[str]) -> dict[int, float]:
    """The metric by seed; runs in which it is missing or not finite are left out."""
    by_seed = latest(recipe, runs.get(recipe.name, []), conditions)
    found = {seed: run.measurements.get(metric) for seed, run in by_seed.items()}
    return {seed: value for seed, value in sorted(found.items()) if value is not None and math.isfinite(value)}
