"""`ode-report`: the command line, from argv to exit code. Imports matplotlib only to draw, torch and Hydra never."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from ode_runner.errors import RefusedInput
from ode_runner.recording.printable import printable
from ode_runner.recording.streams import exit_code, ignore_output_errors, replace_unprintable
from ode_runner.report.comparable import find_incomparable, without_incomparable
from ode_runner.report.formats import FORMATS, Report
from ode_runner.report.remarks import absences, left_out, mixture, not_ranked, warnings, without_effect
from ode_runner.report.rows import without_repeats
from ode_runner.report.runs import Run, find_runs, read_run
from ode_runner.report.same_data import of_different_data
from ode_runner.report.table import make_table
from ode_runner.report.where import choose

HELP = """
usage: ode-report [FOLDER ...] [options]      table of all runs below the folders (default: outputs)
       ode-report diff A B                    what differs between two runs: configuration, environment, code, result
       ode-report verify FOLDER [--trust]     run it again, and say whether it gives the same numbers; --trust: also run
                                              the code that its command names
       ode-report cite FOLDER                 the sources of a run's choices
       ode-report prune [FOLDER ...] [--remove]
                                              list folders of runs that failed, were refused, or are superseded by a
                                              later run beside them; --remove: remove these, and nothing else

The table has one row for each configuration, with mean ± standard deviation over its seeds, and only the columns that
differ; the best of each task is marked. Runs that did not complete are listed below with their reason. Runs may still
be in progress.

  --metrics NAMES    measurements to show: test/accuracy,cost/nfe_forward or only the end of a name, if it is
                     unambiguous (default: results on the test split, NFE, saved bytes, seconds)
  --where CONDITION  only some runs: model=odenet,resnet (either), solver!=euler, solver.rtol<=1e-3, status=completed;
                     several --where must all hold
  --by COLUMNS       one row for each value of these instead, averaged over everything else: --by model,gradient
  --sort NAMES       sort by these columns or measurements, the best first
  --reverse          in reverse order
  --format FORMAT    md, csv (raw numbers), latex or html instead of a table for the terminal
  --plots FOLDER     write pictures to this folder: learning curves, NFE, trade-offs with Pareto fronts, memory,
                     errors of samples against evaluations
  --plots-as KIND    png (the default), pdf or svg
  --html PATH        write one page to sort, filter and search, with curves, pictures and links to the runs
  -h, --help         this page
  --version          the program's version
"""
USAGE = {
    "diff": "diff A B",
    "verify": "verify FOLDER [--trust]",
    "cite": "cite FOLDER",
    "prune": "prune [FOLDER ...] [--remove]",
}
FLAGS = {"verify": "--trust", "prune": "--remove"}  # each command has at most one
FOLDERS = {"diff": 2, "verify": 1, "cite": 1}  # how many each command takes; prune takes any number


def main() -> None:
    """Entry point of the console script."""
    replace_unprintable()
    ignore_output_errors()
    try:
        code = run(sys.argv[1:])
    except RefusedInput as refusal:
        print(printable(f"ode-report: {refusal}"), file=sys.stderr)
        code = 2
    except OSError as error:  # for example if a run is removed meanwhile
        named = f": {error.filename}" if error.filename else ""
        print(printable(f"ode-report: {error.strerror or error}{named}."), file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        code = 130
    sys.exit(exit_code("ode-report", code))


def run(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit code.

    Raises:
        RefusedInput: the command is not valid as typed.
    """
    if {"-h", "--help"} & set(arguments):
        print(HELP.strip())
        return 0
    if "--version" in arguments:
        from ode_runner.config.version import VERSION

        print(f"ode-report {VERSION}")
        return 0
    if arguments and arguments[0] in USAGE:
        return _command(arguments[0], list(arguments[1:]))
    return _tabulate(_parser().parse_args(arguments))


class _Parser(argparse.ArgumentParser):
    """Refuses in one line, where argparse would print the whole usage."""

    def error(self, message: str) -> NoReturn:
        raise RefusedInput(f"{message}. ode-report --help lists the options.")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="ode-report", add_help=False, allow_abbrev=False)
    parser.add_argument("folders", nargs="*", type=Path)
    for name in ("--metrics", "--by", "--sort"):
        parser.add_argument(name)
    parser.add_argument("--where", action="append", default=[])
    parser.add_argument("--reverse", action="store_true")
    parser.add_argument("--format", choices=tuple(FORMATS))
    parser.add_argument("--plots", type=Path)
    parser.add_argument("--plots-as", choices=("png", "pdf", "svg"))
    parser.add_argument("--html", type=Path)
    return parser


