"""`ode-run`: the command line, from argv to exit code. Imports no torch until a run starts."""

import os
import sys
from contextlib import suppress

from ode_runner.arguments import parse
from ode_runner.help import print_help, print_version
from ode_runner.ranks import Rank
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
    if {"-h", "--help"} & set(arguments):
        with suppress(BrokenPipeError):  # `ode-run --help | head` has seen enough
            print_help(arguments)
            sys.stdout.flush()
            sys.exit(0)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    if "--version" in arguments:
        print_version()
        sys.exit(0)
    sys.argv[1:] = arguments
    set_import_path(arguments)
    try:
        from ode_runner.launch import launch

        code = int(launch())
    except KeyboardInterrupt:  # while modules are still being imported
        code = 130
    sys.exit(code)
