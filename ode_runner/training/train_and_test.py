"""What one session of a run does: resume, train, evaluate on the test split, draw."""

import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from itertools import chain
from pathlib import Path

import torch

from ode_runner.batch import Split
from ode_runner.config.garbage_collection import sparing_collector
from ode_runner.devices.waiting_threads import threads_wait
from ode_runner.errors import Diverged, NumericalFailure, SolverFailed
from ode_runner.experiment.estimates import figures_of_estimates, report_estimates
from ode_runner.experiment.experiment import Experiment
from ode_runner.experiment.layers import report_layers
from ode_runner.experiment.lower_precision import sentence_on_precision
from ode_runner.experiment.meters import Clock, peak_bytes, reset_peak_bytes
from ode_runner.experiment.model_view import model_view
from ode_runner.experiment.per_sample_cost import PerSampleCounts, report
from ode_runner.experiment.presentation import conclude, draw, write_tables
from ode_runner.experiment.process_state import same_folder
from ode_runner.experiment.signals import StopRequest
from ode_runner.experiment.test_split import evaluate_test, first_failing_batch, invalid, measured_with
from ode_runner.gradients.event_checks import steps_each
from ode_runner.models.events import has_events
from ode_runner.recording.checkpoint import Checkpoints
from ode_runner.recording.display import Display
from ode_runner.recording.environment import describe_environment
from ode_runner.recording.logger import MetricsFile, log_result
from ode_runner.recording.record import UNUSED, RunRecord
from ode_runner.tasks.base import ModelView
from ode_runner.training.averaging import introduce_average
from ode_runner.training.cost import cost_of
from ode_runner.training.divergence import divergence, standstill
from ode_runner.training.gauss_newton import GaussNewton
from ode_runner.training.resume import resume
from ode_runner.training.reused_weights import reuse_weights
from ode_runner.training.run_plan import RunPlan
from ode_runner.training.session import Session
from ode_runner.training.trainer import Trainer
from ode_runner.training.unused_options import unused_options


def train_and_test(
    experiment: Experiment, trainer: Trainer | None, plan: RunPlan, display: Display, stop: StopRequest
) -> None:
    """Train if there are parameters, evaluate on the test split, draw, and fill the record."""
    record = plan.record
    reset_peak_bytes(experiment.device)
    record.environment = describe_environment(experiment.device, processes=trainer.group.size if trainer else 1)
    _introduce(experiment, trainer, plan, display)
    absolute = plan.folder.absolute()  # the user's own code, which runs meanwhile, may change the working directory
    session = _open_session(experiment, trainer, plan, display, stop, folder=absolute)
    clock = Clock()
    with closing(session.metrics), closing(session.logger):
        record.layers = report_layers(experiment, display=display, logger=session.logger)
        try:
            _carry_out(experiment, trainer, plan, session, folder=absolute)
            record.results, record.warnings = list(display.results), list(display.warnings)
        finally:
            display.stop()
            record.cost = cost_of(trainer) if trainer else {"parameters": 0, "wall_seconds": clock.seconds}
            record.cost["peak_memory_bytes"] = peak_bytes(experiment.device)
        log_result(session.logger, record, plan.config_yaml)


def _open_session(
    experiment: Experiment, trainer: Trainer | None, plan: RunPlan, display: Display, stop: StopRequest, *, folder: Path
) -> Session:
    """Open the files of the run, and load its last checkpoint into the trainer if it was interrupted."""
    record = plan.record
    checkpoints = Checkpoints(folder / "checkpoints", fingerprint=record.fingerprint, seed=record.seed)
    taken = reuse_weights(record, plan.folder, checkpoints, display) if trainer is not None and not plan.rerun else ""
    metrics = MetricsFile(folder)
    if trainer is not None:
        resumed = resume(trainer, checkpoints, metrics, display, announce=not taken)
        record.reason = "; ".join(filter(None, (taken, resumed)))
    return Session(
        metrics=metrics,
        logger=plan.build_logger(folder=folder, first_step=trainer.step if trainer else 0),
        checkpoints=checkpoints,
        display=display,
        stop=stop,
        save_every_seconds=experiment.options.save_every_seconds,
        trial=plan.trial,
    )


