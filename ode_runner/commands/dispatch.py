"""Checks and runs the command that is typed instead of training: evaluate, predict, export and others."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ode_runner.analysis.derivative import check_reference
from ode_runner.build import assemble_experiment, build_experiment, is_possible
from ode_runner.building.instantiate import construct, target_of
from ode_runner.building.members import members, ways
from ode_runner.building.run_identity import identify
from ode_runner.building.threads import with_own_threads
from ode_runner.commands.audit import audit
from ode_runner.commands.evaluate import evaluate
from ode_runner.commands.export import export
from ode_runner.commands.hypersolve import corrected, hypersolve
from ode_runner.commands.original_command import DIFFERENTIATING, TRAINED, check_model_options, words_of_training
from ode_runner.commands.predict import predict
from ode_runner.commands.replay import replay
from ode_runner.commands.sample import sample
from ode_runner.commands.trained_run import TrainedRun
from ode_runner.commands.unused_words import is_of_solves, typed_now, unused_words
from ode_runner.compatibility import check_compatible
from ode_runner.config.choices import built_in, every_choice
from ode_runner.config.command_files import own_config_dirs
from ode_runner.config.moved_classes import with_present_classes
from ode_runner.config.trust import check_trust
from ode_runner.config.unread_options import LEARNING
from ode_runner.errors import CheckpointRefused, IncompatibleChoice, RefusedInput, as_typed, taken_as_they_are
from ode_runner.experiment.crash_dump import CrashDump
from ode_runner.experiment.experiment import Experiment
from ode_runner.exporting.writing import FIELD, WEIGHTS
from ode_runner.gradients.base import GradientMode
from ode_runner.gradients.event_checks import check_takes_events
from ode_runner.models.events import has_events
from ode_runner.recording.bookkeeping import COMMAND_OPTIONS, COMMANDS
from ode_runner.recording.display import Display
from ode_runner.recording.fresh_folder import remove_if_fresh
from ode_runner.recording.own_warnings import warnings_printed
from ode_runner.recording.record import NONE, UNUSED, RunRecord, RunStatus, computed, flat
from ode_runner.recording.status import status_with_traceback
from ode_runner.recording.stored_command import write_command
from ode_runner.solvers.base import Solver
from ode_runner.tasks.base import Task

Command = Callable[[], RunStatus]


def run_command(
    cfg: DictConfig, choices: Mapping[str, str], folder: Path, *, command_files: Mapping[str, str]
) -> tuple[RunStatus, str] | None:
    """Run the command that is typed instead of training; returns its status, and a sentence unless it completed.

    Returns None if no command is typed.

    Raises:
        RefusedInput: the command cannot be run as typed, or with the run's files; its folder is removed.
    """
    with taken_as_they_are(_of_run(cfg)):
        return _answer(cfg, choices, folder, command_files)


def _answer(
    cfg: DictConfig, choices: Mapping[str, str], folder: Path, command_files: Mapping[str, str]
) -> tuple[RunStatus, str] | None:
    try:
        with warnings_printed(partial(Display().say, style="yellow")):
            command = _plan(cfg, choices, folder)
            if command is None:
                return None
            write_command(folder, command_files)
            return command(), ""
    except RefusedInput:
        remove_if_fresh(folder)
        raise
    except CheckpointRefused as damage:
        remove_if_fresh(folder)
        raise RefusedInput(f"{damage} Type the run's own command with rerun=true to repeat it.") from damage
    except Exception as error:
        status, reason = status_with_traceback(error, folder)
        Display().say(f"{status}: {reason}", style="bold red")  # also written into the log, if the folder stays
        remove_if_fresh(folder)
        return status, reason


def _of_run(cfg: DictConfig) -> tuple[str, ...]:
    """The groups of choices that a command takes from the run that it names."""
    named = next((command for command in COMMANDS if isinstance(cfg[command], str)), None)
    if named is None:
        return ()
    return (*TRAINED, *LEARNING, *([] if f"{named}=" in DIFFERENTIATING else ["gradient"]))


def _plan(cfg: DictConfig, choices: Mapping[str, str], folder: Path) -> Command | None:
    if cfg.evaluate is not None:
        trained = _trained(cfg, choices, Path(str(cfg.evaluate)))
        own = _own_solver(trained, trust=cfg.trust)
        solver = identify(cfg, choices).choices["solver"]
        return partial(
            evaluate, trained, solver=solver, own_solver=own, own_task=partial(_own_task, cfg, trained), folder=folder
        )
    if cfg.predict is not None:
        trained = _trained(cfg, choices, Path(str(cfg.predict)))
        if cfg.samples is not None:
            _check_samples_alone(cfg)
            return partial(sample, trained, samples=_plain(cfg.samples), inputs=_plain(cfg.inputs), folder=folder)
        asked = {name: _plain(cfg[name]) for name in ("times", "inputs", "data")}
        return partial(predict, trained, folder=folder, **asked)
    if cfg.export is not None:
        return _plan_export(cfg, choices, folder)
    if cfg.replay is not None:
        return _plan_replay(cfg, choices, folder)
    if cfg.hypersolve is not None:
        trained = _trained(cfg, choices, Path(str(cfg.hypersolve)), to_the_end=True)
        options = {name: _plain(cfg[name]) for name, read_by in COMMAND_OPTIONS.items() if "hypersolve" in read_by}
        return partial(hypersolve, trained, solver=choices["solver"], options=options, folder=folder)
    if cfg.audit:
        return _plan_audit(cfg, choices, folder)
    return None


def _check_samples_alone(cfg: DictConfig) -> None:
    """Raises RefusedInput if states are asked for as well."""
    for option in ("times", "data"):
        if cfg[option] is not None:
            raise RefusedInput(f"{option}= asks for predictions, and samples= for samples. Leave one of them out.")


def _trained(cfg: DictConfig, choices: Mapping[str, str], folder: Path, *, to_the_end: bool = False) -> TrainedRun:
    free = target_of(cfg, "model").test_only
    check_model_options(typed_now(folder), free)
    return TrainedRun.find(
        folder,
        partial(_assembled, cfg, choices, folder),
        expected=identify(cfg, choices),
        free=[f"model.{name}" for name in free],
        to_the_end=to_the_end,
    )


def _assembled(cfg: DictConfig, choices: Mapping[str, str], folder: Path) -> Experiment:
    correction = None if cfg.correction is None else Path(str(cfg.correction))
    experiment = corrected(assemble_experiment(cfg, choices), correction, run=folder, solver=choices["solver"])
    return _remarked(experiment, cfg, choices, folder)


def _remarked(experiment: Experiment, cfg: DictConfig, choices: Mapping[str, str], folder: Path | None) -> Experiment:
    """The experiment, with its threads, after printing which typed words have no effect.

    `folder`: that of the command's run; None if there is none.
    """
    for clause in unused_words(typed_now(folder), experiment, identify(cfg, choices), choices):
        Display().say(clause)
    return with_own_threads(experiment)


def _own_solver(trained: TrainedRun, *, trust: object) -> Solver:
    """The solver that the run was trained with, from its record."""
    config = {"solver": with_present_classes(trained.record.config["solver"])}
    check_trust(config, own_config_dirs(), opened=trained.folder, trust=trust)
    solver: Solver = construct(OmegaConf.create(config), "solver")
    return solver


def _own_task(cfg: DictConfig, trained: TrainedRun, experiment: Experiment) -> Task:
    """The task that the run was trained with: the command's task with the run's options, on the files typed now."""
    options = {name.split(".")[1] for name in trained.other_task}
    recorded = {name: trained.record.config["task"].get(name) for name in options}
    config = OmegaConf.create({"task": {**dict(cfg.task), **recorded}})
    task: Task = construct(config, "task", seed=experiment.seed, device=experiment.device)
    task.use_statistics(experiment.task.statistics())
    return task


def _plan_export(cfg: DictConfig, choices: Mapping[str, str], folder: Path) -> Command:
    run = Path(str(cfg.export))
    trained = _trained(cfg, choices, run, to_the_end=True)
    if cfg.format == WEIGHTS or cfg.part == FIELD:
        what = f"format={WEIGHTS}" if cfg.format == WEIGHTS else f"part={FIELD}"
        for word in filter(is_of_solves, typed_now(run)):
            Display().say(f"{word} is not used: {what} holds no solve")
    return partial(export, trained, file_format=_plain(cfg.format), part=_plain(cfg.part), folder=folder)


def _plan_audit(cfg: DictConfig, choices: Mapping[str, str], folder: Path) -> Command:
    model = choices["model"]
    if "gradient" in target_of(cfg, "model").unused_axes():
        raise IncompatibleChoice(_without_modes(cfg, choices))
    if cfg.audit is True:
        experiment, weights = _remarked(build_experiment(cfg, choices), cfg, choices, None), "untrained"
        for word in words_of_training(typed_now(None), asked="audit="):
            Display().say(f"{word} is not used: audit= trains nothing")
    else:
        experiment, weights = _trained(cfg, choices, Path(str(cfg.audit)), to_the_end=True).experiment(), "trained"
    check_reference(experiment, asked="audit=")
    about = f"{choices['task']} · {model} · {choices['solver']} · seed {cfg.seed} · {weights}"
    reference = construct(built_in(cfg, "gradient", "backprop"), "gradient")
    modes, own = _modes(cfg, choices), choices["gradient"]
    return partial(audit, experiment, modes=modes, own=own, reference=reference, about=about, folder=folder)


def _without_modes(cfg: DictConfig, choices: Mapping[str, str]) -> str:
    """The message about a model without a solve to differentiate; it suggests odenet if possible, else other models."""
    about = f"model={choices['model']} has no solve to differentiate: audit= compares gradient modes."
    if cfg.audit is not True:
        return f"{about} Name a run of another model."
    if is_possible(cfg, "model", "odenet"):  # checking all models would take seconds
        return f"{about} Use model=odenet."
    models: Mapping[str, Any] = members("model")
    solved = [name for name, other in models.items() if "gradient" not in other.unused_axes()]
    able = [name for name in solved if is_possible(cfg, "model", name)]
    return f"{about} Use {ways(('model', able))}." if able else f"{about} No model of task={choices['task']} has one."


def _plan_replay(cfg: DictConfig, choices: Mapping[str, str], folder: Path) -> Command:
    failed = Path(str(cfg.replay))
    record = RunRecord.read(failed)
    if record is None:
        raise RefusedInput(f"{failed} holds no record.json that can be read: it is no run folder.")
    experiment = _remarked(build_experiment(cfg, choices), cfg, choices, failed)
    crash_dump = CrashDump.load(failed, experiment.device)
    now = identify(cfg, choices)
    before, after = (flat(computed(one.config, one.choices)) for one in (record, now))
    changed = [f"{axis}={choice}" for axis, choice in now.choices.items() if record.choices[axis] != choice]
    changed += [f"{name}={as_typed(value)}" for name, value in after.items() if before.get(name) != value]
    about = " · ".join(choice for choice in now.choices.values() if choice not in (UNUSED, NONE))
    return partial(replay, experiment, crash_dump, about=about, changed=changed, folder=folder)


def _modes(cfg: DictConfig, choices: Mapping[str, str]) -> dict[str, GradientMode | str]:
    """Every gradient mode by name, the command's own with the options typed; for a refused mode, the reason."""
    modes: dict[str, GradientMode | str] = {}
    for name, with_choice in every_choice(cfg, "gradient").items():
        try:
            mode = construct(cfg if name == choices["gradient"] else with_choice(), "gradient")
            model, solver = target_of(cfg, "model"), construct(cfg, "solver")
            if has_events(target_of(cfg, "task"), model):
                check_takes_events(solver, mode, batch=cfg.trainer.batch_size)
            check_compatible({**choices, "gradient": name}, model, solver, mode)
            modes[name] = mode
        except RefusedInput as refusal:
            modes[name] = str(refusal)
    return modes


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