def _tabulate(typed: argparse.Namespace) -> int:
    if typed.plots_as and typed.plots is None:
        raise RefusedInput(f"--plots-as {typed.plots_as} says how pictures are written. Add --plots FOLDER.")
    folders = typed.folders or [Path("outputs")]
    found = find_runs(folders)
    runs = choose([*found.runs, *found.unbegun], typed.where)
    runs, repeats = without_repeats(runs)
    incomparable = find_incomparable(runs)
    runs = without_incomparable(runs, incomparable)
    unshown = {name: found.sentence for found in incomparable for name in found.metrics}
    table = make_table(
        runs, left_out=unshown, metrics=typed.metrics, by=typed.by, sort=typed.sort, reverse=typed.reverse
    )
    shown = [run for row in table.rows for run in row.completed]
    unreadable = [] if typed.where else found.unreadable
    mixed = mixture(shown, list(table.rows[0].columns)) if typed.by and table.rows else without_effect(table.rows)
    compared = [found.sentence for found in incomparable] + of_different_data(table.rows)
    notes = compared + not_ranked(table) + mixed + left_out(table) + warnings(shown, repeats)
    report = Report(table=table, absences=absences(runs, unreadable), warnings=notes)
    _print(report, typed.format)
    if typed.plots is not None or typed.html is not None:
        kind = typed.plots_as or "png"
        begun = [run for run in runs if run.begun]
        _draw(report, plots=typed.plots, kind=kind, page=typed.html, runs=begun, folders=folders)
    return 0


def show_results(folder: Path) -> None:
    """Print the table of the completed runs of a sweep, without the other runs."""
    found = find_runs([folder])
    runs, _ = without_repeats([*found.runs, *found.unbegun])
    incomparable = find_incomparable(runs)
    unshown = {name: found.sentence for found in incomparable for name in found.metrics}
    table = make_table(without_incomparable(runs, incomparable), left_out=unshown)
    if table.rows:
        compared = [found.sentence for found in incomparable] + of_different_data(table.rows)
        notes = compared + not_ranked(table) + without_effect(table.rows) + left_out(table)
        _print(Report(table=table, absences=[], warnings=notes), None)


def _draw(
    report: Report, *, plots: Path | None, kind: str, page: Path | None, runs: Sequence[Run], folders: Sequence[Path]
) -> None:
    """Write the pictures as files and into the page; prints a line for each that cannot be drawn."""
    from ode_runner.report.picture_files import Failures, failure_sentences, write_pictures
    from ode_runner.report.pictures import draw_all

    undrawn: Failures = {}
    pictures = draw_all(report.table, undrawn)
    if plots is not None:
        write_pictures(pictures, plots, kind, undrawn)
    if page is not None:
        from ode_runner.report.page import write_page

        write_page(page, report, pictures, undrawn=undrawn, runs=runs, folders=folders)
    for sentence in failure_sentences(undrawn):
        print(printable(f"ode-report: {sentence}; the rest of the report is written."), file=sys.stderr)


def _print(report: Report, format_name: str | None) -> None:
    if format_name is None:
        from ode_runner.report.screen import show

        show(report)
        return
    print(printable(FORMATS[format_name](report)), end="")
    if format_name == "csv":  # which has no place for text
        for absence in report.absences:
            print(printable(f"{absence.status} ({absence.count}: {absence.named}): {absence.reason}"), file=sys.stderr)
        for warning in report.warnings:
            print(printable(f"note: {warning}"), file=sys.stderr)


def _command(command: str, arguments: list[str]) -> int:
    named = [Path(word) for word in arguments if not word.startswith("-")]
    flags = [word for word in arguments if word.startswith("-")]
    if len(named) != FOLDERS.get(command, len(named)) or flags not in ([], [FLAGS.get(command)]):
        raise RefusedInput(f"type: ode-report {USAGE[command]}")
    if command == "prune":
        from ode_runner.report.prune import prune

        prune(named or [Path("outputs")], remove=bool(flags))
        return 0
    runs = [read_run(folder) for folder in named]
    if command == "verify":
        from ode_runner.report.verify import verify

        return verify(runs[0], trust=bool(flags))
    if command == "cite":
        from ode_runner.report.sources import cite

        cite(runs[0])
    else:
        from ode_runner.report.diff import show_differences

        show_differences(*runs)
    return 0
