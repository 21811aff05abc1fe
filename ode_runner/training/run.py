"""One run from lock to record: built, trained and tested; failures become a status."""

import re
import shlex
import shutil
from contextlib import suppress
from functools import partial
from pathlib import Path

from ode_runner.config.identity import read_same
from ode_runner.errors import IncompatibleChoice, NumericalFailure, RefusedInput
from ode_runner.experiment.crash_dump import FILE as CRASH_DUMP
from ode_runner.experiment.process_state import same_folder
from ode_runner.experiment.signals import StopRequest, stop_on_signals
from ode_runner.recording import own_code
from ode_runner.recording.atomic_write import atomic_write
from ode_runner.recording.attempts import attempt
from ode_runner.recording.cell_display import CellDisplay
from ode_runner.recording.display import Display
from ode_runner.recording.fresh_folder import check_room, is_fresh, remove
from ode_runner.recording.lock import lock, may_lock
from ode_runner.recording.logger import EVENTS, METRICS
from ode_runner.recording.missing_output import missing_output
from ode_runner.recording.own_warnings import warnings_printed
from ode_runner.recording.pictures import TRACEBACKS
from ode_runner.recording.record import RunRecord, RunStatus, utc_now
from ode_runner.recording.status import TRACEBACK, status_of, status_with_traceback
from ode_runner.recording.stored_command import write_command
from ode_runner.training.run_plan import RunPlan
from ode_runner.training.train_and_test import train_and_test

ARTEFACTS = ("checkpoints", "plots", METRICS, "ode-run.log")
TABLES = "*.csv"
BEGUN = "begun by another version of"


def execute(plan: RunPlan, *, goes_on: bool) -> RunRecord:
    """Make, resume or, if it is completed, print a run; returns its record, which is also written.

    Args:
        plan: the plan of the run.
        goes_on: whether the program does other things after this run, which a signal must stop as well.

    Raises:
        InUse: another process has locked the folder.
        RefusedInput: the input cannot be run as typed, which the record says, too, unless it is that of a completed
            run. Or the folder holds another run, or files and no run; then nothing is changed.
        KeyboardInterrupt: a second signal came before the run could stop for the first; or a signal came when the run
            was about to end anyway, and the program would go on.
    """
    folder = plan.folder
    display = CellDisplay(folder) if plan.in_sweep else Display()
    check_room(folder)
    if not may_lock(folder) and (shown := _shown_if_completed(plan, display, read_same(folder, plan.record))):
        return shown  # on a read-only disk, where nothing can be written
    with lock(folder), stop_on_signals() as stop:
        done = read_same(folder, plan.record)
        if shown := _shown_if_completed(plan, display, done):
            return shown
        if done is not None and not plan.rerun:
            _say_imported(plan, display, done)
        plan.record.started = done.started if done is not None and not plan.rerun else utc_now()
        anew = plan.rerun or (done is not None and done.status is RunStatus.FAILED)
        with attempt(folder, anew=anew), warnings_printed(partial(display.say, style="yellow")):
            _attempt(plan, display, stop, earlier=done)
        display.outcome(plan.record, folder)
        if goes_on and stop.from_user and plan.record.status is not RunStatus.INTERRUPTED:
            raise KeyboardInterrupt  # too late to stop this run, which has ended, but not what follows
        return plan.record


def _shown_if_completed(plan: RunPlan, display: Display, done: RunRecord | None) -> RunRecord | None:
    """Print the result of a run that is completed and not to be run again; returns its record, otherwise None."""
    if done is None or done.status is not RunStatus.COMPLETED or plan.rerun:
        return None
    display.say(f"already completed: {plan.folder}. To run it again, add rerun=true.")
    if missing := missing_output(plan.record, plan.choices, done, vain=plan.vain_diagnostics()):
        display.say(missing, style="yellow")
    _say_imported(plan, display, done)
    display.again(done)
    display.outcome(done, plan.folder)
    return done


def _say_imported(plan: RunPlan, display: Display, done: RunRecord) -> None:
    if imported := own_code.sentence(plan.record.config, done.code):
        display.say(imported)


