"""`--where`: conditions that choose runs."""

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ode_runner.errors import RefusedInput
from ode_runner.report.names import resolve, split_names
from ode_runner.report.quantities import known
from ode_runner.report.runs import Run

ORDER: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}


@dataclass(frozen=True, kw_only=True)
class Condition:
    """`model=odenet,resnet` (either of them), `solver!=euler`, `solver.rtol<=1e-3`, `test/accuracy>0.9`."""

    name: str
    sign: str
    values: list[str]

    def holds(self, run: Run) -> bool:
        there = facts(run).get(self.name)
        if self.sign in ("=", "!="):
            return any(_same(there, value) for value in self.values) is (self.sign == "=")
        number = _number(there)
        return number is not None and ORDER[self.sign](number, float(self.values[0]))


def facts(run: Run) -> dict[str, Any]:
    """Options, seed, status and measurements of a run, by the names that conditions use."""
    record = run.record
    return {**run.options, "seed": record.seed, "status": record.status.value, **run.measurements}


def choose(runs: Sequence[Run], conditions: Sequence[str]) -> list[Run]:
    """The runs for which every condition holds.

    Raises:
        RefusedInput: a condition cannot be read, names nothing known, or leaves no run.
    """
    left = list(runs)
    for typed in conditions:
        condition = _parse(typed, runs)
        left = [run for run in left if condition.holds(run)]
        if not left:
            values = sorted({str(facts(run).get(condition.name)) for run in runs})
            shown = ", ".join(values[:12]) + (", ..." if len(values) > 12 else "")
            raise RefusedInput(f"--where {typed} leaves no run. Values of {condition.name}: {shown}")
    return left


def _parse(typed: str, runs: Sequence[Run]) -> Condition:
    parts = re.fullmatch(r"([^=<>!]+)(!=|<=|>=|=|<|>)(.+)", typed)
    if parts is None:
        raise RefusedInput(f"cannot read --where '{typed}'. Type name=value, e.g. model=odenet or solver.rtol<=1e-3")
    name, sign, values = parts[1].strip(), parts[2], split_names(parts[3])
    names = list({name: None for run in runs for name in run.options})
    condition = Condition(
        name=resolve(name, [*names, "seed", "status", *known(runs)], "column"), sign=sign, values=values
    )
    if sign in ORDER and (len(values) != 1 or _number(values[0]) is None):
        raise RefusedInput(f"cannot read --where '{typed}': {parts[3]} is no number.")
    return condition


def _same(there: Any, typed: str) -> bool:
    """Whether a value equals the typed one: as text, as yaml's null, or as a number (1e-3 equals 0.001)."""
    if typed.lower() == ("null" if there is None else str(there).lower()):
        return True
    number = _number(typed)
    return number is not None and _number(there) == number


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
