"""One run from lock to record: resume, fit, evaluate, draw; failures become a status."""

import math
import shutil
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from ode_runner.analysis.diagnostics import Diagnostics
from ode_runner.batch import Split
from ode_runner.config.identity import read_same
from ode_runner.errors import Diverged, IncompatibleChoice, NumericalFailure, RefusedInput, SolverFailed
from ode_runner.experiment.crash_dump import FILE as EVIDENCE
from ode_runner.experiment.experiment import Experiment
from ode_runner.experiment.meters import Clock, peak_bytes, reset_peak_bytes
from ode_runner.experiment.per_sample_cost import FILE as DIFFICULTY
from ode_runner.experiment.per_sample_cost import PerSampleCounts, report
from ode_runner.experiment.process_state import same_folder
from ode_runner.experiment.signals import StopRequest, stop_on_signals
from ode_runner.experiment.test_split import draw, evaluate_test, first_failing_batch
from ode_runner.recording.atomic_write import atomic_write
from ode_runner.recording.attempts import attempt
from ode_runner.recording.checkpoint import Checkpoints
from ode_runner.recording.display import Display
from ode_runner.recording.environment import describe_environment
from ode_runner.recording.fresh_folder import check_room, is_fresh, remove
from ode_runner.recording.lock import lock
from ode_runner.recording.logger import EVENTS, MetricLogger, MetricsFile
from ode_runner.recording.pictures import TRACEBACKS
from ode_runner.recording.record import UNUSED, RunRecord, RunStatus, utc_now
from ode_runner.recording.status import TRACEBACK, status_of, status_with_traceback
from ode_runner.recording.stored_command import write_command
from ode_runner.training.resume import resume
from ode_runner.training.session import Session
from ode_runner.training.trainer import Trainer


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run before anything heavy is made: what identifies it, and how to make the rest."""

    record: RunRecord  # identity and configuration; status running
    config_yaml: str  # the resolved configuration, as the user would write it
    folder: Path
    command_files: Mapping[str, str]  # what the folder is to tell of the command, by file name
    in_sweep: bool
    rerun: bool  # from the beginning, whatever there is
    build_experiment: Callable[[], Experiment]
    build_trainer: Callable[[Experiment], Trainer | None]
    build_logger: Callable[..., MetricLogger]
    build_diagnostics: Callable[[], Diagnostics]


ARTEFACTS = ("checkpoints", "plots", "metrics.jsonl", "ode-run.log", DIFFICULTY)


def execute(plan: Plan) -> RunRecord:
    """Run, resume or report what was already done; always leaves a record.

    Raises:
        InUse: another process has the folder.
        RefusedInput: the input cannot be run as typed; the record says so too, unless it is of a completed run. Or the
            folder holds another run, or files and no run, and all is left as it is.
        KeyboardInterrupt: a second signal came before the first could be honoured; or one came when a run of a sweep
            was about to end anyway.
    """
    display, folder = Display(), plan.folder
    check_room(folder)
    with lock(folder), stop_on_signals() as stop:
        done = read_same(folder, plan.record)
        if done is not None and done.status is RunStatus.COMPLETED and not plan.rerun:
            display.say(f"already completed: {folder}. To run it again, add rerun=true.")
            display.outcome(done, folder)
            return done
        plan.record.started = done.started if done is not None and not plan.rerun else utc_now()
        with attempt(folder, anew=plan.rerun or (done is not None and done.status is RunStatus.FAILED)):
            _attempt(plan, display, stop, earlier=done)
        display.outcome(plan.record, folder)
        if plan.in_sweep and stop.from_user and plan.record.status is not RunStatus.INTERRUPTED:
            raise KeyboardInterrupt  # too late to stop this run, which has failed or is done, and not for the sweep
        return plan.record


def _attempt(plan: Plan, display: Display, stop: StopRequest, *, earlier: RunRecord | None) -> None:
    """Train, and write into the record how it went; what was completed stays so until a rerun has begun."""
    record, folder = plan.record, plan.folder
    fresh = is_fresh(folder)
    to_keep = earlier is not None and earlier.status is RunStatus.COMPLETED
    try:
        with same_folder():
            experiment = plan.build_experiment()
            trainer = plan.build_trainer(experiment)
        _begin(plan)
        to_keep = False
        _carry_out(experiment, trainer, plan, display, stop)
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
                error.crash_dump.save(folder / EVIDENCE)
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
    """The folder of a run that is known to be possible."""
    write_command(plan.folder, plan.command_files)
    plan.record.write(plan.folder)
    for name in (TRACEBACK, EVIDENCE, f"plots/{TRACEBACKS}"):  # of a session that failed
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


def _carry_out(
    experiment: Experiment, trainer: Trainer | None, plan: Plan, display: Display, stop: StopRequest
) -> None:
    """Train what has something to learn, then put it to the test and draw it."""
    record, folder = plan.record, plan.folder
    reset_peak_bytes(experiment.device)
    record.environment = describe_environment(experiment.device, processes=trainer.group.size if trainer else 1)
    _introduce(experiment, record, folder, display)
    if trainer is not None and experiment.options.ema is not None:
        _introduce_average(experiment.options.ema, steps=trainer.total_steps, display=display)
    place = folder.absolute()  # for what is written while code of one's own runs, which may change directory
    checkpoints = Checkpoints(place / "checkpoints", fingerprint=record.fingerprint, seed=record.seed)
    metrics = MetricsFile(place)
    if trainer is not None:
        record.reason = resume(trainer, checkpoints, metrics, display)
    logger = plan.build_logger(folder=place, first_step=trainer.step if trainer else 0)
    session = Session(
        metrics=metrics,
        logger=logger,
        checkpoints=checkpoints,
        display=display,
        stop=stop,
        save_every_seconds=experiment.options.save_every_seconds,
    )
    clock = Clock()
    with closing(metrics), closing(logger):
        try:
            witness = PerSampleCounts()
            with same_folder():
                reached = (
                    _fit(trainer, session, record) if trainer else plan.build_diagnostics().look(experiment, epoch=1)
                )
                record.metrics = evaluate_test(experiment, stop, witness) | reached
            step = trainer.step if trainer else 0
            logger.log({name: value for name, value in record.metrics.items() if name.startswith("test/")}, step=step)
            _check_finite(experiment, record)
            with same_folder():
                draw(experiment, metrics, folder=folder / "plots", display=display, logger=logger, step=step)
            report(witness.found(), experiment.task, folder=folder, display=display, logger=logger, step=step)
        finally:
            display.stop()
            record.cost = trainer.cost() if trainer else {"parameters": 0, "wall_seconds": clock.seconds}
            record.cost["peak_memory_bytes"] = peak_bytes(experiment.device)
        nfe = {f"nfe/{phase}": record.cost[f"nfe_{phase}"] for phase in ("forward", "backward") if trainer}
        logger.summary(record.hyperparameters(), record.metrics | nfe, plan.config_yaml)


def _check_finite(experiment: Experiment, record: RunRecord) -> None:
    """A result that is not a number is no result, though all that led to it is kept."""
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


def _introduce(experiment: Experiment, record: RunRecord, folder: Path, display: Display) -> None:
    """What is about to happen, and what the person may not expect of it."""
    parameters, precision = sum(p.numel() for p in experiment.parameters()), experiment.options.precision
    sizes = " / ".join(f"{experiment.task.size(split):,} {split}" for split in Split)
    display.header(record, folder, parameters=parameters, precision=precision, sizes=sizes)
    unused = [axis for axis, choice in record.choices.items() if choice == UNUSED]
    if unused:
        uses = f"uses neither {' nor '.join(unused)}" if len(unused) > 1 else f"does not use {unused[0]}"
        display.say(f"model={record.choices['model']} {uses}")
    if precision == "bf16" and not record.environment["bf16_instructions"]:
        display.say("this device has no bf16 instructions: expect trainer.precision=fp32 to be faster", style="yellow")


def _introduce_average(decay: float, *, steps: int, display: Display) -> None:
    reach = f"about {1 / (1 - decay):,.0f} steps"
    display.say(f"judged by a moving average of the weights over {reach} (trainer.ema={decay})")
    if (left := decay**steps) > 0.05:
        display.say(
            f"after {steps:,} steps the weights of the first still count for {left:.0%}: expect better of a smaller "
            "trainer.ema",
            style="yellow",
        )


def _fit(trainer: Trainer, session: Session, record: RunRecord) -> dict[str, float]:
    """Train, and take up the weights that did best on validation; returns how well."""
    for row in session.metrics.rows():
        if row.get("step") == trainer.step:  # the logger has hidden these with all that follows
            scalars = {name: value for name, value in row.items() if "/" in name}
            session.logger.log(scalars, step=trainer.step)
    session.display.start(trainer.total_steps, trainer.step)
    with trainer.group.training(trainer.state_dict(0)):
        record.reason = "; ".join(filter(None, (record.reason, trainer.fit(session))))
    session.display.stop()
    best = session.checkpoints.load(session.checkpoints.best)
    trainer.model.load_state_dict(best["model"])
    return {f"eval/{trainer.task.objective}": trainer.best["objective"], **trainer.diagnosed}


def _clear(folder: Path) -> None:
    """Make room for a rerun that was asked for."""
    for name in ARTEFACTS:
        path = folder / name
        is_folder = path.is_dir() and not path.is_symlink()  # what a link leads to is not this run's
        shutil.rmtree(path) if is_folder else path.unlink(missing_ok=True)
    for events in folder.glob(EVENTS):
        events.unlink()
