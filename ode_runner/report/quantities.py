"""Measurements: whether higher or lower is better, and in which unit and with how many digits they are shown."""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ode_runner.report.runs import Run

LOWER = ("loss", "mse", "rmse", "mae", "error", "drift", "nll", "nfe", "bytes", "seconds", "rejected", "frechet", "sw2")
HIGHER = ("accuracy", "per_second", "r2", "elbo", "likelihood", "precision", "recall", "coverage")
FLOOR = "_floor"  # suffix of the value that other data reach, which is not a result
SCALE = "_scale"  # suffix of the size of the true solution, by which an error is judged
NO_RESULTS = (FLOOR, SCALE, "_teacher", "_end_time")  # suffixes of what is not the model's: never ranked
COSTS = ("nfe/sample", "cost/nfe_forward", "cost/nfe_backward", "cost/saved_bytes", "cost/train_seconds")
SMALLEST = ("nelbo", "tv", "bigram_tv", "kl")  # whole names for which lower is better, tested first: nelbo has elbo
PARAMETERS = "cost/parameters"  # shown if they differ, because models of different sizes are then compared
BOTH_WAYS = {"test/nll": "test/nll_floor"}  # for texts that a model draws, the best value is that of the floor
OF_SAMPLES = (
    "test/frechet",
    "test/recall",
    "test/endpoint_rmse",
    "test/sw2",
    "test/tv",
    "test/bigram_tv",
    "test/nll",
    "test/valid_rate",
)  # shown before metrics that do not depend on samples
SOLVE_ERROR = "test/endpoint_rmse"
LOSS = "test/loss"
BOUND = "test/nelbo"  # first among the results if losses are not comparable
MOST_RESULTS = 3  # a table with more result columns, besides costs, is hard to read
LEGIBLE = 1e15  # larger numbers are written with an exponent
SPREAD = 1e4  # largest ratio of numbers in a column with fixed decimals, which would hide the least of them beyond


def direction(name: str) -> int:
    """+1 if higher is better, -1 if lower is better, 0 if neither or not known."""
    last = name.rpartition("/")[2]
    if last == "order" or last.endswith(NO_RESULTS):
        return 0
    if last in SMALLEST:
        return -1
    if any(word in last for word in HIGHER):
        return 1
    return -1 if any(word in name for word in LOWER) else 0


def objective(runs: Iterable[Run]) -> str | None:
    """The test metric that corresponds to the criterion of `best.pt`, if the runs share one; otherwise None."""
    chosen = {
        f"test/{name.removeprefix('eval/')}" for run in runs for name in run.measurements if name.startswith("eval/")
    }
    return chosen.pop() if len(chosen) == 1 else None


def quality(runs: Sequence[Run]) -> str | None:
    """The test metric of a run's quality: the objective, unless runs that differ only in the sampler have it in common.

    If something was trained, the error of the samples' solve comes last: it says nothing about what was learned.
    """
    names, first = known(runs), objective(runs)
    if first in names and direction(first) and not _is_constant(runs, first):
        return first
    found = [name for name in _results(runs) if direction(name) and name != first]
    trained = _trained(runs)
    found.sort(key=lambda name: trained and name == SOLVE_ERROR)
    return found[0] if found else first if first in names else None


def quality_of_samples(run: Run) -> str | None:
    """The metric of the quality of a trained run's samples; None if there are none."""
    measured = [name for name in OF_SAMPLES if name in run.measurements and name != SOLVE_ERROR]
    return measured[0] if measured and "nfe/sample" in run.measurements else None


def known(runs: Iterable[Run]) -> list[str]:
    """The names of all measurements, in the order of the records."""
    return list({name: None for run in runs for name in run.measurements})


def usual(runs: Sequence[Run]) -> list[str]:
    """The measurements that are shown by default: results on the test split, then costs."""
    costs = [cost for cost in COSTS if any(run.measurements.get(cost) for run in runs)]
    if not costs and any("nfe/eval" in run.measurements for run in runs):  # nothing was trained
        costs = ["nfe/eval"]
    if _tested_otherwise(runs):
        costs = ["nfe/eval", *costs]
    sizes = {run.measurements[PARAMETERS] for run in runs if PARAMETERS in run.measurements}
    return _results_of_tasks(runs) + [PARAMETERS] * (len(sizes) > 1) + costs


