"""The `recipe` section of an experiment's yaml: its source, how to run it, and the expected results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from ode_runner.config.help import conf_dir, did_you_mean
from ode_runner.config.yaml_faults import with_position
from ode_runner.errors import RefusedInput

FACTORS = {"": 1.0, "%": 100.0, "MB": 1e-6}  # from the units of records to those of recipes
SIZES = ("cpu", "full")  # cpu: minutes on two cores; full: hours on a GPU


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """An expected metric, or ratio of metrics, and the band that must contain it.

    With `against`, the metric of the runs selected by `where` is divided, seed by seed, by that of the runs selected by
    `against`, which may belong to another recipe. With `against_metric`, it is divided by another metric of the same
    runs, such as its floor.
    """

    metric: str  # its name in records: test/accuracy, cost/saved_bytes
    band: Sequence[float] | None  # [low, high], fixed before any run; None: not comparable, but shown
    published: float | None
    unit: str = ""  # of `published` and `band`
    where: Sequence[str] = ()  # conditions such as model=odenet, as for ode-report --where
    against: Sequence[str] = ()
    against_recipe: str = ""  # name of the other recipe; by default, the runs are of the same recipe
    against_metric: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        if self.unit not in FACTORS:
            raise RefusedInput(f"recipe: {self.metric} has the unit '{self.unit}'. Use {' or '.join(FACTORS)}.")
        if self.band is None and not self.note:
            raise RefusedInput(f"recipe: {self.metric} has no band and no note that says why.")
        if self.against_metric and self.is_ratio:
            raise RefusedInput(f"recipe: {self.metric} is divided by other runs, or by another metric, not by both.")
        if self.band is not None and (len(self.band) != 2 or self.band[0] > self.band[1]):
            raise RefusedInput(f"recipe: the band of {self.metric} must be [low, high], not {self.band}.")

    @property
    def is_ratio(self) -> bool:
        return bool(self.against or self.against_recipe)

    @property
    def own_conditions(self) -> list[Sequence[str]]:
        """The conditions that select runs of this recipe; each must select a single configuration."""
        return [self.where, self.against] if self.is_ratio and not self.against_recipe else [self.where]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """An experiment, its sweep and seeds, and the expected results."""

    name: str
    source: str
    size: str
    minutes: float | None  # of all runs together; None: not measured
    sweep: Sequence[str]  # as typed on the command line: model=resnet,odenet
    seeds: Sequence[int]
    expect: Sequence[Expectation]
    grid: str = ""  # the grid to run, instead of `sweep`

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise RefusedInput(f"recipe {self.name}: size must be {' or '.join(SIZES)}, not {self.size}.")
        if not self.seeds or not self.expect:
            raise RefusedInput(f"recipe {self.name} needs seeds and something to expect.")
        for expectation in self.expect:
            for conditions in expectation.own_conditions:
                self._check_one_configuration(conditions)

    @property
    def command(self) -> list[str]:
        """The command to run; repeated, it runs only what is missing."""
        seeds = ",".join(map(str, self.seeds))
        swept = [f"grid={self.grid}"] if self.grid else self.sweep
        return ["ode-run", "-m", f"experiment={self.name}", *swept, f"seed={seeds}", f"sweep={self.name}"]

    @property
    def count(self) -> int:
        """The number of runs that the expectations use; the command may make more."""
        chosen = {tuple(conditions) for expectation in self.expect for conditions in expectation.own_conditions}
        return len(self.seeds) * len(chosen)

    @property
    def folder(self) -> Path:
        """The folder of the runs, relative to the folder in which the command is run."""
        return Path("outputs") / "sweeps" / self.name

    @classmethod
    def read(cls, path: Path) -> "Recipe | None":
        """The recipe in an experiment's yaml; None if it has none, like most experiments of users.

        Raises:
            RefusedInput: the file cannot be parsed, or the recipe is incomplete.
        """
        with with_position(str(path)):
            content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        recipe = content.get("recipe") if isinstance(content, dict) else None
        if recipe is None:
            return None
        try:
            expect = [Expectation(**expectation) for expectation in recipe["expect"]]
            return cls(name=path.stem, **{**recipe, "expect": expect})
        except (TypeError, KeyError) as error:
            raise RefusedInput(f"{path}: the recipe is not complete ({error}).") from error

    def _check_one_configuration(self, conditions: Sequence[str]) -> None:
        """Checks that runs selected by `conditions` differ only in the seed; other means would be meaningless.

        Raises:
            RefusedInput: the conditions select runs that differ in a swept option.
        """
        swept = {word.partition("=")[0] for word in self.sweep}
        open_axes = sorted(swept - {condition.partition("=")[0] for condition in conditions})
        if open_axes:
            raise RefusedInput(f"recipe {self.name}: {list(conditions)} leaves {', '.join(open_axes)} open.")


class ReadRecipes(NamedTuple):
    """Recipes by name, those for a CPU first, and an error message for each recipe that cannot be read."""

    recipes: dict[str, Recipe]
    faults: dict[str, str]


def read_recipes() -> ReadRecipes:
    """All recipes; one that cannot be read does not affect the others."""
    recipes, faults = [], dict[str, str]()
    for path in sorted((conf_dir() / "experiment").glob("*.yaml")):
        try:
            recipes += [recipe] if (recipe := Recipe.read(path)) else []
        except RefusedInput as fault:
            faults[path.stem] = str(fault)
    recipes.sort(key=lambda recipe: SIZES.index(recipe.size))
    return ReadRecipes({recipe.name: recipe for recipe in recipes}, faults)


def choose(recipes: Mapping[str, Recipe], names: Sequence[str], *, faults: Mapping[str, str]) -> list[Recipe]:
    """The named recipes; without names, those for a CPU.

    Raises:
        RefusedInput: there is no recipe of that name, or it cannot be read.
    """
    for name in names:
        if name in faults:
            raise RefusedInput(faults[name])
        if name not in recipes:
            hint = did_you_mean(name, list(recipes))
            raise RefusedInput(f"no recipe named '{name}'.{hint} Available: {', '.join(recipes)}")
    return [recipe for recipe in recipes.values() if (recipe.name in names if names else recipe.size == "cpu")]
