"""`ode-report diff`: what differs between two runs, from the choices to the numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from ode_runner.config.moved_classes import with_present_classes
from ode_runner.recording.printable import printable
from ode_runner.recording.record import computed, flat
from ode_runner.recording.text_layout import aligned
from ode_runner.report.rows import plain
from ode_runner.report.runs import Run
from ode_runner.report.screen import WIDE

Difference = tuple[str, Any, Any]  # name, there, here
CODE = ("git_sha", "git_dirty")
NO_VALUE = "-"


def show_differences(a: Run, b: Run) -> None:
    """Print the differences in configuration, environment, code and result, or that there are none."""
    console = Console(width=WIDE, highlight=False)
    console.print(printable(f"A  {a.folder}\nB  {b.folder}"), soft_wrap=True, markup=False)
    sections = {
        "configuration": configuration_differences(a, b),
        "environment": environment_differences(a, b),
        "code": code_differences(a, b),
        "result": result_differences(a, b),
    }
    for title, differences in sections.items():
        console.print(Text(f"\n{title}" + ("" if differences else ": no difference"), style="bold"))
        if differences:
            console.print(grid(differences, numbers=title == "result"))
    parting = curves_part(a, b)
    console.print(f"\n{parting}", markup=False, soft_wrap=True)


def same(first: Any, second: Any) -> bool:
    """Whether two values are equal; NaN, which stands for unknown, equals NaN."""
    return bool(first == second) or (first != first and second != second)


def grid(differences: Sequence[Difference], *, numbers: bool = False) -> Text:
    """A table of names, both values and, for numbers, their difference."""
    rows = [["", "A", "B", *(["B - A"] if numbers else [])]]
    for name, first, second in differences:
        rows.append([f"  {name}", _written(first), _written(second), *([_distance(first, second)] if numbers else [])])
    head, *lines = aligned(rows, right=(1, 2, 3) if numbers else (), gap="   ")
    return Text("\n").join([Text(head, style="bold"), *map(Text, map(printable, lines))])


def configuration_differences(a: Run, b: Run) -> list[Difference]:
    """Options that determine what is computed, and the seed; a class only if the name of its choice is the same."""
    named = _differences({**a.options, "seed": a.record.seed}, {**b.options, "seed": b.record.seed})
    named_groups = {f"{name}._target_" for name, _, _ in named}
    classes = _differences(_classes(a), _classes(b))
    return [*named, *(difference for difference in classes if difference[0] not in named_groups)]


def environment_differences(a: Run, b: Run) -> list[Difference]:
    """Versions and machine."""
    first, second = (
        {name: value for name, value in flat(run.record.environment).items() if name not in CODE} | _instruments(run)
        for run in (a, b)
    )
    return _differences(first, second)


def code_differences(a: Run, b: Run) -> list[Difference]:
    """The commit of the program, whether there were uncommitted changes, and hashes of the user's files."""
    first, second = (
        {**{name: run.record.environment.get(name) for name in CODE}, **{f: h[:12] for f, h in run.record.code.items()}}
        for run in (a, b)
    )
    return _differences(first, second)


def result_differences(a: Run, b: Run) -> list[Difference]:
    """How the runs ended, their metrics and costs."""
    return _differences(_result(a), _result(b))


def curves_part(a: Run, b: Run) -> str:
    """A sentence that says at which step the training losses of the runs first differ."""
    first, second = (
        {row["step"]: row["train/loss"] for row in run.rows() if {"step", "train/loss"} <= row.keys()} for run in (a, b)
    )
    common = sorted(first.keys() & second.keys())
    if not common:
        return "curves: no logged step in common"
    for step in common:
        if not same(first[step], second[step]):
            return f"curves: train/loss first differs at step {step}: {first[step]!r} and {second[step]!r}"
    return f"curves: train/loss is the same at all {len(common)} logged steps in common"


def _classes(run: Run) -> dict[str, Any]:
    groups = computed(with_present_classes(run.record.config), run.record.choices).items()
    return {f"{group}._target_": content.get("_target_") for group, content in groups if isinstance(content, dict)}


def _instruments(run: Run) -> dict[str, str]:
    """What metrics were measured with, if they are comparable only within that."""
    things = dict.fromkeys(run.record.measured_with.values())
    return {"measured with": ", ".join(things)} if things else {}


def _result(run: Run) -> dict[str, Any]:
    record = run.record
    return {"status": record.status.value, "reason": record.reason, **run.measurements}


def _differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Difference]:
    names = list(dict.fromkeys([*first, *second]))
    pairs = [(name, first.get(name, NO_VALUE), second.get(name, NO_VALUE)) for name in names]
    return [(name, there, here) for name, there, here in pairs if not same(there, here)]


def _written(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else plain(value)


def _distance(first: Any, second: Any) -> str:
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in (first, second)):
        return ""
    relative = f" ({(second - first) / abs(first):+.2%})" if first else ""
    return f"{second - first:+.4g}{relative}"
