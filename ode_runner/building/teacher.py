"""The teacher of a model: loaded from a run folder, and part of the identity of the run that learns from it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from ode_runner.building.instantiate import construct
from ode_runner.config.moved_classes import with_present_classes
from ode_runner.errors import CheckpointRefused, RefusedInput, as_typed
from ode_runner.models.base import Model
from ode_runner.models.copies import convert
from ode_runner.models.generator import Generator
from ode_runner.models.generators.distilled import EXACT, DistilledModel
from ode_runner.recording.checkpoint import Checkpoints
from ode_runner.recording.record import RunRecord, RunStatus
from ode_runner.recording.unfinished import what_became_of
from ode_runner.tasks.base import Task

FREE = {"train", "validation", "test", "grid", "data_dir"}  # options that do not change the task's distribution


def teacher_contents(model: type[Model], options: Mapping[str, Any]) -> dict[str, str | None]:
    """The identity of the teacher's weights, to replace the folder `options["teacher"]` in fingerprints.

    Empty without a teacher; None if there is no run in the folder.
    """
    folder = options.get("teacher")
    if not issubclass(model, DistilledModel) or not isinstance(folder, str) or folder == EXACT:
        return {}
    record = RunRecord.read(Path(folder))
    return {"teacher": None if record is None else f"{record.training}-s{record.seed}"}


def load_teacher(model: Model, task: Task, cfg: DictConfig, device: torch.device) -> None:
    """Give a model the generator of the run that its option `teacher` names, if it names one.

    Raises:
        RefusedInput: there is no such run, or it has learned another task.
    """
    if isinstance(model, DistilledModel) and model.teacher_option not in (None, EXACT):
        model.learn_from(_generator_of(Path(str(model.teacher_option)), task, cfg, device))


def _generator_of(folder: Path, task: Task, cfg: DictConfig, device: torch.device) -> Generator:
    named, record = f"model.teacher={folder}", RunRecord.read(folder)
    if record is None:
        raise RefusedInput(f"{named} is no run folder: it holds no record.json. A run prints its folder at the end.")
    if record.status is not RunStatus.COMPLETED:
        raise RefusedInput(f"{named}: that run {what_became_of(record, folder)}. Type its command to continue it.")
    _check_same_distribution(record, task, cfg, named)
    config = OmegaConf.create({group: with_present_classes(record.config[group]) for group in ("network", "model")})
    for group in ("network", "model"):
        if not str(config[group].get("_target_")).startswith("ode_runner."):
            raise RefusedInput(f"{named}: the {group} of that run is somebody's own code, which is not run from here.")
    model: Model = construct(config, "model", construct(config, "network", task.spec))
    generator = model.generator()
    if generator is None:
        raise RefusedInput(
            f"{named}: model={record.choices['model']} does not turn noise into samples. Use a run of another model."
        )
    _load(model, folder, record)
    convert(model, device=device, dtype=torch.float64 if cfg.trainer.precision == "fp64" else None).eval()
    return generator


def _check_same_distribution(record: RunRecord, task: Task, cfg: DictConfig, named: str) -> None:
    """Raises RefusedInput if the run was trained on another task, or on another distribution by a task option."""
    theirs, ours = record.config["task"], OmegaConf.to_container(cfg.task, resolve=True)
    assert isinstance(ours, dict)
    for option in sorted({str(name) for name in ours} - FREE - task.test_only - task.of_true_field):
        if theirs.get(option) != ours[option]:
            raise RefusedInput(
                f"{named} has learned from task.{option}={as_typed(theirs.get(option))}, and this task has "
                f"{as_typed(ours[option])}. Use a run of this task."
            )


def _load(model: Model, folder: Path, record: RunRecord) -> None:
    checkpoints = Checkpoints(folder / "checkpoints", fingerprint=record.fingerprint, seed=record.seed)
    try:
        model.load_state_dict(checkpoints.load(checkpoints.best)["model"])
    except (CheckpointRefused, RuntimeError, KeyError) as error:
        raise RefusedInput(
            f"the weights in {checkpoints.best} cannot be taken: {str(error).splitlines()[0]}"
        ) from error
