"""What is measured: which way is better, in which unit and to how many digits it is shown."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ode_runner.report.runs import Run

LOWER = ("loss", "mse", "rmse", "mae", "error", "drift", "nll", "nfe", "bytes", "seconds", "rejected", "frechet", "sw2")
HIGHER = ("accuracy", "per_second", "r2", "elbo", "likelihood", "precision", "recall", "coverage")
FLOOR = "_floor"  # ends the name of what other data reach, which is no result
COSTS = ("nfe/sample", "cost/nfe_forward", "cost/nfe_backward", "cost/saved_bytes", "cost/train_seconds")
SMALLEST = ("nelbo", "tv", "bigram_tv", "kl")  # names that are lower the better, and might be taken for others
PARAMETERS = "cost/parameters"  # shown where they differ: what is compared is then of unequal size
BOTH_WAYS = {"test/nll": "test/nll_floor"}  # of texts that a model draws: best is neither more nor less than the floor
OF_SAMPLES = (
    "test/frechet",
    "test/recall",
    "test/endpoint_rmse",
    "test/sw2",
    "test/tv",
    "test/bigram_tv",
    "test/nll",
    "test/valid_rate",
)  # before what does not depend on them
SOLVE_ERROR = "test/endpoint_rmse"
BOUND = "test/nelbo"  # first among results where the losses are not comparable
MOST_RESULTS = 3  # a table with more columns than this and the costs is hard to read
LEGIBLE = 1e15  # more is written with an exponent: a number of 300 digits makes a table of one column
SPREAD = 1e4  # between the least and the most of a column: beyond it, decimals would hide the least


def direction(name: str) -> int:
    """+1 where higher is better, -1 where lower is, 0 where neither (or not known)."""
    last = name.rpartition("/")[2]
    if last == "order" or last.endswith(FLOOR):
        return 0
    if last in SMALLEST:
        return -1
    if any(word in last for word in HIGHER):
        return 1
    return -1 if any(word in name for word in LOWER) else 0


def objective(runs: Iterable[Run]) -> str | None:
    """The test metric that belongs to what `best.pt` was chosen by, if the runs share one; else none."""
    chosen = {
        f"test/{name.removeprefix('eval/')}" for run in runs for name in run.measurements if name.startswith("eval/")
    }
    return chosen.pop() if len(chosen) == 1 else None


def quality(runs: Sequence[Run]) -> str | None:
    """The test metric that says how good runs are: the objective, unless samplers have the same of one training.

    Of samples the error of their solve comes last, where something was trained: it says nothing of what was learned.
    """
    names, first = known(runs), objective(runs)
    if first in names and direction(first) and not _untold(runs, first):
        return first
    found = [name for name in _results(runs) if direction(name) and name != first]
    trained = _trained(runs)
    found.sort(key=lambda name: trained and name == SOLVE_ERROR)
    return found[0] if found else first if first in names else None


def quality_of_samples(run: Run) -> str | None:
    """What says how good the samples of a run are that was trained; none where there are none."""
    measured = [name for name in OF_SAMPLES if name in run.measurements and name != SOLVE_ERROR]
    return measured[0] if measured and "nfe/sample" in run.measurements else None


def known(runs: Iterable[Run]) -> list[str]:
    """Names of everything measured, in the order of the records."""
    return list({name: None for run in runs for name in run.measurements})


def usual(runs: Sequence[Run]) -> list[str]:
    """The measurements shown when none are asked for: results on the test split, then what they cost."""
    costs = [cost for cost in COSTS if any(run.measurements.get(cost) for run in runs)]
    if not costs and any("nfe/eval" in run.measurements for run in runs):  # nothing was trained
        costs = ["nfe/eval"]
    if _tested_otherwise(runs):
        costs = ["nfe/eval", *costs]
    sizes = {run.measurements[PARAMETERS] for run in runs if PARAMETERS in run.measurements}
    return _results(runs)[:MOST_RESULTS] + [PARAMETERS] * (len(sizes) > 1) + costs


def _results(runs: Sequence[Run]) -> list[str]:
    """Metrics of the test: the objective, those of samples, others."""
    first = objective(runs) or (BOUND if _trained(runs) else None)
    places = {name: place for place, name in enumerate(OF_SAMPLES)}
    results = [name for name in known(runs) if name.startswith("test/")]
    return sorted(results, key=lambda name: (name != first, places.get(name, len(places))))


def _trained(runs: Iterable[Run]) -> bool:
    return any("train_seconds" in run.record.cost for run in runs)


def _untold(runs: Iterable[Run], name: str) -> bool:
    """Whether runs share a training, and a metric that its samplers do not change."""
    found: dict[tuple[str, int], list[float]] = {}
    for run in runs:
        if run.record.training and name in run.measurements:
            found.setdefault((run.record.training, run.record.seed), []).append(run.measurements[name])
    several = [values for values in found.values() if len(values) > 1]
    return bool(several) and all(len({*values}) == 1 for values in several)


def _tested_otherwise(runs: Iterable[Run]) -> bool:
    """Whether runs that share one training have taken different evaluations in the test."""
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
    decimals: int | None = None  # none: each number for itself, with an exponent
    deviations: bool = True  # whether any is worth showing

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