def _results_of_tasks(runs: Sequence[Run]) -> list[str]:
    """The results that are shown: the first of every task, and then the next of each in turn while there is room."""
    of_tasks: dict[str, list[Run]] = {}
    for run in runs:
        of_tasks.setdefault(run.record.choices.get("task", ""), []).append(run)
    ranked = list(itertools.zip_longest(*map(_results, of_tasks.values())))
    names = list(dict.fromkeys(name for rank in ranked for name in rank if name is not None))
    return names[: max(MOST_RESULTS, len({*ranked[0]} - {None}) if ranked else 0)]


def _results(runs: Sequence[Run]) -> list[str]:
    """Test metrics: the objective first, then those of samples, then others, without a loss that equals the first."""
    first = objective(runs) or (BOUND if _trained(runs) else None)
    places = {name: place for place, name in enumerate(OF_SAMPLES)}
    results = [name for name in known(runs) if name.startswith("test/") and not name.endswith(SCALE)]
    results.sort(key=lambda name: (name != first, places.get(name, len(places))))
    if LOSS in results[1:] and all(_is_loss(run, results[0]) for run in runs if LOSS in run.measurements):
        results.remove(LOSS)
    return results


def _is_loss(run: Run, name: str) -> bool:
    """Whether the metric is what training minimised, as a mean squared error is."""
    found, loss = (run.measurements.get(one, math.nan) for one in (name, LOSS))
    return math.isclose(found, loss, rel_tol=1e-6)


def _trained(runs: Iterable[Run]) -> bool:
    return any("train_seconds" in run.record.cost for run in runs)


def _is_constant(runs: Iterable[Run], name: str) -> bool:
    """Whether runs share a training and have the same value of a metric, so that it does not depend on the sampler."""
    found: dict[tuple[str, int], list[float]] = {}
    for run in runs:
        if run.record.training and name in run.measurements:
            found.setdefault((run.record.training, run.record.seed), []).append(run.measurements[name])
    several = [values for values in found.values() if len(values) > 1]
    return bool(several) and all(len({*values}) == 1 for values in several)


def _tested_otherwise(runs: Iterable[Run]) -> bool:
    """Whether runs that share a training took different numbers of evaluations in the test."""
    taken: dict[tuple[str, int], set[float]] = {}
    for run in runs:
        if run.record.training and "nfe/eval" in run.measurements:
            key = (run.record.training, run.record.seed)
            taken.setdefault(key, set()).add(run.measurements["nfe/eval"])
    return any(len(evaluations) > 1 for evaluations in taken.values())


@dataclass(frozen=True, kw_only=True)
class Style:
    """How the numbers of one column are written, so that they can be compared at a glance."""

    unit: str = ""
    factor: float = 1.0
    decimals: int | None = None  # None: with an exponent
    deviations: bool = True  # whether standard deviations are shown

    @classmethod
    def of(cls, name: str, values: Iterable[float]) -> "Style":
        """The style that suits the values."""
        sizes = sorted(abs(value) for value in values if value and math.isfinite(value))
        if sizes and sizes[-1] > LEGIBLE:
            return cls(decimals=None)
        middle = sizes[len(sizes) // 2] if sizes else 1.0
        if name.endswith(("accuracy", "accuracy_floor")):
            return cls(unit="%", factor=100, decimals=2)
        if sizes and sizes[-1] / sizes[0] > SPREAD and not name.endswith("bytes"):
            return cls(decimals=None)
        unit, factor = "", 1.0
        if name.endswith("bytes"):
            unit, factor = next(step for step in _BYTES if middle * step[1] < 1000 or step is _BYTES[-1])
        elif name.endswith("seconds"):
            unit = "s"
        whole = all(value == int(value) for value in sizes)
        if whole and factor == 1:
            return cls(unit=unit, decimals=0)
        decimals = 1 if "nfe" in name else max(0, 2 - math.floor(math.log10(middle * factor)))
        hidden = bool(sizes) and not name.endswith("bytes") and sizes[0] * factor < 0.5 * 10**-decimals
        legible = decimals <= 6 and not hidden
        return cls(unit=unit, factor=factor, decimals=decimals if legible else None)

    def write(self, value: float) -> str:
        """One number, without its unit."""
        if self.decimals is None:
            return f"{value * self.factor:.2e}"
        return f"{value * self.factor:,.{self.decimals}f}"


_BYTES = [("B", 1.0), ("kB", 1e-3), ("MB", 1e-6), ("GB", 1e-9)]
