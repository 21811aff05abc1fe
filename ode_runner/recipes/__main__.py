"""`make recipes`: run what is missing of the recipes, one after another, then write the page of results."""

import argparse
import signal
import subprocess
import sys
from collections.abc import Sequence

from ode_runner.config.help import conf_dir
from ode_runner.errors import RefusedInput
from ode_runner.recipes.outcome import BandCheck, outcomes
from ode_runner.recipes.page import Page
from ode_runner.recipes.recipe import Recipe, choose, read_recipes
from ode_runner.recipes.results import markdown
from ode_runner.recording.atomic_write import atomic_write
from ode_runner.recording.generated_files import RESULTS
from ode_runner.report.runs import find_runs
from ode_runner.report.verify import program

INTERRUPTED = 130


def main(arguments: Sequence[str]) -> int:
    """Runs the chosen recipes and writes the page. Exit code: 0 if all of them pass, 1 if not, 130 if interrupted.

    Raises:
        RefusedInput: a name is not that of a recipe.
    """
    parser = argparse.ArgumentParser(prog="python -m ode_runner.recipes", description=__doc__)
    parser.add_argument("names", nargs="*", help="recipes to run; by default those for a CPU")
    parser.add_argument("--table-only", action="store_true", help="run nothing, write the page from what there is")
    typed = parser.parse_args(arguments)
    recipes, faults = read_recipes()
    chosen = choose(recipes, typed.names, faults=faults)
    for fault in faults.values():
        print(f"recipes: {fault} It is left out.", file=sys.stderr)
    code = 0 if typed.table_only else _run(chosen)
    runs = {name: find_runs([r.folder]).runs if _has_runs(r) else [] for name, r in recipes.items()}
    page = conf_dir() / RESULTS
    content = markdown(recipes, runs, Page.read(page)).encode()
    atomic_write(page, lambda file: file.write(content))
    print(f"results: {page}")
    results = outcomes(recipes, runs)
    fine = all(
        outcome.band_check in (BandCheck.PASS, BandCheck.NO_BAND) for outcome in results if outcome.recipe in chosen
    )
    return code if code == INTERRUPTED or fine else 1


def _run(recipes: Sequence[Recipe]) -> int:
    """Runs the command of each recipe, even if an earlier one failed; returns 130 at once if one is interrupted.

    Ctrl-C reaches ode-run from the terminal, too, and ode-run saves and exits by itself. So the signal is ignored here:
    otherwise, subprocess.run would kill ode-run after 0.25 s.
    """
    earlier = signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        for recipe in recipes:
            print(f"\n{recipe.name}: {' '.join(recipe.command)}", flush=True)
            if subprocess.run([program(), *recipe.command[1:]]).returncode == INTERRUPTED:
                return INTERRUPTED
    finally:
        signal.signal(signal.SIGINT, earlier)
    return 0


def _has_runs(recipe: Recipe) -> bool:
    return any(recipe.folder.glob("*/*/record.json"))


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except RefusedInput as refusal:
        print(f"recipes: {refusal}", file=sys.stderr)
        sys.exit(2)
