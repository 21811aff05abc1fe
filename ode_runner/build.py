"""From configuration to objects. `cfg` stops here."""

import math
import typing
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from ode_runner.building.instantiate import blueprint, construct, locate
from ode_runner.building.optimizer_options import demand_optimizer
from ode_runner.compatibility import demand_answers, demand_compatible, demand_fields, unused_axes
from ode_runner.config.choices import built_in
from ode_runner.config.identity import fingerprint
from ode_runner.config.rerun import Rerun
from ode_runner.distributed.data_parallel import First
from ode_runner.distributed.process_group import Alone, Team
from ode_runner.distributed.workers import helpers_for
from ode_runner.errors import RefusedInput
from ode_runner.experiment.experiment import Cell
from ode_runner.experiment.options import TrainerOptions
from ode_runner.integrator import Integrator
from ode_runner.quoting import as_typed
from ode_runner.recording.record import RunRecord, RunStatus
from ode_runner.training.run import Plan
from ode_runner.training.trainer import Trainer

AXES = ("task", "model", "network", "solver", "gradient")
STAND_INS = {"network": "mlp", "gradient": "backprop"}  # for what a model does not use, and is made with all the same
LOGGER_FACTS = ("folder", "first_step")  # what a logger is given at run time


def plan_run(
    cfg: DictConfig,
    choices: Mapping[str, str],
    folder: Path,
    *,
    command_files: Mapping[str, str],
    in_sweep: bool,
) -> Plan:
    """What identifies the run, and how to make the rest of it."""
    record = identify(cfg, choices)
    return Plan(
        record=record,
        config_yaml=OmegaConf.to_yaml(OmegaConf.create(record.config)),
        folder=folder,
        command_files=command_files,
        in_sweep=in_sweep,
        rerun=Rerun.of(cfg.rerun) is Rerun.ALL,
        build_cell=lambda: build_cell(cfg, choices),
        build_trainer=partial(build_trainer, cfg, choices),
        build_logger=partial(_build_logger, cfg),
        build_diagnostics=partial(construct, cfg, "diagnostics"),
    )


def identify(cfg: DictConfig, choices: Mapping[str, str]) -> RunRecord:
    """The record of a run that has not begun."""
    own = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])  # hydra's node names this very run
    config = typing.cast(dict[str, Any], OmegaConf.to_container(own, resolve=True))
    used = _used_choices(cfg, choices)
    return RunRecord(
        choices=used,
        seed=cfg.seed,
        fingerprint=fingerprint(config, used, choices),
        status=RunStatus.RUNNING,
        config=config,
    )


def run_name(cfg: DictConfig) -> str:
    """Name of the run folder: <model>-<solver>-<gradient>-s<seed>-<fingerprint>.

    Raises:
        RefusedInput: the seed is no number at all, and might be a path.
    """
    if type(cfg.seed) is not int:
        _demand_numbers(cfg)
    record = identify(cfg, cfg.hydra.runtime.choices)
    parts = [record.choices[axis].replace("-", "none") for axis in ("model", "solver", "gradient")]
    return "-".join([*parts, f"s{record.seed}", record.fingerprint])


def build_cell(cfg: DictConfig, choices: Mapping[str, str]) -> Cell:
    """Task, model and numerics; what cannot work together is refused before any data is made."""
    _demand_numbers(cfg)
    blueprint(cfg, "logger", named=LOGGER_FACTS)  # made once it is known where the run begins
    blueprint(cfg, "diagnostics")
    demand_answers(choices, locate(cfg, "task"), locate(cfg, "model"))
    demand_compatible(dict(choices), locate(cfg, "model"), construct(cfg, "solver"), construct(cfg, "gradient"))
    return assemble(cfg, choices)


