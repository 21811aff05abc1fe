"""The results of all recipes as Markdown: what was published, what came out here, and from what."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from ode_runner.recipes.outcome import Outcome, Runs, Verdict, latest, outcomes
from ode_runner.recipes.recipe import Recipe
from ode_runner.report.remarks import absences
from ode_runner.report.runs import Run

PREFACE = """\
# Published, and ours

Written by `make recipes` from the records of the runs; not to be edited. Ours is mean ± standard deviation (n - 1) over
n seeds, or over the ratios seed by seed where two settings are divided. A band was fixed before its recipe was run,
and the mean must lie in it, ends included. Where the note says so, what was published is of a larger setting.
"""
NONE = "-"


def markdown(recipes: Mapping[str, Recipe], runs: Runs) -> str:
    """The whole page."""
    found = outcomes(recipes, runs)
    counts = {verdict: sum(outcome.verdict is verdict for outcome in found) for verdict in Verdict}
    parts = [
        PREFACE,
        ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count) + ".\n",
        _table(("recipe", "result", "published", "ours", "n", "band", "", "note"), _result_rows(found)),
        "## Where the numbers are from\n",
        _table(("recipe", "source", "runs that count", "finished", "commit", "machine", "minutes"),
               [_provenance(recipe, runs.get(name, [])) for name, recipe in recipes.items()]),
        *_failures(recipes, runs),
    ]  # fmt: skip
    return "\n".join(parts)


def _result_rows(found: Sequence[Outcome]) -> list[list[str]]:
    rows = []
    for _, group in groupby(found, key=lambda outcome: outcome.recipe.name):
        for i, outcome in enumerate(group):
            name = outcome.recipe.name
            rows.append([f"[`{name}`]({name}.yaml)" if i == 0 else "", *_result(outcome)])
    return rows


def _result(outcome: Outcome) -> list[str]:
    expectation, statistic = outcome.expectation, outcome.statistic
    write = _writer(expectation.unit)
    ours = NONE
    if statistic is not None:
        ours = write(statistic.mean) + (f" ± {write(statistic.deviation)}" if statistic.deviation is not None else "")
    band = NONE if expectation.band is None else " to ".join(write(end) for end in expectation.band)
    verdict = f"**{outcome.verdict}**" if outcome.verdict is Verdict.FAIL else str(outcome.verdict)
    published = NONE if expectation.published is None else write(expectation.published)
    count = f"{len(outcome.values)} of {len(outcome.recipe.seeds)}"
    return [_named(outcome), published, ours, count, band, verdict, expectation.note]


def _named(outcome: Outcome) -> str:
    """What is measured, and of which runs."""
    expectation = outcome.expectation
    words = f"{expectation.metric}" + (f" [{expectation.unit}]" if expectation.unit else "")
    of = ", ".join(expectation.where)
    if expectation.is_ratio:
        other = " ".join([expectation.against_recipe, ", ".join(expectation.against)]).strip()
        return f"{words}: {of or outcome.recipe.name} / {other}"
    return f"{words}: {of}" if of else words


def _writer(unit: str) -> Callable[[float], str]:
    """Hundredths of a per cent; else four digits, and thousands as they are counted."""
    if unit == "%":
        return lambda value: f"{value:.2f}"
    return lambda value: f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _provenance(recipe: Recipe, runs: Sequence[Run]) -> list[str]:
    used = [run for run in _counted(recipe, runs) if run.completed]
    minutes = sum(run.measurements.get("cost/wall_seconds", 0.0) for run in used) / 60
    return [
        f"`{recipe.name}`",
        recipe.source,
        f"{len(used)} of {recipe.count}",
        max((run.record.finished[:10] for run in used), default=NONE),
        _listed(_commit(run.record.environment) for run in used),
        _listed(_machine(run.record.environment) for run in used),
        f"{minutes:.1f}" if used else NONE,
    ]


def _counted(recipe: Recipe, runs: Sequence[Run]) -> list[Run]:
    """The runs that a number of the recipe rests on, each once."""
    by_folder = {
        run.folder: run
        for expectation in recipe.expect
        for conditions in expectation.own_conditions
        for run in latest(recipe, runs, conditions).values()
    }
    return list(by_folder.values())


def _commit(environment: Mapping[str, Any]) -> str:
    commit = str(environment.get("git_sha", ""))[:7]
    return (commit or "no commit") + (" with changes" if environment.get("git_dirty") else "")


def _machine(environment: Mapping[str, Any]) -> str:
    device = environment.get("device", "unknown")
    threads = environment.get("threads")
    return f"{environment.get('cpu')}, {threads} thread{'' if threads == 1 else 's'}" if device == "cpu" else device


def _listed(words: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(words)) or NONE


def _failures(recipes: Mapping[str, Recipe], runs: Runs) -> list[str]:
    lines = [
        f"- `{name}`, {absence.status} ({absence.count}: {absence.named}): {absence.reason}"
        for name in recipes
        for absence in absences(list(runs.get(name, [])), [])
    ]
    return ["## What did not complete\n", "\n".join(lines) + "\n"] if lines else []


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |\n" for line in lines)
