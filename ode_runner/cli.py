"""`ode-run`: the command line, from argv to exit code. Imports no torch until a run starts."""

import os
import sys
from contextlib import suppress

from ode_runner.help import print_help, print_version
from ode_runner.ranks import Rank

FLAGS_WITH_VALUE = {"--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn"}
FLAGS_WITH_VALUE |= {"--config-dir", "-cd", "--experimental-rerun"}
INFO_VALUES = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")


def main() -> None:
    """Entry point of the console script."""
    rank = Rank.of_this_process()
    if rank is None:
        answer()
        return
    sys.path.insert(0, os.getcwd())  # for a helper, too
    try:
        from ode_runner.torchrun import take_part

        take_part(rank, answer)
    except KeyboardInterrupt:  # before they have met
        sys.exit(130)


def answer() -> None:
    """Do what sys.argv asks for, and exit."""
    arguments = flags_first(sys.argv[1:])
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
    sys.path.insert(0, os.getcwd())  # a user's own classes lie where the command is typed
    try:
        from ode_runner.launch import launch

        code = int(launch())
    except KeyboardInterrupt:  # while modules are still being imported
        code = 130
    sys.exit(code)


def flags_first(arguments: list[str]) -> list[str]:
    """Flags before overrides: Hydra 1.3 rejects overrides on both sides of a flag."""
    flags: list[str] = []
    overrides: list[str] = []
    waiting: list[str] = list(arguments)
    while waiting:
        word = waiting.pop(0)
        if not word.startswith("-"):
            overrides.append(word)
            continue
        flags.append(word)
        takes_value = word in FLAGS_WITH_VALUE
        takes_info = word in ("--info", "-i") and bool(waiting) and waiting[0] in INFO_VALUES
        if waiting and (takes_value or takes_info):
            flags.append(waiting.pop(0))
    return flags + overrides
