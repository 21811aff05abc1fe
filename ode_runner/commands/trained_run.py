"""A run and its best weights."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from ode_runner.config.identity import check_same_weights, differing_options
from ode_runner.errors import RefusedInput
from ode_runner.experiment.experiment import Experiment
from ode_runner.recording.checkpoint import Checkpoints
from ode_runner.recording.display import Display
from ode_runner.recording.own_code import changed, sentence
from ode_runner.recording.record import RunRecord, RunStatus
from ode_runner.recording.unfinished import can_be_asked, check_completed, what_became_of


@dataclass(frozen=True, kw_only=True)
class TrainedRun:
    """A run that is completed or has weights so far, and how to build its experiment with the numerics typed now."""

    folder: Path
    record: RunRecord
    assemble: Callable[[], Experiment]  # with fresh weights
    other_task: list[str] = field(default_factory=list)  # options of the task that differ from those in training

    @classmethod
    def find(
        cls,
        folder: Path,
        assemble: Callable[[], Experiment],
        *,
        expected: RunRecord,
        free: Collection[str] = (),
        to_the_end: bool = False,
    ) -> "TrainedRun":
        """The run in `folder`.

        Args:
            folder: a run folder.
            assemble: builds the experiment with fresh weights.
            expected: the record whose task, model, network and seed the run must have.
            free: options such as model.guidance that may differ, because the weights do not depend on them.
            to_the_end: whether a killed or interrupted run is refused even if it has weights so far.

        Raises:
            RefusedInput: the folder has no run, a run that is not completed and has no weights, or another run.
        """
        record = RunRecord.read(folder)
        if record is None:
            raise RefusedInput(f"{folder} holds no record.json that can be read: it is no run folder.")
        if to_the_end or not can_be_asked(record, folder):
            check_completed(record, folder)
        check_same_weights(record, expected, folder, read=assemble, free=free)
        other_task = differing_options(record, expected, "task")
        return cls(folder=folder, record=record, assemble=assemble, other_task=other_task)

    @property
    def unfinished(self) -> bool:
        return self.record.status is not RunStatus.COMPLETED

    @property
    def other_code(self) -> bool:
        """Whether a module of the user's own has changed since the run was made."""
        return bool(changed(self.record.config, self.record.code))

    def experiment(self) -> Experiment:
        """The experiment with the weights that did best on validation, in evaluation mode.

        Raises:
            RefusedInput: the weights do not fit the model, because the program has changed since.
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
            if self.unfinished:
                Display().say(self._of_weights_so_far(best), style="yellow")
        experiment.model.eval()
        experiment.model.begin_test()
        return experiment

    def _of_weights_so_far(self, best: Mapping[str, Any]) -> str:
        place = f"epoch {best['epoch']}" if "epoch" in best else f"step {best.get('step')}"
        return (
            f"NOT FINAL: the run in {self.folder} {what_became_of(self.record, self.folder)}. "
            f"All results are for its best weights so far, those after {place}; its own command continues from there."
        )


def load_weights(model: nn.Module, weights: Any, *, path: Path) -> None:
    """Load `weights`, the content of the file at `path`, into `model`.

    Raises:
        RefusedInput: the weights do not fit the model.
    """
    try:
        model.load_state_dict(weights)
    except (RuntimeError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise RefusedInput(f"the weights in {path} are of another model, or its code has changed.") from error
