"""One run from lock to record: resume, train, evaluate, draw; failures become a status."""

import math
import shutil
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from ode_runner.analysis.diagnostics import Diagnostics
from ode_runner.batch import Split
from ode_runner.config.garbage import sparing_collector
from ode_runner.config.identity import read_same
from ode_runner.errors import Diverged, IncompatibleChoice, NumericalFailure, RefusedInput, SolverFailed
from ode_runner.experiment.crash_dump import FILE as CRASH_DUMP
from ode_runner.experiment.estimates import report_estimates
from ode_runner.experiment.experiment import Experiment
from ode_runner.experiment.layers import report_layers
from ode_runner.experiment.meters import Clock, peak_bytes, reset_peak_bytes
from ode_runner.experiment.model_view import model_view
from ode_runner.experiment.per_sample_cost import PerSampleCounts, report
from ode_runner.experiment.process_state import same_folder
from ode_runner.experiment.signals import StopRequest, stop_on_signals
from ode_runner.experiment.test_split import (
    conclude,
    draw,
    evaluate_test,
    first_failing_batch,
    measured_with,
    write_tables,
)
from ode_runner.gradients.event_checks import steps_each
from ode_runner.models.events import has_events
from ode_runner.recording import own_code
from ode_runner.recording.atomic_write import atomic_write
from ode_runner.recording.attempts import attempt
from ode_runner.recording.cell_display import CellDisplay
from ode_runner.recording.checkpoint import Checkpoints
from ode_runner.recording.display import Display
from ode_runner.recording.environment import describe_environment
from ode_runner.recording.fresh_folder import check_room, is_fresh, remove
from ode_runner.recording.lock import lock
from ode_runner.recording.logger import EVENTS, METRICS, MetricLogger, MetricsFile, log_result
from ode_runner.recording.pictures import TRACEBACKS
from ode_runner.recording.record import UNUSED, RunRecord, RunStatus, utc_now
from ode_runner.recording.status import TRACEBACK, status_of, status_with_traceback
from ode_runner.recording.stored_command import write_command
from ode_runner.tasks.base import ModelView
from ode_runner.training.averaging import introduce_average
from ode_runner.training.cost import cost_of
from ode_runner.training.resume import resume
from ode_runner.training.session import SearchTrial, Session
from ode_runner.training.taken_weights import take_over
from ode_runner.training.trainer import Trainer


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run before its data and model are built: its identity, and functions that build the rest."""

    record: RunRecord  # identity and configuration; status running
    config_yaml: str  # the resolved configuration, as the user would write it
    folder: Path
    command_files: Mapping[str, str]  # contents of `.hydra/` by file name
    own_choices: Mapping[str, Path]  # files of choices of one's own, by group and name
    in_sweep: bool
    trial: SearchTrial | None  # of a search that may end the run
    rerun: bool  # from the beginning, in place of an earlier run
    pictures: bool  # whether any are drawn
    build_experiment: Callable[[], Experiment]
    build_trainer: Callable[[Experiment], Trainer | None]
    build_logger: Callable[..., MetricLogger]
    build_diagnostics: Callable[[], Diagnostics]


ARTEFACTS = ("checkpoints", "plots", METRICS, "ode-run.log")
TABLES = "*.csv"


def execute(plan: Plan) -> RunRecord:
    """Make, resume or, if it is completed, print a run; returns its record, which is also written.

    Raises:
        InUse: another process has the folder.
        RefusedInput: the input cannot be run as typed; the record says so too, unless it is of a completed run. Or the
            folder holds another run, or files and no run, and all is left as it is.
        KeyboardInterrupt: a second signal came before the first could be honoured; or one came when a run of a sweep
            was about to end anyway.
    """
    folder = plan.folder
    display = CellDisplay(folder) if plan.in_sweep else Display()
    check_room(folder)
    with lock(folder), stop_on_signals() as stop:
        done = read_same(folder, plan.record)
        if done is not None and done.status is RunStatus.COMPLETED and not plan.rerun:
            display.say(f"already completed: {folder}. To run it again, add rerun=true.")
            if imported := own_code.sentence(plan.record.config, done.code):
                display.say(imported)
            display.outcome(done, folder)
            return done
        if done is not None and not plan.rerun and (imported := own_code.sentence(plan.record.config, done.code)):
            display.say(imported)
        plan.record.started = done.started if done is not None and not plan.rerun else utc_now()
        with attempt(folder, anew=plan.rerun or (done is not None and done.status is RunStatus.FAILED)):
            _attempt(plan, display, stop, earlier=done)
        display.outcome(plan.record, folder)
        if plan.in_sweep and stop.from_user and plan.record.status is not RunStatus.INTERRUPTED:
            raise KeyboardInterrupt  # too late to stop this run, which has failed or is done, and not for the sweep
        return plan.record


def _attempt(plan: Plan, display: Display, stop: StopRequest, *, earlier: RunRecord | None) -> None:
    """Build, train and evaluate, and set the record's status; an earlier completed record stays until this begins."""
    record, folder = plan.record, plan.folder
    fresh = is_fresh(folder)
    to_keep = earlier is not None and earlier.status is RunStatus.COMPLETED
    try:
        with same_folder():
            experiment = plan.build_experiment()
            trainer = plan.build_trainer(experiment)
        _begin(plan)
        to_keep = False
        _train_and_evaluate(experiment, trainer, plan, display, stop)
        record.status = RunStatus.COMPLETED
    except RefusedInput as refusal:
        record.status, record.reason = status_of(refusal)
        if earlier is None and fresh and not (plan.in_sweep and isinstance(refusal, IncompatibleChoice)):
            remove(folder, alone=plan.in_sweep)  # a typing error makes no folder
        raise
    except BaseException as error:
        record.status, record.reason = status_with_traceback(error, folder)
        if isinstance(error, NumericalFailure) and error.crash_dump is not None:
            with suppress(OSError):
                error.crash_dump.save(folder / CRASH_DUMP)
                record.reason += f" To see it again: ode-run replay={folder}"
        if isinstance(error, KeyboardInterrupt):
            raise
    finally:
        if not folder.is_dir() and record.status in (RunStatus.COMPLETED, RunStatus.FAILED):
            record.status = RunStatus.FAILED
            record.reason = f"{folder} was removed while the run went on. The same command begins anew."
        elif folder.is_dir() and not to_keep:
            _close(record, folder)