def _carry_out(
    experiment: Experiment, trainer: Trainer | None, plan: RunPlan, session: Session, *, folder: Path
) -> None:
    """Train, test and draw; results go into the record and to the logger."""
    record, display, logger, counts = plan.record, session.display, session.logger, PerSampleCounts()
    with same_folder():
        reached = _fit(trainer, session, record) if trainer else _diagnosed(experiment, plan)
        rows = session.metrics.rows()
        _say_how_it_went(trainer, rows, display)
        if (absent := plan.build_diagnostics().absent) and not any(name.startswith("diagnostics/") for name in reached):
            display.say(absent, style="yellow")
        display.begin_results()
        display.after_training("testing")
        experiment.model.begin_test()
        view = model_view(experiment, rows, session.stop)
        record.metrics = evaluate_test(experiment, view, session.stop, counts) | reached
        record.measured_with = measured_with(experiment, view)
        record.invalid = invalid(experiment, record.metrics)
        record.metrics |= report_estimates(experiment, folder=folder, display=display)
    step = trainer.step if trainer else 0
    logger.log({name: value for name, value in record.metrics.items() if name.startswith("test/")}, step=step)
    _check_finite(experiment, record)
    for remark in experiment.remarks(record.metrics):
        display.say(remark, style="yellow")
    with same_folder():
        _show(experiment, view, plan, session, folder=folder, step=step)
    report(
        counts.found(), experiment.task,
        folder=plan.folder, display=display, logger=logger, step=step, pictures=plan.pictures,
    )  # fmt: skip


def _show(experiment: Experiment, view: ModelView, plan: RunPlan, session: Session, *, folder: Path, step: int) -> None:
    """Draw pictures, if they are wanted, write tables, and show the other results of the tested model."""
    display, logger = session.display, session.logger
    display.after_training("drawing pictures, writing tables")
    if plan.pictures:
        draw(
            experiment, view, folder=plan.folder / "plots", display=display, logger=logger, step=step,
            diagnosed=lambda tested: chain(
                figures_of_estimates(tested, plan.record.metrics), plan.build_diagnostics().figures(tested)
            ),
        )  # fmt: skip
    write_tables(experiment, view, folder=folder)
    conclude(experiment, view, display=display, logger=logger)


def _say_how_it_went(trainer: Trainer | None, rows: Sequence[Mapping[str, float]], display: Display) -> None:
    """Print whether training has diverged, stood still or, if it has stages, ended before the last.

    Divergence is not judged across stages: each minimises another loss, and their values are not comparable.
    """
    if trainer is None:
        return
    if trainer.stages.count > 1:
        sentence = trainer.stages.cut_short()
    else:
        optimizer = trainer.optimizer
        lr: float | None = None if isinstance(optimizer, GaussNewton) else optimizer.defaults["lr"]
        sentence = divergence(rows, criterion=trainer.experiment.criterion, lr=lr) or standstill(rows, lr=lr)
    if sentence:
        display.say(sentence, style="yellow")
    for term, (option, epochs) in trainer.task.rising_weights().items():
        if trainer.epoch < epochs and any(f"loss/{term}" in row for row in rows):
            weight = f"the weight of loss/{term}, which rises to 1 in task.{option}={epochs} epochs"
            display.say(f"{weight}, was {trainer.epoch / epochs:.2g} when training ended", style="yellow")


def _diagnosed(experiment: Experiment, plan: RunPlan) -> dict[str, float]:
    """The diagnostics of a model that has nothing to learn, measured once."""
    return plan.build_diagnostics().measure(experiment, epoch=1)


