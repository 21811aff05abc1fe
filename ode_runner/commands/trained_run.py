"""A finished run and its best weights."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ode_runner.config.identity import check_same_weights
from ode_runner.errors import RefusedInput
from ode_runner.experiment.experiment import Experiment
from ode_runner.recording.checkpoint import Checkpoints
from ode_runner.recording.record import RunRecord, RunStatus


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a run folder holds, and how to bring it to life under the numerics asked for now."""

    folder: Path
    record: RunRecord
    assemble: Callable[[], Experiment]  # with fresh weights

    @classmethod
    def find(cls, folder: Path, assemble: Callable[[], Experiment], *, expected: RunRecord) -> "Trained":
        """The run in `folder`, which has the model, network and seed of the record expected.

        Raises:
            RefusedInput: there is none, it has not been completed, or it is another.
        """
        record = RunRecord.read(folder)
        if record is None:
            raise RefusedInput(f"{folder} holds no record.json that can be read: it is no run folder.")
        if record.status is not RunStatus.COMPLETED:
            raise RefusedInput(f"the run in {folder} is not completed but {record.status}. Type its command to go on.")
        check_same_weights(record, expected, folder)
        return cls(folder=folder, record=record, assemble=assemble)

    def experiment(self) -> Experiment:
        """With the weights that did best on validation.

        Raises:
            RefusedInput: the program has changed since, and the weights no longer fit.
            CheckpointRefused: the weights are damaged.
        """
        experiment = self.assemble()
        if experiment.parameters():
            fingerprint, seed = self.record.fingerprint, self.record.seed
            checkpoints = Checkpoints(self.folder / "checkpoints", fingerprint=fingerprint, seed=seed)
            take_up(experiment.model, checkpoints.load(checkpoints.best).get("model"), path=checkpoints.best)
        experiment.model.eval()
        return experiment


def take_up(model: nn.Module, weights: Any, *, path: Path) -> None:
    """Give `model` the weights that were found in `path`.

    Raises:
        RefusedInput: they are not this model's.
    """
    try:
        model.load_state_dict(weights)
    except (RuntimeError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise RefusedInput(f"the weights in {path} are of another model, or its code has changed.") from error
