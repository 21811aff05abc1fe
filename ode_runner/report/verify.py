"""`ode-report verify`: runs the command of a run again and compares the numbers."""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from ode_runner.config.arguments import root_of
from ode_runner.config.trust import code_named
from ode_runner.errors import RefusedInput
from ode_runner.recording.bookkeeping import ASIDE, PLACEMENT
from ode_runner.recording.stored_command import stored_overrides, stored_yaml
from ode_runner.recording.streams import lost_output
from ode_runner.report.diff import (
    Difference,
    code_differences,
    configuration_differences,
    curves_part,
    environment_differences,
    grid,
    same,
)
from ode_runner.report.runs import Run, find_runs
from ode_runner.report.screen import WIDE

NOT_REPEATED = ("hydra", *PLACEMENT)  # overrides that say where a run is stored
TYPED = "command-line"  # Hydra's provider of a folder that is named by -cd
NEVER_THE_SAME = ("seconds", "bytes", "per_second")
WATCHED = ("diagnostics/", "audit/")  # may be in the command but not the record, if typed after the run was completed


class Command(NamedTuple):
    """The command to run again, and the code that it runs."""

    words: list[str]
    directory: Path
    own_code: list[str]  # folders of choices and names of classes that are not this program's


def verify(run: Run, *, trust: bool) -> int:
    """Run it again in a temporary folder and compare. Returns 0 if reproduced; otherwise 1, and keeps the new folder.

    Raises:
        RefusedInput: the run is not completed, its command is not on disk, or it would run code that is neither this
            program's nor trusted.
    """
    command = _verifiable(run, trust=trust)
    aside = Path(tempfile.mkdtemp(prefix="ode-verify-"))
    whose = f"this program's and {', '.join(command.own_code)}" if command.own_code else "this program's alone"
    print(f"in {command.directory}, with code that is {whose}, again:\node-run {shlex.join(command.words)}", flush=True)
    if lost_output():
        return 1  # the outcome could not be printed either
    ended = subprocess.run(
        [program(), *command.words, f"output_dir='{aside}'"],
        cwd=command.directory,
        env=_environment(run, own_code=bool(command.own_code)),
    )
    if ended.returncode != 0:
        print(f"not reproduced: ode-run ended with exit code {ended.returncode}; what it left is in {aside}")
        return 1
    [again] = find_runs([aside]).runs
    differences = compared(run, again)
    if differences or configuration_differences(run, again):
        _print_differences(run, again, differences)
        return 1
    print(f"reproduced: {len(exact(run))} metrics and counts are the same to the last digit; {curves_part(run, again)}")
    shutil.rmtree(aside)
    return 0


def _verifiable(run: Run, *, trust: bool) -> Command:
    """The command of the run; raises RefusedInput as `verify` says."""
    if not run.completed:
        raise RefusedInput(f"'{run.folder}' is {run.record.status}: only a completed run can be verified.")
    command = _command(run)
    if command.own_code and not trust:
        raise RefusedInput(
            f"'{run.folder}' was made with code of its own: {', '.join(command.own_code)}, in {command.directory}. "
            "If you know whose it is and want it run, add --trust."
        )
    return command


def exact(run: Run) -> dict[str, float]:
    """The numbers that must be the same: metrics and counts, but not times or memory."""
    return {name: value for name, value in run.measurements.items() if not name.endswith(NEVER_THE_SAME)}


def compared(run: Run, again: Run) -> list[Difference]:
    """Names and both values of the numbers that are not equal."""
    first, second = exact(run), exact(again)
    names = [
        name
        for name in dict.fromkeys([*first, *second])
        if not name.startswith(WATCHED) or (name in first and name in second)
    ]
    return [(name, first.get(name), second.get(name)) for name in names if not same(first.get(name), second.get(name))]


def _print_differences(run: Run, again: Run, differences: list[Difference]) -> None:
    console = Console(width=WIDE, highlight=False)
    causes = {
        "the same command gives another configuration now": configuration_differences(run, again),
        "the code is not the same": code_differences(run, again),
        "the environment is not the same": environment_differences(run, again),
    }
    print(f"not reproduced: {len(differences)} of {len(exact(run))} metrics and counts differ (A recorded, B again)")
    if differences:
        console.print(grid(differences, numbers=True))
    print(curves_part(run, again))
    if "max_seconds" in run.record.reason:
        print("the run was ended by trainer.max_seconds: how far it comes depends on the machine")
    for words, found in causes.items():
        if found:
            print(f"\n{words} (A recorded, B again)")
            console.print(grid(found))
    print(f"\nthe run to compare with: {again.folder}")


def _command(run: Run) -> Command:
    """The command of a run, from its folder."""
    try:
        hydra = stored_yaml(run.folder / ".hydra" / "hydra.yaml")["hydra"]
        overrides = [word for word in stored_overrides(run.folder) if root_of(word) not in NOT_REPEATED]
        folders = [str(source["path"]) for source in hydra["runtime"]["config_sources"] if source["provider"] == TYPED]
        searched = [word for word in hydra["overrides"]["hydra"] if word.startswith("hydra.searchpath=")]
        directory = Path(hydra["runtime"]["cwd"])
    except (KeyError, TypeError, AttributeError):
        raise RefusedInput(f"{run.folder / '.hydra'} does not say how the run was started.") from None
    own_code = [*folders, *searched, *(word for word in overrides if "_target_" in word or any(code_named(word)))]
    flags = [word for folder in folders for word in ("-cd", folder)]
    words = [*flags, *overrides, *searched, "hydra.mode=RUN"]  # a preset would start a sweep
    return Command(words, directory if directory.is_dir() else Path.cwd(), own_code)


def program() -> str:
    """The path of `ode-run`, of this installation if possible.

    Raises:
        RefusedInput: `ode-run` is not installed.
    """
    program = shutil.which("ode-run", path=Path(sys.executable).parent) or shutil.which("ode-run")
    if program is None:
        raise RefusedInput("the command ode-run is not installed here.")
    return program


def _environment(run: Run, *, own_code: bool) -> dict[str, str]:
    """The environment: as many threads as in the run, by which sums round, and no imports from the directory."""
    threads = run.record.environment.get("threads")
    environment = {**os.environ, ASIDE: "1", **({"OMP_NUM_THREADS": str(threads)} if threads else {})}
    return environment if own_code else {**environment, "PYTHONSAFEPATH": "1"}
