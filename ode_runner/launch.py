"""Hydra around the run: one job after another, and what they return to the shell."""

import argparse
import logging
import os
import shutil
import sys
import warnings
from contextlib import suppress
from enum import IntEnum
from pathlib import Path
from typing import NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.help import conf_dir
from ode_runner.places import new_sweeps, place
from ode_runner.refusals import demand_known_keys, hidden_files, in_our_words
from ode_runner.revisit import with_its_command


class ExitCode(IntEnum):
    """What the shell is told."""

    COMPLETED = 0
    FAILED = 1
    REFUSED = 2
    INTERRUPTED = 130


codes: list[ExitCode] = []  # of the jobs of this process, in order; Hydra discards what they return


def launch() -> ExitCode:
    """Run what sys.argv asks for."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises, and the words are ours
    logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)  # a class that cannot be loaded: we say it, once
    logging.raiseExceptions = False  # a log file on a full disk must not drown what is said of it
    OmegaConf.register_new_resolver("place", place, replace=True)
    main = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(run_job)
    for hidden, chosen in hidden_files(sys.argv[1:]):
        print(
            f"ode-run: warning: {hidden} is not used: {chosen} is built in. Give the file a name of its own.",
            file=sys.stderr,
        )
    try:
        _FlagParser(parents=[get_args_parser()], add_help=False).parse_args()
        sys.argv[1:] = with_its_command(sys.argv[1:])
        demand_known_keys(sys.argv[1:])
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "provider=.*, path=.* is not available")  # a misspelt search path
            main()
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except (HydraException, OmegaConfBaseException, UserWarning, OSError, ValueError) as error:
        print(f"ode-run: {in_our_words(error, sys.argv[1:])}", file=sys.stderr)
        _leave_no_empty_sweep()
        return ExitCode.REFUSED
    return max(codes, default=ExitCode.COMPLETED) if len(codes) < 2 else min(max(codes), ExitCode.FAILED)


def run_job(cfg: DictConfig) -> None:
    """One run, alone or in a sweep, which it must not bring down."""
    from ode_runner.build import plan_run, plan_visit  # here, so that neither --cfg nor TAB waits for torch
    from ode_runner.record import RunStatus
    from ode_runner.run import execute

    job = HydraConfig.get()
    in_sweep = job.mode is RunMode.MULTIRUN
    folder = Path(os.path.relpath(job.runtime.output_dir))
    try:
        visit = plan_visit(cfg, job.runtime.choices, folder)
        status = visit() if visit else execute(plan_run(cfg, job.runtime.choices, folder, in_sweep=in_sweep)).status
    except RefusedInput as refusal:
        skipped = in_sweep and isinstance(refusal, IncompatibleChoice)
        print(f"ode-run: {'skipped: ' if skipped else ''}{refusal}", file=sys.stderr)
        codes.append(ExitCode.COMPLETED if skipped else ExitCode.REFUSED)
        return
    except OSError as error:  # the folder could not be prepared
        print(f"ode-run: {in_our_words(error, sys.argv[1:])}", file=sys.stderr)
        codes.append(ExitCode.REFUSED)
        return
    if status is RunStatus.INTERRUPTED:
        raise KeyboardInterrupt  # a sweep goes no further either
    codes.append(ExitCode.COMPLETED if status is RunStatus.COMPLETED else ExitCode.FAILED)


class _FlagParser(argparse.ArgumentParser):
    """Refuses an unknown flag in one line; argparse prints its whole usage."""

    def error(self, message: str) -> NoReturn:
        raise RefusedInput(f"{message}. ode-run --help lists the flags.")


def _leave_no_empty_sweep() -> None:
    """Hydra writes multirun.yaml into the folder of a sweep before it looks at the jobs."""
    for folder in new_sweeps:
        if [path.name for path in folder.rglob("*") if path.is_file()] == ["multirun.yaml"]:
            shutil.rmtree(folder)
            with suppress(OSError):
                folder.parent.rmdir()  # unless it holds other sweeps