def _begin(plan: Plan) -> None:
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
    except OSError as error:  # the one on disk still says running, so the same command goes on
        record.status, record.reason = status_of(error)


def _train_and_evaluate(
    experiment: Experiment, trainer: Trainer | None, plan: Plan, display: Display, stop: StopRequest
) -> None:
    """Train if there are parameters, evaluate on the test split, draw, and fill the record."""
    record, folder = plan.record, plan.folder
    reset_peak_bytes(experiment.device)
    record.environment = describe_environment(experiment.device, processes=trainer.group.size if trainer else 1)
    _introduce(experiment, trainer, record, folder, display)
    absolute = folder.absolute()  # for what is written while code of one's own runs, which may change directory
    checkpoints = Checkpoints(absolute / "checkpoints", fingerprint=record.fingerprint, seed=record.seed)
    taken = take_over(record, folder, checkpoints, display) if trainer is not None and not plan.rerun else ""
    metrics = MetricsFile(absolute)
    if trainer is not None:
        resumed = resume(trainer, checkpoints, metrics, display, announce=not taken)
        record.reason = "; ".join(filter(None, (taken, resumed)))
    logger = plan.build_logger(folder=absolute, first_step=trainer.step if trainer else 0)
    seconds = experiment.options.save_every_seconds
    session = Session(
        metrics=metrics, logger=logger, checkpoints=checkpoints, display=display, stop=stop, save_every_seconds=seconds,
        trial=plan.trial,
    )  # fmt: skip
    clock = Clock()
    with closing(metrics), closing(logger):
        record.layers = report_layers(experiment, display=display, logger=logger)
        try:
            counts = PerSampleCounts()
            with same_folder():
                reached = _fit(trainer, session, record) if trainer else _diagnosed(experiment, plan)
                experiment.model.begin_test()
                view = model_view(experiment, metrics.rows(), stop)
                record.metrics = evaluate_test(experiment, view, stop, counts) | reached
                record.measured_with = measured_with(experiment, view)
                record.metrics |= report_estimates(experiment, folder=absolute, display=display)
            step = trainer.step if trainer else 0
            logger.log({name: value for name, value in record.metrics.items() if name.startswith("test/")}, step=step)
            _check_finite(experiment, record)
            for remark in experiment.remarks(record.metrics):
                display.say(remark, style="yellow")
            with same_folder():
                _show(experiment, view, plan, display, logger, absolute=absolute, step=step)
            report(
                counts.found(), experiment.task,
                folder=folder, display=display, logger=logger, step=step, pictures=plan.pictures,
            )  # fmt: skip
        finally:
            display.stop()
            record.cost = cost_of(trainer) if trainer else {"parameters": 0, "wall_seconds": clock.seconds}
            record.cost["peak_memory_bytes"] = peak_bytes(experiment.device)
        log_result(logger, record, plan.config_yaml)


