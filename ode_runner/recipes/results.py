"""The results of all recipes as Markdown: published numbers, our numbers, and the runs they come from."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from ode_runner.recipes.outcome import BandCheck, Outcome, Runs, latest, outcomes
from ode_runner.recipes.page import Page, before, written
from ode_runner.recipes.recipe import Recipe
from ode_runner.report.remarks import absences
from ode_runner.report.runs import Run

PREFACE = """\
# Published, and ours

`make recipes` writes this page from the records of the runs; do not edit it. "Ours" is mean ± standard deviation
(n - 1) over n seeds; if two settings are divided, it is over the ratios seed by seed. The band was fixed before the
recipe was first run, and the mean must lie in it, ends included. Where a note says so, the published number is of a
larger setting. Rows that were not run again, or with fewer seeds, are kept from earlier, with their date, commit and
machine.
"""
NONE = "-"
OURS = 2  # index of the cell with our number
MOST_DIGITS = 8


def markdown(recipes: Mapping[str, Recipe], runs: Runs, earlier: Page) -> str:
    """The whole page. Results that were not run here, or with fewer seeds, are kept from the earlier page."""
    found = [_row(outcome, earlier) for outcome in outcomes(recipes, runs)]
    counts = Counter(row.cells[5].strip("*") for row in found)
    parts = [
        PREFACE,
        ", ".join(f"{counts[band_check]} {band_check}" for band_check in BandCheck if counts[band_check]) + ".\n",
        written(("recipe", "result", "published", "ours", "n", "band", "", "note"), _named_once(found)),
        "## Where the numbers are from\n",
        written(("recipe", "source", "runs that count", "finished", "commit", "machine", "minutes"),
                _origins(recipes, runs, found, earlier)),
        *_failures(recipes, runs, earlier),
    ]  # fmt: skip
    return "\n".join(parts)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A result as the cells of a row."""

    recipe: str
    cells: list[str]
    kept: bool  # taken from the earlier page


def _row(outcome: Outcome, earlier: Page) -> Row:
    """The new result; the earlier one, if it has more seeds and the same published number and band."""
    name, cells, total = outcome.recipe.name, _result(outcome), len(outcome.recipe.seeds)
    what, published, _, _, band, _, note = cells
    old = earlier.results.get((name, what))
    if old and old[0] == published and old[3] == band and old[2] in _more(len(outcome.values), total):
        return Row(recipe=name, cells=[what, published, *old[1:3], band, old[4], note], kept=True)
    return Row(recipe=name, cells=cells, kept=False)


def _more(count: int, total: int) -> list[str]:
    return [_counted_of(more, total) for more in range(count + 1, total + 1)]


def _counted_of(count: int, total: int) -> str:
    return f"{count} of {total}"


def _named_once(found: Sequence[Row]) -> list[list[str]]:
    rows = []
    for name, group in groupby(found, key=lambda row: row.recipe):
        rows += [[f"[`{name}`]({name}.yaml)" if i == 0 else "", *row.cells] for i, row in enumerate(group)]
    return rows


def _origins(recipes: Mapping[str, Recipe], runs: Runs, found: Sequence[Row], earlier: Page) -> list[list[str]]:
    rows = []
    for name, recipe in recipes.items():
        own = [row for row in found if row.recipe == name]
        kept = [row.kept for row in own]
        if any(kept) and all(row.kept or row.cells[OURS] == NONE for row in own) and name in earlier.origins:
            rows += earlier.origins[name]
        else:
            rows.append(_provenance(recipe, runs.get(name, [])))
            rows += before(earlier.origins.get(name, [])) if any(kept) else []
    return rows


def _result(outcome: Outcome) -> list[str]:
    expectation, statistic = outcome.expectation, outcome.statistic
    write = _writer(expectation.unit, expectation.band or ())
    ours = NONE
    if statistic is not None:
        ours = write(statistic.mean) + (f" ± {write(statistic.deviation)}" if statistic.deviation is not None else "")
    band = NONE if expectation.band is None else " to ".join(write(end) for end in expectation.band)
    band_check = f"**{outcome.band_check}**" if outcome.band_check is BandCheck.FAIL else str(outcome.band_check)
    published = NONE if expectation.published is None else write(expectation.published)
    count = _counted_of(len(outcome.values), len(outcome.recipe.seeds))
    return [_named(outcome), published, ours, count, band, band_check, expectation.note]


def _named(outcome: Outcome) -> str:
    """The metric, and the conditions that select its runs."""
    expectation = outcome.expectation
    words = f"{expectation.metric}" + (f" [{expectation.unit}]" if expectation.unit else "")
    words += f" / {expectation.against_metric}" if expectation.against_metric else ""
    of = ", ".join(expectation.where)
    if expectation.is_ratio:
        other = " ".join([expectation.against_recipe, ", ".join(expectation.against)]).strip()
        return f"{words}: {of or outcome.recipe.name} / {other}"
    return f"{words}: {of}" if of else words


def _writer(unit: str, band: Sequence[float]) -> Callable[[float], str]:
    """A format: % with 2 decimals, others with 4 digits or as many as the band needs; from 1000 on, whole numbers."""
    if unit == "%":
        return lambda value: f"{value:.2f}"
    digits = next((n for n in range(4, MOST_DIGITS) if _distinguishable(band, n)), MOST_DIGITS)
    return lambda value: f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}g}"


def _distinguishable(band: Sequence[float], digits: int) -> bool:
    """Whether rounding to `digits` moves the ends of the band by at most a tenth of its width."""
    return all(abs(float(f"{end:.{digits}g}") - end) <= (max(band) - min(band)) / 10 for end in band)


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
    """The runs used by any expectation of the recipe, each once."""
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


def _failures(recipes: Mapping[str, Recipe], runs: Runs, earlier: Page) -> list[str]:
    lines = []
    for name in recipes:
        if not runs.get(name):
            lines += earlier.failures.get(name, [])
        for absence in absences(list(runs.get(name, [])), []):
            lines.append(f"- `{name}`, {absence.status} ({absence.count}: {absence.named}): {absence.reason}")
    return ["## What did not complete\n", "\n".join(lines) + "\n"] if lines else []
