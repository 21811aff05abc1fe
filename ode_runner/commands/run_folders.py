"""The folder that a command writes to: that of its run or its sweep, or one inside the run that it asks about."""

import hashlib
import json
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from ode_runner.config.booleans import check_boolean
from ode_runner.config.command_files import own_config_dirs
from ode_runner.config.garbage_collection import collector_off
from ode_runner.config.rerun import Rerun
from ode_runner.config.trust import check_trust
from ode_runner.config.unused_words import check_plain_names
from ode_runner.config.yaml_options import check_yaml_options
from ode_runner.errors import RefusedInput, as_typed
from ode_runner.recording.bookkeeping import COMMAND_OPTIONS, COMMANDS, PLACEMENT, PROCESSES
from ode_runner.recording.fresh_folder import note_missing
from ode_runner.recording.record import NONE, UNUSED

# Prefixes of words that are not part of a sweep's name. output_dir= is part of it, for older sweeps were named so.
NOT_IN_SWEEP_NAME = (
    *("-", "hydra/launcher=", "hydra.launcher.", "hydra.sweeper.trials="),
    *(f"{option}=" for option in (*PLACEMENT, *PROCESSES) if option != "output_dir"),
)


def folder_of(what: str, *, _root_: DictConfig) -> str:
    """The resolver `${folder:run}`, `${folder:sweep}` or `${folder:job}` of conf/config.yaml; a job is part of a sweep.

    `${folder:own}` is the folder of a run outside sweeps, even if it is only planned.
    """
    _check_bookkeeping(_root_)
    answers, opened = _answers_folder(_root_), _opened_run(_root_)
    if opened is not None:
        own = OmegaConf.masked_copy(_root_, [str(key) for key in _root_ if key != "hydra"])
        plain = cast(dict[str, Any], OmegaConf.to_container(own))
        check_trust(plain, own_config_dirs(_root_.hydra), opened=opened, trust=_root_.trust)
    if what == "sweep":
        return answers or f"{_root_.output_dir}/sweeps/{_sweep_name(_root_)}"
    with collector_off():
        from ode_runner.building.run_identity import (  # here, so that --help and --cfg do not wait for torch
            identify,
            run_name,
        )

    choices = _root_.hydra.runtime.choices
    if opened is not None:
        record = identify(_root_, choices)
        solver = record.choices["solver"]
        leaf = f"{NONE if solver == UNUSED else solver}-{record.fingerprint}{_question(_root_)}"
        return _noted(_root_.hydra.sweep.dir if what == "job" else answers, leaf, what)
    if _root_.plan and what == "run":
        return _noted(tempfile.gettempdir(), f"ode-run-plan-{os.getpid()}", what)
    within = _root_.hydra.sweep.dir if what == "job" else answers or _root_.output_dir
    leaf = f"{choices.task}/{_existing(Path(within, choices.task), *run_name(_root_))}"
    return _noted(within, leaf, what)


def _existing(parent: Path, shown: str, identity: str) -> str:
    """The name of the folder in `parent` that already has the run, or a new name.

    The folder may have another name for the same run: `optimizer.lr=0.01` and `optimizer.lr=1e-2` are one run, and
    earlier versions named folders differently.
    """
    if not (parent / f"{shown}{identity}").exists():
        for folder in sorted(parent.glob(f"*{identity}")):
            return folder.name
    return f"{shown}{identity}"


def note_typed_folder(words: Iterable[str]) -> None:
    """Note the missing folders of `hydra.run.dir`, if it is typed, because `folder_of` is then not called."""
    for word in words:
        name, _, value = word.lstrip("+").partition("=")
        if name == "hydra.run.dir":
            note_missing(Path(value.strip("'\"")))


def _noted(within: str, leaf: str, what: str) -> str:
    """The folder to make (for a job only its leaf). Missing folders are noted: a refusal removes only these.

    This includes planned runs, because Hydra makes a folder before it asks whether there is anything to do.
    """
    note_missing(Path(within, leaf))
    return leaf if what == "job" else f"{within}/{leaf}"


def _answers_folder(cfg: DictConfig) -> str:
    """The folder of all results of the command typed, such as RUN/evaluations; "" if a run is to be trained."""
    for command, folder in COMMANDS.items():
        if cfg[command] is not None and cfg[command] is not False:
            return f"{cfg.output_dir if cfg[command] is True else cfg[command]}/{folder}"
    return ""


def _question(cfg: DictConfig) -> str:
    """A hash of the options of the command itself that are typed, so that answers to other questions are kept.

    They are `times`, `inputs`, `samples` and `data` of predict=, and `format` and `part` of export=; "" without any.
    """
    names = {re.sub(r"^[+~]*|=.*$", "", word, flags=re.DOTALL) for word in cfg.hydra.overrides.task}
    typed = {name: cfg[name] for name in COMMAND_OPTIONS if name in names and cfg[name] is not None}
    if not typed:
        return ""
    plain = OmegaConf.to_container(OmegaConf.create(typed), resolve=True)
    return f"-{hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()[:6]}"


def _opened_run(cfg: DictConfig) -> Path | None:
    """The folder of the run that a command asks about; None if it names none, as audit=true."""
    named = (cfg[command] for command in COMMANDS)
    return next((Path(str(folder)) for folder in named if folder is not None and not isinstance(folder, bool)), None)


def _check_bookkeeping(cfg: DictConfig) -> None:
    """Raises RefusedInput for options with which no run can be made, before a folder is made or emptied."""
    check_yaml_options(cfg)
    Rerun.of(cfg.rerun)
    check_plain_names(cfg.hydra.runtime.choices)
    check_boolean("plan", cfg.plan)
    if cfg.plan and _answers_folder(cfg):
        raise RefusedInput(
            f"plan=true is for runs that train; leave it out with {', '.join(f'{command}=' for command in COMMANDS)}."
        )
    if not isinstance(cfg.output_dir, str) or not cfg.output_dir:
        raise RefusedInput(f"output_dir={as_typed(cfg.output_dir)} is no folder. Leave it out for ./outputs.")


def _sweep_name(cfg: DictConfig) -> str:
    if cfg.sweep is None:
        return _name_from_command()
    name = str(cfg.sweep)
    if OmegaConf.is_config(cfg.sweep) or name in ("", "..") or Path(name).name != name or not name.isprintable():
        raise RefusedInput(f"sweep={shlex.quote(name)} is no name of a folder. Use letters, digits and -: sweep=mine.")
    return name


def _name_from_command() -> str:
    """The names of the options swept and a hash of the whole command, so that the same command finds its sweep.

    They come from sys.argv, because the configuration of a job has only its own cell of the sweep.
    """
    typed = sorted(word for word in sys.argv[1:] if not word.startswith(NOT_IN_SWEEP_NAME))
    presets = [word.partition("=")[2] for word in typed if word.startswith(("grid=", "search="))]
    swept = [re.sub(r"^[+~]*|=.*$", "", word).split(".")[-1] for word in typed if "," in word or "(" in word]
    digest = hashlib.sha256("\n".join(typed).encode()).hexdigest()[:6]
    return "-".join([*presets, *swept, digest])