def _show(
    experiment: Experiment, view: ModelView, plan: Plan, display: Display, logger: MetricLogger,
    *, absolute: Path, step: int,
) -> None:  # fmt: skip
    """Pictures, if they are wanted, tables, and what else there is to show of a model that has been tested."""
    if plan.pictures:
        draw(
            experiment, view, folder=plan.folder / "plots", display=display, logger=logger, step=step,
            diagnosed=plan.build_diagnostics().figures,
        )  # fmt: skip
    write_tables(experiment, view, folder=absolute)
    conclude(experiment, view, display=display, logger=logger)


def _diagnosed(experiment: Experiment, plan: Plan) -> dict[str, float]:
    """What the diagnostics say of a model that has nothing to learn."""
    return plan.build_diagnostics().measure(experiment, epoch=1)


def _check_finite(experiment: Experiment, record: RunRecord) -> None:
    """Raises SolverFailed or Diverged, with a crash dump, where the loss on the test split is not finite."""
    loss, choices = record.metrics["test/loss"], record.choices
    if math.isfinite(loss):
        return
    failure: NumericalFailure = SolverFailed(
        f"the loss on the test split is {loss}: solver={choices['solver']} leaves all bounds on the way. "
        "Try shorter steps (solver.num_steps=...), or an adaptive solver."
    )
    if choices["solver"] == UNUSED:
        failure = Diverged(f"the loss on the test split is {loss}: the model's outputs are not finite.")
    failure.crash_dump = first_failing_batch(experiment)
    raise failure


def _introduce(
    experiment: Experiment, trainer: Trainer | None, record: RunRecord, folder: Path, display: Display
) -> None:
    """Print the header: sizes, axes that are not used, a warning where bf16 is slow, and what weights are judged."""
    parameters, precision = sum(p.numel() for p in experiment.parameters()), experiment.options.precision
    sizes = " / ".join(f"{experiment.task.size(split):,} {split}" for split in Split)
    display.header(record, folder, parameters=parameters, precision=precision, sizes=sizes)
    for line in experiment.task.introduction():
        display.say(line)
    if has_events(type(experiment.task), type(experiment.model)) and steps_each(experiment.integrator.solver):
        display.say("events are at a time of each sample's own: each has steps of its own (solver.per_sample=true)")
    if experiment.options.device == "auto" and experiment.device.type == "cpu" and torch.cuda.is_available():
        display.say("on the CPU, for on the GPU steps as small as these take longer; trainer.device=cuda insists on it")
    unused = [axis for axis, choice in record.choices.items() if choice == UNUSED]
    if unused:
        uses = f"uses neither {' nor '.join(unused)}" if len(unused) > 1 else f"does not use {unused[0]}"
        instead = type(experiment.model).instead
        display.say(f"model={record.choices['model']} {uses}" + (f": {instead}" if instead else ""))
    if precision == "bf16" and not record.environment["bf16_instructions"]:
        display.say("this device has no bf16 instructions: expect trainer.precision=fp32 to be faster", style="yellow")
    if trainer is not None and experiment.options.ema is not None:
        introduce_average(experiment.options.ema, steps=trainer.total_steps, display=display)


def _fit(trainer: Trainer, session: Session, record: RunRecord) -> dict[str, float]:
    """Train and load the weights that did best on validation; returns their objective and the last diagnostics."""
    for row in session.metrics.rows():
        if row.get("step") == trainer.step:  # the logger has hidden these with all that follows
            scalars = {name: value for name, value in row.items() if "/" in name}
            session.logger.log(scalars, step=trainer.step)
    session.display.start(trainer.total_steps, trainer.step)
    trainer.initialise()
    with trainer.group.training(trainer.state_dict(0)), sparing_collector():
        record.reason = "; ".join(filter(None, (record.reason, trainer.fit(session))))
    session.display.stop()
    best = session.checkpoints.load(session.checkpoints.best)
    trainer.model.load_state_dict(best["model"])
    return {f"eval/{trainer.experiment.criterion[0]}": trainer.best["objective"], **trainer.diagnosed}


def _clear(folder: Path) -> None:
    """Remove what an earlier run left, for a rerun."""
    for name in ARTEFACTS:
        path = folder / name
        is_folder = path.is_dir() and not path.is_symlink()  # what a link leads to is not this run's
        shutil.rmtree(path) if is_folder else path.unlink(missing_ok=True)
    for path in [*folder.glob(EVENTS), *folder.glob(TABLES)]:
        path.unlink()