def assemble(cfg: DictConfig, choices: Mapping[str, str]) -> Cell:
    """Task, model and numerics, with fresh weights."""
    for axis in STAND_INS.keys() & unused_axes(locate(cfg, "model")):
        cfg = built_in(cfg, axis, STAND_INS[axis])
    solver, gradient = construct(cfg, "solver"), construct(cfg, "gradient")
    options: TrainerOptions = construct(cfg, "trainer")
    device = _device(options.device)
    torch.manual_seed(cfg.seed)
    task = construct(cfg, "task", seed=cfg.seed, device=device)
    network = construct(cfg, "network", task.spec)
    model = construct(cfg, "model", network).to(device, torch.float64 if options.precision == "fp64" else None)
    demand_fields(choices, model, solver)
    integrator = Integrator(
        solver=solver,
        gradient=gradient,
        field_dtype=torch.bfloat16 if options.precision == "bf16" else None,
    )
    return Cell(options=options, task=task, model=model, integrator=integrator, device=device)


def demand_buildable(cfg: DictConfig, choices: Mapping[str, str]) -> None:
    """Refuses what a run would before it begins. Its objects are made, but on the CPU: another process may run it."""
    options: TrainerOptions = construct(cfg, "trainer")
    helpers_for(cfg.processes, _device(options.device), oversubscribe=cfg.oversubscribe)
    on_cpu = OmegaConf.merge(cfg, {"trainer": {"device": "cpu"}})
    assert isinstance(on_cpu, DictConfig)
    cell = build_cell(on_cpu, choices)
    if cell.parameters():
        _trainer(on_cpu, cell, Alone())


def build_trainer(cfg: DictConfig, choices: Mapping[str, str], cell: Cell) -> Trainer | None:
    """What changes the model of a cell; None where there is nothing to learn."""
    if not cell.parameters():
        return None
    return _trainer(cfg, cell, _team(cfg, choices, cell))


def _trainer(cfg: DictConfig, cell: Cell, team: Team) -> Trainer:
    optimizer = construct(cfg, "optimizer", cell.parameters())
    schedule, diagnostics = construct(cfg, "schedule"), construct(cfg, "diagnostics")
    return Trainer(cell, optimizer=optimizer, schedule=schedule, diagnostics=diagnostics, team=team)


def _team(cfg: DictConfig, choices: Mapping[str, str], cell: Cell) -> Team:
    """This process alone, or the first of several."""
    helpers = helpers_for(cfg.processes, cell.device, oversubscribe=cfg.oversubscribe)
    if helpers is None:
        return Alone()
    every_time, recruit = cell.task.spec.every_time, partial(_recruit, cfg, dict(choices))
    return First(helpers, device=cell.device, every_time=every_time, recruit=recruit)


def _recruit(cfg: DictConfig, choices: Mapping[str, str], team: Team) -> Trainer:
    """A helper's trainer, in another process."""
    return _trainer(cfg, assemble(cfg, choices), team)


def _used_choices(cfg: DictConfig, choices: Mapping[str, str]) -> dict[str, str]:
    used = {axis: str(choices[axis]) for axis in AXES}
    try:
        model = locate(cfg, "model")
    except RefusedInput:
        return used  # said properly when the run is built; its folder needs a name before that
    return used | dict.fromkeys(unused_axes(model), "-")


def _demand_numbers(cfg: DictConfig) -> None:
    """Of the options that no class of ours checks."""
    if type(cfg.seed) is not int or not 0 <= cfg.seed < 2**31:
        raise RefusedInput(f"seed={as_typed(cfg.seed)} is no whole number from 0 to {2**31 - 1}.")
    if type(cfg.tolerance) not in (int, float) or not 0 < cfg.tolerance < math.inf:
        raise RefusedInput(f"tolerance={as_typed(cfg.tolerance)} is no number above 0.")
    demand_optimizer(typing.cast(dict[str, Any], OmegaConf.to_container(cfg.optimizer, resolve=True)))


def _device(name: str) -> torch.device:
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(device for device, there in available.items() if there))
    if not available[name]:
        raise RefusedInput(f"trainer.device={name} is not available here. Use trainer.device=auto.")
    return torch.device(name)


def _build_logger(cfg: DictConfig, **runtime: Any) -> Any:
    return construct(cfg, "logger", **runtime)
