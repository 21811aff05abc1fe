"""`ode-run`: the command line, from argv to exit code. Imports no torch until a run starts."""

import io
import sys
from collections.abc import Callable
from contextlib import redirect_stdout

from ode_runner.config.arguments import is_subcommand, parse
from ode_runner.config.choice_help import show_help
from ode_runner.config.completion import asking_shell, joined, offered
from ode_runner.config.garbage_collection import collector_off, end_without_collecting
from ode_runner.config.help import print_version
from ode_runner.config.trust import set_import_path
from ode_runner.distributed.ranks import Rank
from ode_runner.recording.streams import exit_code, ignore_output_errors, replace_unprintable


def main() -> None:
    """Entry point of the console script."""
    rank = Rank.of_this_process()
    if rank is None:
        answer()
        return
    set_import_path(sys.argv[1:])  # workers need it, too
    try:
        from ode_runner.distributed.torchrun import join_group

        join_group(rank, answer)
    except KeyboardInterrupt:  # while the processes wait for each other
        sys.exit(130)


def answer() -> None:
    """Carry out the command in sys.argv and exit with its code."""
    arguments = parse(sys.argv[1:]).flags_first()
    replace_unprintable()
    ignore_output_errors()
    code = _answer_without_hydra(arguments)
    if code is None:
        sys.argv[1:] = arguments
        code = _answer_by_hydra(arguments)
        end_without_collecting()
    sys.exit(exit_code("ode-run", code))


def _answer_without_hydra(arguments: list[str]) -> int | None:
    """Answer help, version, tab completion without Hydra, and subcommands. The exit code; None for other commands."""
    if {"-h", "--help"} & set(arguments):
        return show_help(arguments)
    if "--version" in arguments:
        print_version()
        return 0
    shell = asking_shell(arguments)
    if shell is not None and (words := offered(arguments)) is not None:
        print(joined(words, shell=shell))
        return 0
    if is_subcommand(sys.argv[1:]):
        from ode_runner.commands.subcommands import run_subcommand

        return run_subcommand(sys.argv[1:])
    return None


def _answer_by_hydra(arguments: list[str]) -> int:
    """Carry out a run, a sweep or a command on runs, or complete options that only Hydra knows. The exit code."""
    set_import_path(arguments)
    shell = asking_shell(arguments)
    try:
        with collector_off():
            from ode_runner.launch import launch

        return int(launch()) if shell is None else _complete(shell, launch)
    except KeyboardInterrupt:  # while modules are still being imported
        return 130
    except SystemExit as ending:  # raised by Hydra after it has shown its own help
        if not isinstance(ending.code, int):
            raise
        return ending.code


def _complete(shell: str, launch: Callable[[], int]) -> int:
    """Ask Hydra for completions and print those that a user would type; returns the exit code."""
    said = io.StringIO()
    with redirect_stdout(said):
        code = int(launch())
    print(joined(said.getvalue().split(), shell=shell))
    return code
