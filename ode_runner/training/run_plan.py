"""A run before its data and model are built."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ode_runner.analysis.diagnostics import Diagnostics
from ode_runner.experiment.experiment import Experiment
from ode_runner.recording.logger import MetricLogger
from ode_runner.recording.record import RunRecord
from ode_runner.training.session import SearchTrial
from ode_runner.training.trainer import Trainer


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """A run before its data and model are built: its identity, and functions that build the rest."""

    record: RunRecord  # identity and configuration; status running
    choices: Mapping[str, str]  # the choice of each group
    config_yaml: str  # the resolved configuration, as the user would write it
    folder: Path
    command_files: Mapping[str, str]  # contents of `.hydra/` by file name
    unread: Sequence[str]  # clauses on what was typed but is not used
    untrained: Sequence[str]  # clauses on what is not used if the model has nothing to learn
    own_choices: Mapping[str, Path]  # the user's own yaml files of choices, by group and name
    in_sweep: bool
    trial: SearchTrial | None  # the trial of a search, which may end the run early
    rerun: bool  # start from the beginning and replace an earlier run
    pictures: bool  # whether any are drawn
    build_experiment: Callable[[], Experiment]
    build_trainer: Callable[[Experiment], Trainer | None]
    build_logger: Callable[..., MetricLogger]
    build_diagnostics: Callable[[], Diagnostics]
    vain_diagnostics: Callable[[], str]  # a sentence if they measure nothing in the model
