"""`ode-run`: the command line, from argv to exit code. Imports no torch until a run starts."""

import os
import sys

from ode_runner.arguments import parse
from ode_runner.help import print_help, print_version
from ode_runner.ranks import Rank
from ode_runner.streams import outlast_the_screen, replace_what_cannot_be_printed
from ode_runner.trust import set_import_path


def main() -> None:
    """Entry point of the console script."""
    rank = Rank.of_this_process()
    if rank is None:
        answer()
        return
    set_import_path(sys.argv[1:])  # for a helper, too
    try:
        from ode_runner.torchrun import take_part

        take_part(rank, answer)
    except KeyboardInterrupt:  # before they have met
        sys.exit(130)


def answer() -> None:
    """Do what sys.argv asks for, and exit."""
    arguments = parse(sys.argv[1:]).flags_first()
    replace_what_cannot_be_printed()
    if {"-h", "--help", "--version"} & set(arguments):
        sys.exit(_inform(arguments))
    outlast_the_screen()
    sys.argv[1:] = arguments
    set_import_path(arguments)
    try:
        from ode_runner.launch import launch

        code = int(launch())
    except KeyboardInterrupt:  # while modules are still being imported
        code = 130
    sys.exit(code)


def _inform(arguments: list[str]) -> int:
    try:
        print_version() if not {"-h", "--help"} & set(arguments) else print_help(arguments)
        sys.stdout.flush()
        return 0
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or it would be tried again at the end
        if not isinstance(error, BrokenPipeError):  # `ode-run --help | head` has seen enough
            print(f"ode-run: {error.strerror}.", file=sys.stderr)
        return 1
