"""The identity of a run before anything is built: its record, its fingerprints, and the name of its folder."""

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ode_runner.building.instantiate import checked_partial, target_of
from ode_runner.building.regularization import GROUP, regularizer_axis
from ode_runner.building.run_options import check_numbers
from ode_runner.building.teacher import teacher_contents
from ode_runner.config.identity import fingerprint
from ode_runner.config.typed_options import shortened_options
from ode_runner.errors import RefusedInput
from ode_runner.models.base import Model
from ode_runner.recording.record import AXES, NONE, UNUSED, RunRecord, RunStatus
from ode_runner.tasks.base import Task


def identify(cfg: DictConfig, choices: Mapping[str, str]) -> RunRecord:
    """The record of a run that has not begun."""
    config = _resolved(cfg)
    used = _used_choices(cfg, choices)
    task, model = _class(cfg, "task") or Task, _class(cfg, "model") or Model
    contents = task.contents(config["task"]) if _is_sound(cfg, "task") else {}
    of_teacher = teacher_contents(model, config["model"])
    identifying = config | {"task": config["task"] | contents, "model": config["model"] | of_teacher}
    return RunRecord(
        choices=used,
        seed=cfg.seed,
        fingerprint=fingerprint(identifying, used, choices),
        training=fingerprint(
            identifying,
            used | _sampler(cfg),
            choices,
            without={"task": task.test_only, "model": model.test_only},
        ),
        status=RunStatus.RUNNING,
        config=config,
        contents=contents | {f"model.{option}": content for option, content in of_teacher.items()},
    )


def run_name(cfg: DictConfig) -> tuple[str, str]:
    """Name of the run folder: <model>-<solver>-<gradient>[-<regularizer>][-<options>], and -s<seed>-<fingerprint>.

    Options are those typed. The second part alone identifies the run.

    Raises:
        RefusedInput: the seed is not a number; it might be a path.
    """
    if type(cfg.seed) is not int:
        check_numbers(cfg)
    record = identify(cfg, cfg.hydra.runtime.choices)
    chosen = [record.choices[axis] for axis in ("model", "solver", "gradient")]
    parts = [NONE if choice == UNUSED else choice for choice in chosen]
    parts += [choice for choice in [record.choices[GROUP]] if choice not in (UNUSED, NONE)]
    unused = [axis for axis, choice in record.choices.items() if choice == UNUSED]
    options = shortened_options(cfg.hydra.overrides.task, named=set(AXES) - {"network"}, unused=unused)
    return "-".join([*parts, *options]), f"-s{record.seed}-{record.fingerprint}"


def _used_choices(cfg: DictConfig, choices: Mapping[str, str]) -> dict[str, str]:
    used = {axis: str(choices[axis]) for axis in AXES if axis != GROUP}
    try:
        model = target_of(cfg, "model")
    except RefusedInput:  # reported when the run is built; its folder needs a name before that
        return used | {GROUP: regularizer_axis(cfg, None)}
    return used | dict.fromkeys(model.unused_axes(), UNUSED) | {GROUP: regularizer_axis(cfg, model)}


def _sampler(cfg: DictConfig) -> dict[str, str]:
    """Marks the solver as unused in training if the model is trained without a solve; otherwise empty."""
    try:
        solves = target_of(cfg, "model").objective.solves
    except RefusedInput:  # reported when the run is built
        return {}
    return {} if solves else {"solver": UNUSED}


def _resolved(cfg: DictConfig) -> dict[str, Any]:
    """The configuration as plain values, without the node `hydra`, which names this very run.

    It is resolved group by group: a copy without `hydra` would take twice as long.
    """
    resolved = {str(key): "???" if OmegaConf.is_missing(cfg, key) else cfg[key] for key in cfg if key != "hydra"}
    return {
        key: OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        for key, value in resolved.items()
    }


def _is_sound(cfg: DictConfig, group: str) -> bool:
    """Whether all options are valid. If one is not, the error is reported when the run is built."""
    try:
        checked_partial(cfg, group, named=("seed", "device"))
    except RefusedInput:
        return False
    return True


def _class(cfg: DictConfig, group: str) -> Any:
    """The chosen class; None if it cannot be loaded, which is reported when the run is built."""
    try:
        return target_of(cfg, group)
    except RefusedInput:
        return None
