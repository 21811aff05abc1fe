"""A completed run and its best weights."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from ode_runner.config.identity import check_same_weights, differing_options
from ode_runner.errors import RefusedInput
from ode_runner.experiment.experiment import Experiment
from ode_runner.recording.checkpoint import Checkpoints
from ode_runner.recording.display import Display
from ode_runner.recording.own_code import sentence
from ode_runner.recording.record import RunRecord, RunStatus


@dataclass(frozen=True, kw_only=True)
class TrainedRun:
    """A completed run, and how to build its experiment under the numerics typed now."""

    folder: Path
    record: RunRecord
    assemble: Callable[[], Experiment]  # with fresh weights
    other_task: list[str] = field(default_factory=list)  # options of the task that are others now than in training

    @classmethod
    def find(
        cls, folder: Path, assemble: Callable[[], Experiment], *, expected: RunRecord, free: Collection[str] = ()
    ) -> "TrainedRun":
        """The run in `folder`.

        Args:
            folder: a run folder.
            assemble: builds the experiment with fresh weights.
            expected: the record whose task, model, network and seed the run must have.
            free: options such as model.guidance that no weight depends on, and that may be others.

        Raises:
            RefusedInput: the folder holds no run, one that is not completed, or another one.
        """
        record = RunRecord.read(folder)
        if record is None:
            raise RefusedInput(f"{folder} holds no record.json that can be read: it is no run folder.")
        if record.status is not RunStatus.COMPLETED:
            raise RefusedInput(f"the run in {folder} is not completed but {record.status}. Type its command to go on.")
        check_same_weights(record, expected, folder, free=free)
        other_task = differing_options(record, expected, "task")
        return cls(folder=folder, record=record, assemble=assemble, other_task=other_task)

    def experiment(self) -> Experiment:
        """The experiment with the weights that did best on validation, in evaluation mode.

        Raises:
            RefusedInput: the program has changed since, and the weights no longer fit.
            CheckpointRefused: the weights are damaged.
        """
        experiment = self.assemble()
        if imported := sentence(self.record.config, self.record.code):
            Display().say(imported)
        if experiment.parameters():
            fingerprint, seed = self.record.fingerprint, self.record.seed
            checkpoints = Checkpoints(self.folder / "checkpoints", fingerprint=fingerprint, seed=seed)
            best = checkpoints.load(checkpoints.best)
            load_weights(experiment.model, best.get("model"), path=checkpoints.best)
            experiment.task.use_statistics(best.get("task", {}))
        experiment.model.eval()
        experiment.model.begin_test()
        return experiment


def load_weights(model: nn.Module, weights: Any, *, path: Path) -> None:
    """Load `weights`, the content of the file at `path`, into `model`.

    Raises:
        RefusedInput: the weights are another model's.
    """
    try:
        model.load_state_dict(weights)
    except (RuntimeError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise RefusedInput(f"the weights in {path} are of another model, or its code has changed.") from error
