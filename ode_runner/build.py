"""From configuration to objects. `cfg` stops here."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from ode_runner.building.device import OF_GPUS, find_device, set_precision
from ode_runner.building.event_choices import check_event_choices
from ode_runner.building.input_choices import check_inputs, takes_inputs
from ode_runner.building.instantiate import checked_partial, construct, target_of
from ode_runner.building.loggers import build_loggers, check_loggers
from ode_runner.building.members import accepting, member
from ode_runner.building.network_options import check_network_options
from ode_runner.building.optimizers import without_compiler
from ode_runner.building.regularization import build_objective, check_regularizers, left_out
from ode_runner.building.run_identity import identify
from ode_runner.building.run_options import check_numbers, check_pictures
from ode_runner.building.series_choices import check_answer_times, check_series
from ode_runner.building.teacher import load_teacher
from ode_runner.building.threads import with_own_threads
from ode_runner.compatibility import (
    check_answerable,
    check_answers,
    check_compatible,
    check_fields,
    check_fresh_noise,
    check_of_true_field,
    check_real,
    check_state,
    gives_what_is_asked,
)
from ode_runner.config.choices import built_in, with_other_choice
from ode_runner.config.command_files import own_choice_files, own_config_dirs, typed_overrides
from ode_runner.config.rerun import Rerun
from ode_runner.config.unread_options import unread_words, untrained_words
from ode_runner.config.yaml_text import to_yaml
from ode_runner.distributed.data_parallel import MainProcess
from ode_runner.distributed.process_group import ProcessGroup, SingleProcess
from ode_runner.distributed.workers import worker_pool
from ode_runner.errors import RefusedInput
from ode_runner.experiment.experiment import Experiment
from ode_runner.experiment.loss_scaling import check_loss_scaling
from ode_runner.experiment.operation_work import is_launch_bound
from ode_runner.experiment.options import TrainerOptions
from ode_runner.experiment.task_contract import check_spec, first_of_training
from ode_runner.integrator import Integrator
from ode_runner.models.base import Model
from ode_runner.models.copies import convert
from ode_runner.networks.forced import with_series_inputs
from ode_runner.networks.tokens import TokenNetwork, check_positions
from ode_runner.tasks.base import Task
from ode_runner.training.gauss_newton import GaussNewton, check_gauss_newton
from ode_runner.training.patience import check_ranked
from ode_runner.training.prepare_compiled import check_compilable
from ode_runner.training.problem_size import check_problem_size
from ode_runner.training.run_plan import RunPlan
from ode_runner.training.session import SearchTrial
from ode_runner.training.trainer import Trainer

STAND_INS = {"network": "mlp", "gradient": "backprop"}  # built in place of parts that the model does not use
FINE_SOLVER = {  # reference solver, whose results are compared with those of the run's solver
    "_target_": "ode_runner.solvers.explicit.dopri5.Dopri5",
    "rtol": 1e-5,
    "atol": 1e-5,
    "max_steps": 100_000,
    "per_sample": False,
}


def plan_run(
    cfg: DictConfig,
    choices: Mapping[str, str],
    folder: Path,
    *,
    command_files: Mapping[str, str],
    in_sweep: bool,
    trial: SearchTrial | None = None,
) -> RunPlan:
    """The record that identifies the run, and functions that build its parts."""
    record = identify(cfg, choices)
    record.config_dirs = [str(folder) for folder in own_config_dirs()]
    return RunPlan(
        record=record,
        choices=choices,
        config_yaml=to_yaml(record.config),
        folder=folder,
        command_files=command_files,
        unread=[*unread_words(typed_overrides(), record), *left_out(cfg, choices)],
        untrained=list(untrained_words(typed_overrides())),
        own_choices=own_choice_files(choices),
        in_sweep=in_sweep,
        trial=trial,
        rerun=Rerun.of(cfg.rerun) is Rerun.ALL,
        pictures=bool(cfg.pictures),
        build_experiment=lambda: with_own_threads(build_experiment(cfg, choices)),
        build_trainer=partial(build_trainer, cfg, choices, prunable=trial is not None),
        build_logger=partial(build_loggers, cfg),
        build_diagnostics=partial(construct, cfg, "diagnostics"),
        vain_diagnostics=partial(vain_diagnostics, cfg),
    )


def vain_diagnostics(cfg: DictConfig) -> str:
    """The sentence that the diagnostics chosen measure nothing in the model chosen; "" if they do."""
    diagnostics = target_of(cfg, "diagnostics")
    return "" if diagnostics.takes(target_of(cfg, "model")) else str(diagnostics.absent)


def build_experiment(cfg: DictConfig, choices: Mapping[str, str], *, task: Task | None = None) -> Experiment:
    """Task, model and numerics. Raises RefusedInput, before any data is made, if they cannot work together.

    `task`: a task that was built from these options before; its data are used again.
    """
    check_possible(cfg, choices)
    experiment = assemble_experiment(cfg, choices, task=task)
    experiment.check_times()
    if experiment.model.generator() is not None and not experiment.integrator.solver.of_ordinary_equations:
        experiment.try_sampler()
    return experiment


def check_possible(cfg: DictConfig, choices: Mapping[str, str]) -> None:
    """Raises RefusedInput if choices and options cannot work together, as far as this is known without data."""
    with accepting(partial(is_possible, cfg)):
        _check_choices(cfg, choices)


def is_possible(job: DictConfig, group: str, name: str, *, task: Task | None = None) -> bool:
    """Whether the job would be accepted with choice `name` in `group`. With a built `task`, the model is built too.

    This is slow: it is called for each choice of a group only when an error message lists those that would work.
    """
    try:
        if not _answers(job, group, name):
            return False
        cfg = with_other_choice(group, name)
        if cfg is None:
            return True
        with accepting(None):
            _check_choices(cfg, cfg.hydra.runtime.choices)
            if task is not None and group != "task":
                _model(_with_stand_ins(cfg), cfg.hydra.runtime.choices, task, torch.device("cpu"))
        return takes_inputs(target_of(cfg, "task"), target_of(cfg, "model"), target_of(cfg, "network"))
    except RefusedInput:
        return False


def _answers(job: DictConfig, group: str, name: str) -> bool:
    """Whether model and task go together by their classes alone, before a configuration is composed."""
    classes = {one: target_of(job, one) for one in ("task", "model")}
    if group in classes:
        classes[group] = member(group, name)
    return gives_what_is_asked(classes["task"], classes["model"])


def _check_choices(cfg: DictConfig, choices: Mapping[str, str]) -> None:
    check_numbers(cfg)
    check_loggers(cfg)
    check_pictures(cfg)
    checked_partial(cfg, "diagnostics")
    model, solver = target_of(cfg, "model"), construct(cfg, "solver")
    check_answers(choices, target_of(cfg, "task"), model)
    if "network" not in model.unused_axes():
        check_network_options(cfg, choices)
    check_series(choices, target_of(cfg, "task"), model, cfg.task)
    check_of_true_field(choices, target_of(cfg, "task"), model, cfg.task)
    check_event_choices(cfg, choices, solver)
    check_compatible(choices, model, solver, construct(cfg, "gradient"))
    check_regularizers(choices, cfg, model, solver)
    check_answerable(target_of(cfg, "task"), model, solver)


def assemble_experiment(cfg: DictConfig, choices: Mapping[str, str], *, task: Task | None = None) -> Experiment:
    """Task, model and numerics, with initial weights, on the device of the options; `auto` takes the faster one."""
    cfg = _with_stand_ins(cfg)
    options: TrainerOptions = construct(cfg, "trainer")
    device = find_device(options.device, precision=options.precision)
    eager = options.compile == "off" and options.precision not in OF_GPUS  # a CUDA graph has no launch overhead
    if options.device == "auto" and device.type == "cuda" and eager:
        on_cpu = _assembled(cfg, choices, options, torch.device("cpu"), task)
        if is_launch_bound(on_cpu):
            return on_cpu
    return _assembled(cfg, choices, options, device, task)


def _with_stand_ins(cfg: DictConfig) -> DictConfig:
    model = target_of(cfg, "model")
    unread = {*model.unused_axes(), *([] if model.reads_network(cfg.model) else ["network"])}
    for axis in STAND_INS.keys() & unread:
        cfg = built_in(cfg, axis, STAND_INS[axis])
    return cfg


def _assembled(
    cfg: DictConfig, choices: Mapping[str, str], options: TrainerOptions, device: torch.device, task: Task | None
) -> Experiment:
    """The experiment on a device."""
    solver, gradient = construct(cfg, "solver"), construct(cfg, "gradient")
    set_precision(options, device)
    torch.manual_seed(cfg.seed)
    task = task or construct(cfg, "task", seed=cfg.seed, device=device)
    check_spec(task)
    with accepting(partial(is_possible, cfg, task=task)):
        model = _model(cfg, choices, task, device)
    integrator = Integrator(
        solver=solver,
        gradient=gradient,
        field_dtype=options.lower_dtype,
        records=options.compile != "off" and device.type == "cuda",
    )
    return Experiment(
        options=options,
        task=task,
        model=model,
        objective=build_objective(cfg, model),
        integrator=integrator,
        fine_integrator=partial(_fine_integrator, cfg),
        device=device,
        seed=cfg.seed,
        output_dir=Path(str(cfg.output_dir)).absolute(),
    )


def _model(cfg: DictConfig, choices: Mapping[str, str], task: Task, device: torch.device) -> Model:
    """The model with initial weights: builds its network, sets its teacher if it has one, checks it with the solver."""
    dtype, solver = torch.float64 if cfg.trainer.precision == "fp64" else None, construct(cfg, "solver")
    if issubclass(target_of(cfg, "model").network_type, TokenNetwork):  # before the network: the model may have set it
        check_positions(task.spec, choices["model"])
    check_answer_times(choices, task.spec.answer_times, target_of(cfg, "model"))
    check_inputs(choices, task.spec, model=target_of(cfg, "model"), network=target_of(cfg, "network"))
    network = with_series_inputs(construct(cfg, "network", task.spec))
    check_state(choices, target_of(cfg, "model"), network)
    model: Model = construct(cfg, "model", network)
    check_real(choices, model)
    convert(model, device=device, dtype=dtype)
    load_teacher(model, task, cfg, device)
    check_fields(choices, model, solver)
    check_fresh_noise(choices, model, solver)
    return model


def _fine_integrator(cfg: DictConfig) -> Integrator:
    """An accurate integrator, whatever the run's solver is; it has a ledger of its own."""
    return Integrator(
        solver=construct(OmegaConf.create({"solver": FINE_SOLVER | {"per_sample": bool(cfg.per_sample)}}), "solver"),
        gradient=construct(built_in(cfg, "gradient", STAND_INS["gradient"]), "gradient"),
    )


