"""Hydra around the run: one job after another, and what they return to the shell."""

import os
import re
import sys
import warnings
from enum import IntEnum
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ode_runner.help import conf_dir
from ode_runner.refusals import in_our_words


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
    OmegaConf.register_new_resolver("run_name", _run_name, replace=True)
    OmegaConf.register_new_resolver("sweep_name", _sweep_name, replace=True)
    main = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(run_job)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "provider=.*, path=.* is not available")  # a misspelt search path
            main()
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except (HydraException, OmegaConfBaseException, UserWarning, OSError, ValueError) as error:
        print(f"ode-run: {in_our_words(error, sys.argv[1:])}", file=sys.stderr)
        return ExitCode.REFUSED
    return max(codes, default=ExitCode.COMPLETED) if len(codes) < 2 else min(max(codes), ExitCode.FAILED)


def run_job(cfg: DictConfig) -> None:
    """One run, alone or in a sweep, which it must not bring down."""
    from ode_runner.build import plan_run  # here, so that neither --cfg nor TAB waits for torch
    from ode_runner.errors import IncompatibleChoice, RefusedInput
    from ode_runner.record import RunStatus
    from ode_runner.run import execute

    job = HydraConfig.get()
    in_sweep = job.mode is RunMode.MULTIRUN
    folder = Path(os.path.relpath(job.runtime.output_dir))
    try:
        record = execute(plan_run(cfg, job.runtime.choices, folder, in_sweep=in_sweep))
    except RefusedInput as refusal:
        skipped = in_sweep and isinstance(refusal, IncompatibleChoice)
        print(f"ode-run: {'skipped: ' if skipped else ''}{refusal}", file=sys.stderr)
        codes.append(ExitCode.COMPLETED if skipped else ExitCode.REFUSED)
        return
    if record.status is RunStatus.INTERRUPTED:
        raise KeyboardInterrupt  # a sweep goes no further either
    codes.append(ExitCode.COMPLETED if record.status is RunStatus.COMPLETED else ExitCode.FAILED)


def _run_name(*, _root_: DictConfig) -> str:
    from ode_runner.build import run_name

    return run_name(_root_)


def _sweep_name(*, _root_: DictConfig) -> str:
    """`sweep=NAME`, or what is swept and a hash of the whole command: the same command finds its sweep."""
    if _root_.sweep is not None:
        return str(_root_.sweep)
    import hashlib

    overrides = sorted(o for o in _root_.hydra.overrides.task if not o.startswith(("rerun=", "sweep=")))
    swept = [re.sub(r"^[+~]*|=.*$", "", o).split(".")[-1] for o in overrides if "," in o or "(" in o]
    digest = hashlib.sha256("\n".join(overrides).encode()).hexdigest()[:6]
    return "-".join([*swept, digest])
