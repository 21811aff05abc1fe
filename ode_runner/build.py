"""From configuration to objects. `cfg` stops here."""

import hashlib
import inspect
import json
import types
import typing
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from beartype import BeartypeConf
from beartype.door import is_bearable
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf

from ode_runner.cell import Cell
from ode_runner.compatibility import demand_compatible, demand_fields
from ode_runner.distributed import First
from ode_runner.errors import RefusedInput
from ode_runner.help import did_you_mean
from ode_runner.hiring import helpers_for
from ode_runner.integrator import Integrator
from ode_runner.models.base import Numerics
from ode_runner.options import TrainerOptions
from ode_runner.record import RunRecord, RunStatus, computed
from ode_runner.rerun import Rerun
from ode_runner.run import Plan
from ode_runner.team import Alone, Team
from ode_runner.trainer import Trainer

AXES = ("task", "model", "network", "solver", "gradient")
UNUSED = {Numerics.NONE: ("solver", "gradient"), Numerics.SOLVER: ("network", "gradient")}
LOGGER_FACTS = ("folder", "first_step")  # what a logger is given at run time
IN_WORDS = {"int": "whole number", "float": "number", "bool": "true or false", "str": "text", "NoneType": "null"}
IN_WORDS |= {"list": "list", "tuple": "list", "Sequence": "list", "dict": "mapping"}
NUMBERS = BeartypeConf(is_pep484_tower=True)  # an int will do where a float is asked for


def plan_run(cfg: DictConfig, choices: Mapping[str, str], folder: Path, *, in_sweep: bool) -> Plan:
    """What identifies the run, and how to make the rest of it."""
    record = identify(cfg, choices)
    return Plan(
        record=record,
        config_yaml=OmegaConf.to_yaml(OmegaConf.create(record.config)),
        folder=folder,
        in_sweep=in_sweep,
        rerun=Rerun.of(cfg.rerun) is Rerun.ALL,
        build_cell=lambda: build_cell(cfg, choices),
        build_trainer=partial(build_trainer, cfg, choices),
        build_logger=partial(_build_logger, cfg),
        build_diagnostics=partial(construct, cfg, "diagnostics"),
    )


def identify(cfg: DictConfig, choices: Mapping[str, str]) -> RunRecord:
    """The record of a run that has not begun. The seed is not part of the fingerprint: repetitions share it.

    Classes are part of it, for the name of a choice does not settle what is computed: `_target_` can be overridden,
    and choices of one's own are anybody's. So renaming a class parts its runs from the same command.
    """
    own = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])  # hydra's node names this very run
    config = typing.cast(dict[str, Any], OmegaConf.to_container(own, resolve=True))
    used = _used_choices(cfg, choices)
    digest = hashlib.sha256(json.dumps(computed(config, used), sort_keys=True, default=str).encode()).hexdigest()
    return RunRecord(
        choices=used,
        seed=cfg.seed,
        fingerprint=digest[:6],
        status=RunStatus.RUNNING,
        config=config,
    )


def run_name(cfg: DictConfig) -> str:
    """Name of the run folder: <model>-<solver>-<gradient>-s<seed>-<fingerprint>."""
    record = identify(cfg, cfg.hydra.runtime.choices)
    parts = [record.choices[axis].replace("-", "none") for axis in ("model", "solver", "gradient")]
    return "-".join([*parts, f"s{record.seed}", record.fingerprint])


def build_cell(cfg: DictConfig, choices: Mapping[str, str]) -> Cell:
    """Task, model and numerics; what cannot work together is refused before any data is made."""
    _demand_seed(cfg.seed)
    blueprint(cfg, "logger", named=LOGGER_FACTS)  # made once it is known where the run begins
    blueprint(cfg, "diagnostics")
    demand_compatible(dict(choices), locate(cfg, "model"), construct(cfg, "solver"), construct(cfg, "gradient"))
    return assemble(cfg, choices)


def assemble(cfg: DictConfig, choices: Mapping[str, str]) -> Cell:
    """Task, model and numerics, with fresh weights."""
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
    helpers = helpers_for(cfg.processes, cell.device)
    if helpers is None:
        return Alone()
    every_time, recruit = cell.task.spec.every_time, partial(_recruit, cfg, dict(choices))
    return First(helpers, device=cell.device, every_time=every_time, recruit=recruit)


def _recruit(cfg: DictConfig, choices: Mapping[str, str], team: Team) -> Trainer:
    """A helper's trainer, in another process."""
    return _trainer(cfg, assemble(cfg, choices), team)


