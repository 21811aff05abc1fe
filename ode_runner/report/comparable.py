"""Measurements that have a meaning for one thing alone, such as the classifier in whose features they were made."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ode_runner.report.runs import Run

FLOOR = "_floor"  # ends the name of what a metric is compared with


@dataclass(frozen=True, kw_only=True)
class Incomparable:
    """Metrics that runs of one task have measured with different things."""

    task: str
    metrics: Sequence[str]
    things: Counter[str]  # and how many runs have measured with each

    @property
    def sentence(self) -> str:
        names = ", ".join(name for name in self.metrics if not name.endswith(FLOOR))
        things = " and ".join(f"{thing} ({count} run{'s' * (count > 1)})" for thing, count in self.things.items())
        return (
            f"{names} of task={self.task} were measured with {things}, and are comparable within one alone. Choose its "
            "runs by --where."
        )


def find_incomparable(runs: Sequence[Run]) -> list[Incomparable]:
    """What must not stand in one table, task by task."""
    used: dict[str, dict[str, Counter[str]]] = {}
    for run in runs:
        for name, thing in run.record.measured_with.items():
            used.setdefault(str(run.options["task"]), {}).setdefault(name, Counter())[thing] += 1
    found = []
    for task, by_name in used.items():
        metrics = [name for name, things in by_name.items() if len(things) > 1]
        if metrics:
            found.append(Incomparable(task=task, metrics=metrics, things=by_name[metrics[0]]))
    return found


def without_incomparable(runs: Sequence[Run], found: Sequence[Incomparable]) -> list[Run]:
    """The runs, as if they had not measured what is not comparable."""
    left_out = {incomparable.task: set(incomparable.metrics) for incomparable in found}
    return [_without(run, left_out.get(str(run.options["task"]), set())) for run in runs]


def _without(run: Run, names: set[str]) -> Run:
    if not names:
        return run  # with what it has computed of itself
    kept = {name: value for name, value in run.record.metrics.items() if name not in names}
    return replace(run, record=replace(run.record, metrics=kept))