def _attempt(plan: RunPlan, display: Display, stop: StopRequest, *, earlier: RunRecord | None) -> None:
    """Build, train and evaluate, and set the record's status; an earlier completed record is kept until training."""
    record, folder = plan.record, plan.folder
    fresh = is_fresh(folder)
    to_keep = earlier is not None and earlier.status is RunStatus.COMPLETED
    begun = _begun_by(plan, earlier)
    try:
        with same_folder():
            experiment = plan.build_experiment()
            trainer = plan.build_trainer(experiment)
        _begin(plan)
        to_keep = False
        train_and_test(experiment, trainer, plan, display, stop)
        record.status = RunStatus.COMPLETED
    except RefusedInput as refusal:
        record.status, record.reason = status_of(refusal)
        if earlier is None and fresh and not (plan.in_sweep and isinstance(refusal, IncompatibleChoice)):
            remove(folder, alone=plan.in_sweep)  # a typing error leaves no new folder, and no record in an old one
            to_keep = True
        raise
    except BaseException as error:
        _note_failure(record, error, folder)
        if isinstance(error, KeyboardInterrupt):
            raise
    finally:
        if not folder.is_dir() and record.status in (RunStatus.COMPLETED, RunStatus.FAILED):
            record.status = RunStatus.FAILED
            record.reason = f"{folder} was removed during the run. The same command starts over."
        elif folder.is_dir() and not to_keep:
            record.reason = "; ".join(filter(None, (record.reason, begun)))
            _close(record, folder)


def _begun_by(plan: RunPlan, earlier: RunRecord | None) -> str:
    """A clause for the record of a run that is resumed, but was begun by another version of the user's modules."""
    if earlier is None or plan.rerun or not (plan.folder / "checkpoints").is_dir():
        return ""
    if others := own_code.changed(plan.record.config, earlier.code):
        return f"{BEGUN} {', '.join(others)}"
    found = re.search(f"{BEGUN} [^;]+", earlier.reason)  # it was resumed before
    return found[0] if found else ""


def _note_failure(record: RunRecord, error: BaseException, folder: Path) -> None:
    """Set the status that an error means, and save the crash dump of a numerical failure."""
    record.status, record.reason = status_with_traceback(error, folder)
    if isinstance(error, NumericalFailure) and error.crash_dump is not None:
        with suppress(OSError):
            error.crash_dump.save(folder / CRASH_DUMP)
            record.reason += f" To see it again: ode-run {shlex.quote(f'replay={folder}')}"


def _begin(plan: RunPlan) -> None:
    """Write the command, record and configuration of a run that can begin, and remove files of earlier failures."""
    write_command(plan.folder, plan.command_files)
    choices = {f"{own_code.CHOICES}/{place}": file for place, file in plan.own_choices.items()}
    plan.record.code = own_code.keep(plan.folder, own_code.own_modules(plan.record.config) | choices)
    plan.record.write(plan.folder)
    for name in (TRACEBACK, CRASH_DUMP, f"plots/{TRACEBACKS}"):  # of a session that failed
        (plan.folder / name).unlink(missing_ok=True)
    atomic_write(plan.folder / "config.yaml", lambda file: file.write(plan.config_yaml.encode()))
    if plan.rerun:
        _clear(plan.folder)


def _close(record: RunRecord, folder: Path) -> None:
    record.finished = utc_now()
    try:
        record.write(folder)
    except OSError as error:  # the record on disk still says running, so the same command resumes the run
        record.status, record.reason = status_of(error)


def _clear(folder: Path) -> None:
    """Remove the files of an earlier run, for a rerun."""
    for name in ARTEFACTS:
        path = folder / name
        is_folder = path.is_dir() and not path.is_symlink()  # the target of a link is not part of this run
        shutil.rmtree(path) if is_folder else path.unlink(missing_ok=True)
    for path in [*folder.glob(EVENTS), *folder.glob(TABLES)]:
        path.unlink()