def construct(cfg: DictConfig, group: str, *positional: Any, **runtime: Any) -> Any:
    """The object that `cfg.<group>` describes: taste from the configuration, run-time facts from the caller.

    Raises:
        RefusedInput: an option is misspelt, missing or of the wrong type.
    """
    made = blueprint(cfg, group, positional=len(positional), named=runtime)
    try:
        return made(*positional, **runtime)
    except RefusedInput:
        raise
    except ValueError as error:  # how torch refuses a negative learning rate
        raise RefusedInput(f"{group}: {error}.") from error


def blueprint(cfg: DictConfig, group: str, *, positional: int = 0, named: Collection[str] = ()) -> Callable[..., Any]:
    """What `construct` calls, its options checked; `positional` and `named` arguments are to come at run time."""
    target = locate(cfg, group)
    options = {str(key): value for key, value in cfg[group].items() if not str(key).startswith("_")}
    parameters = inspect.signature(target).parameters
    offered = [name for name in list(parameters)[positional:] if name not in named]
    for name in options:
        if name not in offered:
            available = f"Available: {', '.join(offered)}" if offered else f"The {group} chosen takes no options."
            raise RefusedInput(f"no option '{group}.{name}'.{did_you_mean(name, offered)} {available}")
    for name in offered:
        if name not in options and parameters[name].default is inspect.Parameter.empty:
            raise RefusedInput(f"{group}.{name} is missing. Add {group}.{name}=... or set it in the yaml.")
    hints = _hints(target)
    try:
        made = instantiate(cfg[group], _partial_=True, _convert_="all")
    except InstantiationException as error:  # of an object inside, such as the base of a coupled solver
        raise RefusedInput(f"{group}: {str(error.__cause__ or error).splitlines()[0]}") from error
    for name, value in made.keywords.items():
        if name in hints and not is_bearable(value, hints[name], conf=NUMBERS):
            raise RefusedInput(
                f"{group}.{name}={_as_typed(value)} is no {_describe(hints[name])}.{_nested(group, name, hints)}"
            )
    return made


def locate(cfg: DictConfig, group: str) -> Any:
    """The class that `cfg.<group>._target_` names."""
    target = cfg[group].get("_target_")
    if target is None:
        raise RefusedInput(f"the {group} chosen has no _target_: a yaml in conf/{group} must name its class.")
    try:
        return get_object(target)
    except Exception as error:  # whatever the user's module raises while it is imported
        causes = [error.__cause__ or error.__context__, error]
        cause = next(cause for cause in causes if cause is not None)
        raise RefusedInput(f"{group}: cannot load {target} ({type(cause).__name__}: {cause}).") from error


def _used_choices(cfg: DictConfig, choices: Mapping[str, str]) -> dict[str, str]:
    used = {axis: str(choices[axis]) for axis in AXES}
    try:
        numerics = locate(cfg, "model").numerics
    except RefusedInput:
        return used  # said properly when the run is built; its folder needs a name before that
    return used | dict.fromkeys(UNUSED.get(numerics, ()), "-")


def _demand_seed(seed: object) -> None:
    if not isinstance(seed, int) or not 0 <= seed < 2**31:
        raise RefusedInput(f"seed={seed} is no whole number from 0 to {2**31 - 1}.")


def _device(name: str) -> torch.device:
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(device for device, there in available.items() if there))
    if not available[name]:
        raise RefusedInput(f"trainer.device={name} is not available here. Use trainer.device=auto.")
    return torch.device(name)


def _build_logger(cfg: DictConfig, **runtime: Any) -> Any:
    return construct(cfg, "logger", **runtime)


def _hints(target: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except (NameError, TypeError):  # somebody else's class with annotations that cannot be resolved
        return {}


def _as_typed(value: Any) -> str:
    if isinstance(value, int | float | str | list | dict | None):
        return json.dumps(value) if value is None or isinstance(value, bool) else repr(value)
    return type(value).__name__


def _nested(group: str, name: str, hints: Mapping[str, Any]) -> str:
    """How an option that is an object of its own is chosen, such as the base of a coupled solver."""
    hint = hints[name]
    plain = not inspect.isclass(hint) or hint.__name__ in IN_WORDS
    return "" if plain else f" Choose one by its name: {group}@{group}.{name}=NAME."


def _describe(hint: Any) -> str:
    """A type in words, as far as its values can be typed on a command line: `float | Tensor` is a number."""
    if typing.get_origin(hint) is typing.Literal:
        return " or ".join(str(choice) for choice in typing.get_args(hint))
    members = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    names = [getattr(typing.get_origin(member) or member, "__name__", "") for member in members]
    return " or ".join(IN_WORDS[name] for name in names if name in IN_WORDS) or " or ".join(names)
