"""What an experiment's yaml says of itself under `recipe`: where it comes from, how to run it, what should come out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from ode_runner.config.help import conf_dir, did_you_mean
from ode_runner.config.yaml_faults import told_by_place
from ode_runner.errors import RefusedInput

FACTORS = {"": 1.0, "%": 100.0, "MB": 1e-6}  # from a record's numbers to those of a recipe
SIZES = ("cpu", "full")  # minutes on two cores; hours on a GPU


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """A number, or the ratio of two, and the band that it must fall in.

    With `against`, the metric of the runs that `where` chooses is divided by that of the runs that `against` chooses,
    seed by seed; the latter may be another recipe's. With `against_metric`, it is divided by another metric of the same
    runs, such as its floor.
    """

    metric: str  # as a record names it: test/accuracy, cost/saved_bytes
    band: Sequence[float] | None  # [low, high], fixed before anything is run; None: not comparable, shown all the same
    published: float | None
    unit: str = ""  # of `published` and `band`
    where: Sequence[str] = ()  # conditions such as model=odenet, as ode-report --where takes them
    against: Sequence[str] = ()
    against_recipe: str = ""  # another one's name; by default the runs are its own
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
        """What chooses among its own recipe's runs, a configuration each."""
        return [self.where, self.against] if self.is_ratio and not self.against_recipe else [self.where]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One experiment, how often and over what it is run, and what is expected."""

    name: str
    source: str
    size: str
    minutes: float | None  # of all its runs together; None where nobody has measured it
    sweep: Sequence[str]  # axes as they are typed: model=resnet,odenet
    seeds: Sequence[int]
    expect: Sequence[Expectation]
    grid: str = ""  # a grid whose cells are run instead of axes

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
        """What to type; the same again runs what is missing."""
        seeds = ",".join(map(str, self.seeds))
        swept = [f"grid={self.grid}"] if self.grid else self.sweep
        return ["ode-run", "-m", f"experiment={self.name}", *swept, f"seed={seeds}", f"sweep={self.name}"]

    @property
    def count(self) -> int:
        """How many runs its expectations rest on; its command may make more."""
        chosen = {tuple(conditions) for expectation in self.expect for conditions in expectation.own_conditions}
        return len(self.seeds) * len(chosen)

    @property
    def folder(self) -> Path:
        """Where its runs lie, below the folder in which the command is typed."""
        return Path("outputs") / "sweeps" / self.name

    @classmethod
    def read(cls, path: Path) -> "Recipe | None":
        """The recipe in an experiment's yaml; None where there is none, as in most of one's own.

        Raises:
            RefusedInput: it cannot be read, or is not complete.
        """
        with told_by_place(str(path)):
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
        """A mean over anything but seeds would be no result.

        Raises:
            RefusedInput: the conditions leave runs that differ in what is swept.
        """
        swept = {word.partition("=")[0] for word in self.sweep}
        open_axes = sorted(swept - {condition.partition("=")[0] for condition in conditions})
        if open_axes:
            raise RefusedInput(f"recipe {self.name}: {list(conditions)} leaves {', '.join(open_axes)} open.")


class ReadRecipes(NamedTuple):
    """Recipes by name, those for a CPU first, and of the others what is wrong with them."""

    recipes: dict[str, Recipe]
    faults: dict[str, str]


def read_recipes() -> ReadRecipes:
    """All there are; one that cannot be read leaves the others as they are."""
    recipes, faults = [], dict[str, str]()
    for path in sorted((conf_dir() / "experiment").glob("*.yaml")):
        try:
            recipes += [recipe] if (recipe := Recipe.read(path)) else []
        except RefusedInput as fault:
            faults[path.stem] = str(fault)
    recipes.sort(key=lambda recipe: SIZES.index(recipe.size))
    return ReadRecipes({recipe.name: recipe for recipe in recipes}, faults)


def choose(recipes: Mapping[str, Recipe], names: Sequence[str], *, faults: Mapping[str, str]) -> list[Recipe]:
    """The named ones, or those for a CPU.

    Raises:
        RefusedInput: there is none of that name, or it cannot be read.
    """
    for name in names:
        if name in faults:
            raise RefusedInput(faults[name])
        if name not in recipes:
            hint = did_you_mean(name, list(recipes))
            raise RefusedInput(f"no recipe named '{name}'.{hint} Available: {', '.join(recipes)}")
    return [recipe for recipe in recipes.values() if (recipe.name in names if names else recipe.size == "cpu")]
