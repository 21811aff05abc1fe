"""Finds metrics that are comparable only if measured with the same thing, such as the classifier for its features."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ode_runner.report.quantities import FLOOR, SOLVE_ERROR
from ode_runner.report.runs import Run

UNNAMED = "what the task takes"  # if a run's record names nothing for a metric
USUAL = {SOLVE_ERROR: "a fine solve of the model's own field"}  # the same, for metrics that no task takes anything for


@dataclass(frozen=True, kw_only=True)
class Incomparable:
    """Metrics that runs of one task have measured with different things."""

    task: str
    metrics: Sequence[str]
    things: Counter[str]  # by thing, how many runs measured with it

    @property
    def sentence(self) -> str:
        named = [name for name in self.metrics if name == _main(name)] or self.metrics
        things = " and ".join(f"{thing} ({count} run{'s' * (count > 1)})" for thing, count in self.things.items())
        been, compared = ("were", "are") if len(named) > 1 else ("was", "is")
        return (
            f"{', '.join(named)} of task={self.task} {been} measured with {things}, and {compared} comparable within "
            "one alone. Choose its runs by --where."
        )


def find_incomparable(runs: Sequence[Run]) -> list[Incomparable]:
    """The metrics that must not be in one table, task by task."""
    by_task: dict[str, list[Run]] = {}
    for run in runs:
        by_task.setdefault(str(run.options["task"]), []).append(run)
    return [found for task, of_task in by_task.items() for found in _of_task(task, of_task)]


def _of_task(task: str, runs: Sequence[Run]) -> list[Incomparable]:
    """Metrics measured with the same things are grouped; floors and validation metrics go with their test metric."""
    used = {name: _things(runs, name) for name in dict.fromkeys(x for run in runs for x in run.record.measured_with)}
    used = {name: things for name, things in used.items() if len(things) > 1}
    together: dict[str, tuple[Counter[str], list[str]]] = {}
    for name, own in used.items():
        things = used.get(_main(name), own)
        together.setdefault(repr(things), (things, []))[1].append(name)
    return [Incomparable(task=task, metrics=names, things=things) for things, names in together.values()]


def _things(runs: Sequence[Run], name: str) -> Counter[str]:
    """What a metric was measured with, and by how many runs."""
    return Counter(
        run.record.measured_with.get(name, USUAL.get(name, UNNAMED)) for run in runs if name in run.record.metrics
    )


def _main(name: str) -> str:
    """The test metric to which a floor or a validation metric belongs; other names are returned as they are."""
    return name.removesuffix(FLOOR).replace("eval/", "test/", 1)


def without_incomparable(runs: Sequence[Run], found: Sequence[Incomparable]) -> list[Run]:
    """The runs without the metrics that are not comparable."""
    left_out: dict[str, set[str]] = {}
    for incomparable in found:
        left_out.setdefault(incomparable.task, set()).update(incomparable.metrics)
    return [_without(run, left_out.get(str(run.options["task"]), set())) for run in runs]


def _without(run: Run, names: set[str]) -> Run:
    if not names:
        return run  # the same object keeps its cached properties
    kept = {name: value for name, value in run.record.metrics.items() if name not in names}
    return replace(run, record=replace(run.record, metrics=kept))
