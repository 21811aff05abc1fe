"""One run from lock to record: resume, fit, evaluate, draw; failures become a status."""

import datetime
import shutil
import traceback
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from ode_runner.checkpoint import Checkpoints
from ode_runner.display import Display
from ode_runner.environment import describe_environment
from ode_runner.errors import RefusedInput
from ode_runner.field import Phase
from ode_runner.logger import MetricLogger, MetricsFile
from ode_runner.meters import peak_bytes, reset_peak_bytes
from ode_runner.record import RunRecord, RunStatus
from ode_runner.session import Session
from ode_runner.signals import StopRequest, stop_on_signals
from ode_runner.tasks.base import Findings, Split
from ode_runner.trainer import Trainer
from ode_runner.types import Trajectory
from ode_runner.verdict import verdict


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run before anything heavy is made: what identifies it, and how to make the rest."""

    record: RunRecord  # identity and configuration; status running
    config_yaml: str  # the resolved configuration, as the user would write it
    folder: Path
    in_sweep: bool
    rerun: bool
    build_trainer: Callable[[], Trainer]
    build_logger: Callable[..., MetricLogger]


ARTEFACTS = ("checkpoints", "plots", "metrics.jsonl", "ode-run.log")


def execute(plan: Plan) -> RunRecord:
    """Run, resume or report what was already done; always leaves a record.

    Raises:
        RefusedInput: the input cannot be run as typed; the record says so too, unless it is of a completed run.
        KeyboardInterrupt: a second signal came before the first could be honoured.
    """
    display, folder = Display(), plan.folder
    try:
        lock = FileLock(folder / ".lock").acquire(timeout=0)
    except Timeout:
        raise RefusedInput(f"{folder} is in use by another ode-run process. Wait for it, or change the seed.") from None
    with lock, stop_on_signals() as stop:
        done = RunRecord.read(folder)
        if done is not None and done.status is RunStatus.COMPLETED and not plan.rerun:
            display.say(f"already completed: {folder}. To run it again, add rerun=true.")
            display.outcome(done, folder)
            return done
        plan.record.started = done.started if done is not None and not plan.rerun else _now()
        _attempt(plan, display, stop, earlier=done)
        display.outcome(plan.record, folder)
        return plan.record


def _attempt(plan: Plan, display: Display, stop: StopRequest, *, earlier: RunRecord | None) -> None:
    """Train, and write into the record how it went; what was completed stays so until a rerun has begun."""
    record, folder = plan.record, plan.folder
    to_keep = earlier is not None and earlier.status is RunStatus.COMPLETED
    try:
        trainer = plan.build_trainer()
        _begin(plan)
        to_keep = False
        _train(trainer, plan, display, stop)
        record.status = RunStatus.COMPLETED
    except RefusedInput as refusal:
        record.status, record.reason = verdict(refusal)
        if earlier is None and not plan.in_sweep and not any(folder.glob("checkpoints/*")):
            _leave_nothing(folder)
        raise
    except BaseException as error:
        record.status, record.reason = verdict(error)
        if record.status is RunStatus.FAILED and not isinstance(error, OSError):
            with suppress(OSError):
                (folder / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")
            record.reason += f" (traceback in {folder / 'error.txt'})"
        if isinstance(error, KeyboardInterrupt):
            raise
    finally:
        if folder.is_dir() and not to_keep:
            _close(record, folder)


def _begin(plan: Plan) -> None:
    """The folder of a run that is known to be possible."""
    plan.record.write(plan.folder)
    (plan.folder / "error.txt").unlink(missing_ok=True)  # of a session that failed
    (plan.folder / "config.yaml").write_text(plan.config_yaml, encoding="utf-8")
    if plan.rerun:
        _clear(plan.folder)


def _close(record: RunRecord, folder: Path) -> None:
    record.finished = _now()
    try:
        record.write(folder)
    except OSError as error:  # the one on disk still says running, so the same command goes on
        record.status, record.reason = verdict(error)


def _leave_nothing(folder: Path) -> None:
    """A typing error makes no folder."""
    shutil.rmtree(folder)
    with suppress(OSError):
        folder.parent.rmdir()  # unless it holds other runs of the task


def _train(trainer: Trainer, plan: Plan, display: Display, stop: StopRequest) -> None:
    record, folder = plan.record, plan.folder
    reset_peak_bytes(trainer.device)
    record.environment = describe_environment(trainer.device)
    sizes = " / ".join(f"{trainer.task.size(split):,} {split}" for split in Split)
    parameters = sum(p.numel() for p in trainer.model.parameters())
    display.header(record, folder, parameters=parameters, precision=trainer.options.precision, sizes=sizes)
    if record.choices["solver"] == "-":
        display.say(f"model={record.choices['model']} uses neither solver nor gradient mode")
    if trainer.options.precision == "bf16" and not record.environment["bf16_instructions"]:
        display.say("this device has no bf16 instructions: expect trainer.precision=fp32 to be faster", style="yellow")
    checkpoints = Checkpoints(folder / "checkpoints", record.fingerprint)
    metrics = MetricsFile(folder)
    _resume(trainer, checkpoints, metrics, display)
    logger = plan.build_logger(folder=folder, first_step=trainer.step)
    for row in metrics.rows():
        if row["step"] == trainer.step:  # the logger has hidden these with all that follows
            logger.log({name: value for name, value in row.items() if "/" in name}, step=trainer.step)
    session = Session(
        metrics=metrics,
        logger=logger,
        checkpoints=checkpoints,
        display=display,
        stop=stop,
        save_every_seconds=trainer.options.save_every_seconds,
    )
    with closing(metrics), closing(logger):
        try:
            display.start(trainer.total_steps, trainer.step)
            record.reason = trainer.fit(session)
            display.stop()
            _judge(trainer, session, record)
            _draw(trainer, session, folder / "plots")
        finally:
            display.stop()
            record.cost = trainer.cost() | {"peak_memory_bytes": peak_bytes(trainer.device)}
        nfe = {f"nfe/{phase}": record.cost[f"nfe_{phase}"] for phase in ("forward", "backward")}
        logger.summary(record.hyperparameters(), record.metrics | nfe, plan.config_yaml)


def _resume(trainer: Trainer, checkpoints: Checkpoints, metrics: MetricsFile, display: Display) -> None:
    """The newest sound checkpoint, else the beginning."""
    state, refusals = checkpoints.load_newest()
    for refusal in refusals:
        display.say(f"{refusal} Going on from {'the one before' if state else 'the beginning'}.", style="yellow")
    if state is None:
        metrics.rewind(0)
        return
    trainer.load_state_dict(state)
    metrics.rewind(state["metrics_position"])
    display.say(f"resuming at step {trainer.step:,} of {trainer.total_steps:,}")


def _judge(trainer: Trainer, session: Session, record: RunRecord) -> None:
    """The test split, once, with the weights that did best on validation."""
    best = session.checkpoints.load(session.checkpoints.best)
    trainer.model.load_state_dict(best["model"])
    results = trainer.evaluate(Split.TEST, session.stop)
    nfe = results.pop("nfe")
    record.metrics = {f"test/{name}": value for name, value in results.items()}
    session.logger.log(record.metrics, step=trainer.step)
    record.metrics |= {f"eval/{trainer.task.objective}": trainer.best["objective"], "nfe/eval": nfe}


def _draw(trainer: Trainer, session: Session, folder: Path) -> None:
    """The task's pictures, as files and in TensorBoard."""
    folder.mkdir(exist_ok=True)
    model, integrate, ts = (
        trainer.model,
        trainer.integrator,
        next(trainer.task.batches(Split.VALIDATION, batch_size=1, epoch=0)).ts,
    )

    def predict(inputs: Tensor) -> Tensor:
        with trainer.autocast():
            return model(inputs, ts, integrate).float()

    def flow(inputs: Tensor, times: int) -> Trajectory:
        fine = torch.linspace(float(ts[0]), float(ts[-1]), times, dtype=ts.dtype, device=ts.device)
        return model.states(inputs, fine, integrate)

    findings = Findings(history=session.metrics.rows(), predict=predict, flow=flow)
    with torch.no_grad(), integrate.ledger.phase(Phase.DIAGNOSTICS):
        for name, figure in trainer.task.figures(findings):
            figure.savefig(folder / f"{name}.png")
            session.logger.picture(name, figure, step=trainer.step)


def _clear(folder: Path) -> None:
    """Make room for a rerun that was asked for."""
    for name in ARTEFACTS:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for events in folder.glob("events.out.tfevents.*"):
        events.unlink()


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
