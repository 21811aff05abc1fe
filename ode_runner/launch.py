"""Starts Hydra: checks the command line, runs one job or a sweep, and turns errors into messages and exit codes."""

import argparse
import logging
import os
import re
import sys
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from ode_runner.commands.original_command import with_original_command
from ode_runner.commands.run_folders import folder_of, note_typed_folder
from ode_runner.config.arguments import parse
from ode_runner.config.command_files import command_files
from ode_runner.config.composition_cost import less_composing
from ode_runner.config.exclusive_options import one_of_each
from ode_runner.config.exit_codes import (
    IN_USE,
    REFUSED,
    ExitCode,
    JobResult,
    add_exit_code,
    clear_exit_codes,
    command_exit_code,
)
from ode_runner.config.garbage_collection import collector_off, pass_over_imported
from ode_runner.config.help import conf_dir
from ode_runner.config.hints import foreign_hint
from ode_runner.config.known_options import check_known_keys
from ode_runner.config.messages import about_flag, hidden_files, readable_message
from ode_runner.config.overrides import check_overrides, quoted_where_needed
from ode_runner.config.repeated_options import last_of_each
from ode_runner.config.run_mode import known_from_words
from ode_runner.config.set_options import completed
from ode_runner.config.swept_options import for_each_cell
from ode_runner.config.unused_words import check_words_used
from ode_runner.config.yaml_options import check_yaml_options
from ode_runner.errors import IncompatibleChoice, InUse, RefusedInput
from ode_runner.recording.fresh_folder import remove_if_fresh
from ode_runner.recording.printable import on_one_line
from ode_runner.recording.relative_path import relative_path
from ode_runner.recording.streams import ignore_output_errors, replace_unprintable
from ode_runner.sweeps.launchers import JOBLIB_LAUNCHER
from ode_runner.sweeps.search import SearchSweeper
from ode_runner.sweeps.sweeper import CellSweeper, register

if TYPE_CHECKING:
    from ode_runner.recording.record import RunStatus

OmegaConf.register_new_resolver(
    "folder", folder_of, replace=True
)  # at import: a launcher's worker only imports `run_job`


@less_composing()
def launch() -> ExitCode:
    """Run the command in sys.argv by Hydra; returns the exit code."""
    clear_exit_codes()
    _prepare_hydra()
    main = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(run_job)
    for hidden, chosen in hidden_files(sys.argv[1:]):
        _say(f"warning: {hidden} is not used: {chosen} is built in. Give the file a name of its own.")
    try:
        _check_words()
        with warnings.catch_warnings(), known_from_words(sys.argv[1:]):
            warnings.filterwarnings("ignore", r"\s*'hydra/launcher/ray' is validated against")  # by the plugin
            warnings.filterwarnings("error", "provider=.*, path=.* is not available")  # a misspelt search path
            main()
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except (HydraException, OmegaConfBaseException, UserWarning, OSError, ValueError) as error:
        _say(readable_message(error, sys.argv[1:]))
        return ExitCode.REFUSED
    return command_exit_code()


def _prepare_hydra() -> None:
    """Register our sweepers, and leave errors to be reported by us."""
    register("CellSweeper", CellSweeper)
    register("SearchSweeper", SearchSweeper)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises its errors, which are reworded here
    logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)  # an object that cannot be made is reported by us
    logging.raiseExceptions = False  # no traceback for each line that a full disk does not take


def _check_words() -> None:
    """Refuse words of sys.argv that Hydra would accept without effect, and complete the others."""
    _FlagParser(parents=[get_args_parser()], add_help=False).parse_args()
    arguments = parse(sys.argv[1:])
    overrides, remarks = last_of_each(arguments.overrides)
    sys.argv[1:] = arguments._replace(overrides=overrides).flags_first()
    for remark in remarks:
        _say(f"{remark}.")
    check_words_used(sys.argv[1:])
    # Before an earlier run's words are added: one option typed now replaces both of that run.
    typed = one_of_each(for_each_cell(sys.argv[1:]))
    sys.argv[1:] = quoted_where_needed(completed(with_original_command(typed)))
    check_overrides(sys.argv[1:])
    check_known_keys(sys.argv[1:])
    note_typed_folder(sys.argv[1:])


def run_job(cfg: DictConfig) -> JobResult:
    """Hydra's task function: plans or runs one job. An error in a run does not end its sweep; an interrupt does."""
    replace_unprintable()  # again: a launcher's worker is another process
    ignore_output_errors()
    try:
        check_yaml_options(cfg)
        result = _plan(cfg) if cfg.plan else _run(cfg, in_sweep=HydraConfig.get().mode is RunMode.MULTIRUN)
    except (RefusedInput, OmegaConfBaseException) as error:  # here, because Hydra would add lines of its own
        reason = readable_message(error, sys.argv[1:])
        _say(reason)
        result = JobResult(ExitCode.REFUSED, REFUSED, reason)
    add_exit_code(result.code)
    return result