def _check_finite(experiment: Experiment, record: RunRecord) -> None:
    """Raises SolverFailed or Diverged, with a crash dump, if the loss on the test split is not finite."""
    loss, choices = record.metrics["test/loss"], record.choices
    if math.isfinite(loss):
        return
    solver = experiment.integrator.solver
    failure: NumericalFailure = SolverFailed(
        f"the loss on the test split is {loss}: solver={choices['solver']} diverges on the way. "
        f"Try {solver.finer}{solver.if_stiff}."
    )
    if choices["solver"] == UNUSED:
        failure = Diverged(f"the loss on the test split is {loss}: the model's outputs are not finite.")
    failure.crash_dump = first_failing_batch(experiment)
    raise failure


def _introduce(experiment: Experiment, trainer: Trainer | None, plan: RunPlan, display: Display) -> None:
    """Print the header: sizes, choices that are not used or slow, and whether averaged weights are evaluated."""
    parameters, precision = sum(p.numel() for p in experiment.parameters()), experiment.options.precision
    sizes = " / ".join(f"{experiment.task.size(split):,} {split}" for split in Split)
    display.header(plan.record, plan.folder, parameters=parameters, precision=precision, sizes=sizes)
    for line in experiment.task.introduction():
        display.say(line)
    _print_remarks(experiment, plan.record, display)
    unused = unused_options(experiment, trainer, choices=plan.choices, config=plan.record.config)
    for clause in [*plan.unread, *(plan.untrained if trainer is None else []), *unused]:
        display.say(clause)
    for line in experiment.model.introduction() if trainer is not None else ():
        display.say(line)
    if trainer is not None and experiment.options.ema is not None:
        introduce_average(experiment.options.ema, steps=trainer.total_steps, display=display)


def _print_remarks(experiment: Experiment, record: RunRecord, display: Display) -> None:
    """Print what follows from the choices without having been typed."""
    if has_events(type(experiment.task), type(experiment.model)) and steps_each(experiment.integrator.solver):
        display.say(
            "events have a different time in each sample: each sample has its own steps (solver.per_sample=true)"
        )
    if experiment.options.device == "auto" and experiment.device.type == "cpu" and torch.cuda.is_available():
        display.say("on the CPU, because such small steps take longer on the GPU; trainer.device=cuda overrides this")
    if experiment.device.type == "cpu" and threads_wait():
        display.say(
            f"other processes are busy, and {torch.get_num_threads()} threads wait for each other in every operation: "
            "export OMP_NUM_THREADS=1 (or OMP_WAIT_POLICY=passive) may be many times as fast",
            style="yellow",
        )
    unused = [axis for axis, choice in record.choices.items() if choice == UNUSED]
    if unused:
        uses = f"uses neither {' nor '.join(unused)}" if len(unused) > 1 else f"does not use {unused[0]}"
        instead = type(experiment.model).instead
        display.say(f"model={record.choices['model']} {uses}" + (f": {instead}" if instead else ""))
    if option := experiment.model.without_network:
        display.say(f"model={record.choices['model']} does not use network: {option}")
    if sentence := sentence_on_precision(experiment):
        display.say(sentence, style="yellow")
    elif experiment.options.precision == "bf16" and not record.environment["bf16_instructions"]:
        display.say("this device has no bf16 instructions: expect trainer.precision=fp32 to be faster", style="yellow")


def _fit(trainer: Trainer, session: Session, record: RunRecord) -> dict[str, float]:
    """Train and load the weights that did best on validation; returns their objective and the last diagnostics."""
    for row in session.metrics.rows():
        if row.get("step") == trainer.step:  # on a resume the logger has hidden this step and all after it
            scalars = {name: value for name, value in row.items() if "/" in name}
            session.logger.log(scalars, step=trainer.step)
    session.display.start(trainer.total_steps, trainer.step)
    trainer.initialise()
    with trainer.group.training(trainer.state_dict(0)), sparing_collector():
        record.reason = "; ".join(filter(None, (record.reason, trainer.fit(session))))
    session.display.stop()
    trainer.integrator.forget_evaluations()  # so that evaluate=FOLDER, which is eager, gives the same results
    best = session.checkpoints.load(session.checkpoints.best)
    trainer.model.load_state_dict(best["model"])
    return {f"eval/{trainer.experiment.criterion[0]}": trainer.best["objective"], **trainer.diagnosed}