def build_trainer(
    cfg: DictConfig, choices: Mapping[str, str], experiment: Experiment, *, prunable: bool = False
) -> Trainer | None:
    """The trainer of an experiment; None if there are no parameters. `prunable`: a search may end the run early."""
    if not experiment.parameters():
        return None
    group = _process_group(cfg, choices, experiment)
    with torch.random.fork_rng(devices=[]):  # a user's task may draw its batches from torch's global generator
        first_of_training(experiment.task, batch_size=experiment.options.batch_size)
    check_compilable(experiment, processes=group.size)
    check_problem_size(experiment)
    made = trainer_of(cfg, experiment, group)
    if prunable:
        check_ranked(experiment, stages=made.stages.count, option="hydra.sweeper.pruner")
    return made


def trainer_of(cfg: DictConfig, experiment: Experiment, group: ProcessGroup) -> Trainer:
    """The trainer of an experiment with parameters, over the processes of a group."""
    optimizer = without_compiler(lambda: construct(cfg, "optimizer", experiment.parameters()))
    if isinstance(optimizer, GaussNewton):
        check_gauss_newton(experiment, group)
    check_loss_scaling(experiment.options, experiment.integrator.gradient, processes=group.size)
    schedule, diagnostics = construct(cfg, "schedule"), construct(cfg, "diagnostics")
    return Trainer(experiment, optimizer=optimizer, schedule=schedule, diagnostics=diagnostics, group=group)


def _process_group(cfg: DictConfig, choices: Mapping[str, str], experiment: Experiment) -> ProcessGroup:
    """The processes that train: this one, and workers if `processes` or torchrun ask for them."""
    workers = worker_pool(cfg.processes, experiment.device, oversubscribe=cfg.oversubscribe)
    every_time, make = experiment.task.spec.every_time, partial(_build_worker_trainer, cfg, dict(choices))
    if workers is None:
        return SingleProcess()
    return MainProcess(workers, device=experiment.device, every_time=every_time, build_trainer=make)


def _build_worker_trainer(cfg: DictConfig, choices: Mapping[str, str], group: ProcessGroup) -> Trainer:
    """The trainer of a worker, built in its process."""
    return trainer_of(cfg, with_own_threads(assemble_experiment(cfg, choices)), group)