def _plan(cfg: DictConfig) -> JobResult:
    """Print the forecast of a single run (`plan=true`); a sweep is planned by its sweeper."""
    from ode_runner.sweeps.inspection import inspect_cell
    from ode_runner.sweeps.sweep_cell import CellState
    from ode_runner.sweeps.sweep_plan import SweepPlan

    remove_if_fresh(Path(HydraConfig.get().runtime.output_dir))  # made by Hydra, unless hydra.run.dir names it
    whole = OmegaConf.masked_copy(cfg, [str(key) for key in cfg])
    with open_dict(whole):
        whole.hydra = HydraConfig.instance().cfg.hydra  # type: ignore[union-attr]
    folder = relative_path(folder_of("own", _root_=whole))
    cell = inspect_cell(name="", overrides=[], cfg=whole, folder=folder)
    SweepPlan(cells=[cell], folder=folder).show()
    possible = cell.state not in (CellState.REFUSED, CellState.INCOMPATIBLE)
    return JobResult(ExitCode.COMPLETED if possible else ExitCode.REFUSED, cell.state)


def _run(cfg: DictConfig, *, in_sweep: bool) -> JobResult:
    from ode_runner.distributed.gpus import take_gpus  # here, so that neither --cfg nor TAB waits for torch
    from ode_runner.experiment.process_state import unchanged

    job = HydraConfig.get()
    if in_sweep and job.launcher._target_ == JOBLIB_LAUNCHER:
        take_gpus(cfg.processes if isinstance(cfg.processes, int) else 1)
    with unchanged() if in_sweep else nullcontext():  # for the next cell
        return _ended(cfg, job, in_sweep=in_sweep)


def _ended(cfg: DictConfig, job: HydraConf, *, in_sweep: bool) -> JobResult:
    from ode_runner.recording.record import RunStatus

    folder = relative_path(job.runtime.output_dir)
    try:
        outcome = _carry_out(cfg, folder, in_sweep=in_sweep)
    except InUse as refusal:
        _say(f"{refusal.fact} The sweep comes back to it when it is free." if in_sweep else str(refusal))
        return JobResult(ExitCode.REFUSED, IN_USE, str(refusal))
    except RefusedInput as refusal:
        skipped = in_sweep and isinstance(refusal, IncompatibleChoice)
        _say(f"{'skipped: ' if skipped else ''}{refusal}")
        if skipped:
            return JobResult(ExitCode.COMPLETED, RunStatus.INCOMPATIBLE, str(refusal))
        return JobResult(ExitCode.REFUSED, REFUSED, str(refusal))
    except OSError as error:  # the folder could not be prepared
        _say(readable_message(error, sys.argv[1:]))
        return JobResult(ExitCode.REFUSED, REFUSED, readable_message(error, sys.argv[1:]))
    status, reason = outcome
    if status is RunStatus.INTERRUPTED:
        raise KeyboardInterrupt  # ends a sweep, too
    fine = status in (RunStatus.COMPLETED, RunStatus.PRUNED)
    return JobResult(ExitCode.COMPLETED if fine else ExitCode.FAILED, status, reason)


def _carry_out(cfg: DictConfig, folder: Path, *, in_sweep: bool) -> tuple["RunStatus", str]:
    """Carry out a command or train; returns the status and, unless the run completed, the reason in a sentence."""
    with collector_off():
        from ode_runner.build import plan_run
        from ode_runner.commands.dispatch import run_command
        from ode_runner.sweeps.trial_of_job import trial_of_job
        from ode_runner.training.run import execute

        pass_over_imported()
    choices, files = HydraConfig.get().runtime.choices, command_files(cfg)
    answered = run_command(cfg, choices, folder, command_files=files)
    if answered is not None:
        return answered
    trial = trial_of_job() if in_sweep else None
    plan = plan_run(cfg, choices, folder, command_files=files, in_sweep=in_sweep, trial=trial)
    record = execute(plan, goes_on=in_sweep)
    return record.status, record.reason


def _say(sentence: str) -> None:
    """Print one line to standard error; words of more than 300 characters are cut."""
    brief = re.sub(r"(\S{100})\S{200,}", r"\1...", sentence)
    print(f"ode-run: {on_one_line(brief)}", file=sys.stderr)


class _FlagParser(argparse.ArgumentParser):
    """Refuses an unknown flag in one line; argparse alone would print its whole usage."""

    def error(self, message: str) -> NoReturn:
        unknown = message.partition("unrecognized arguments: ")[2].split(" ")[0]
        hint = foreign_hint(unknown.partition("=")[0]) or about_flag(unknown, sys.argv[1:])
        raise RefusedInput(f"{message}.{hint} ode-run --help lists the flags; options are typed as key=value.")
