"""Training in stages. The data that a stage learns from is made once and kept in a file, also for a resumed run."""

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ode_runner.batch import Split
from ode_runner.config.identity import DIGITS
from ode_runner.errors import CheckpointRefused, IncompatibleChoice, RefusedInput, as_chosen
from ode_runner.experiment.experiment import Experiment
from ode_runner.fields.ledger import Phase
from ode_runner.models.generators.staged import StagedModel
from ode_runner.recording.checkpoint import Checkpoints
from ode_runner.training.averaging import WeightAverage
from ode_runner.training.schedules import Schedule, Scheduler
from ode_runner.training.session import Session


class Stages:
    """Which stage the training of a run is in. Most models have a single stage.

    Args:
        experiment: the experiment to train.
        optimizer: the optimizer of its parameters; its state is cleared at each stage.
        schedule: the schedule, which starts again with each stage.
        processes: the number of processes of the run.

    Raises:
        IncompatibleChoice: several processes would train in stages; only the main process has the data of a stage.
    """

    def __init__(self, experiment: Experiment, optimizer: Optimizer, schedule: Schedule, *, processes: int) -> None:
        self.experiment, self.optimizer, self.schedule = experiment, optimizer, schedule
        self.rates = [group["lr"] for group in optimizer.param_groups]
        self.count = experiment.model.stages if isinstance(experiment.model, StagedModel) else 1
        self.epochs = experiment.options.epochs * self.count  # of all stages together
        self.present, self.learned_from = 0, ""  # the stage, and a hash of its data; the first stage has none
        if self.count > 1 and processes > 1:
            raise IncompatibleChoice(
                f"{as_chosen('model', experiment.model)} is trained in {self.count} stages, and what each learns from "
                "is in the main process alone. Use processes=1."
            )

    def scheduler(self, *, steps_per_epoch: int) -> Scheduler:
        """The scheduler of the present stage, over the steps that trainer.max_steps leaves to it."""
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate
            group.pop("initial_lr", None)  # left by the scheduler of the stage before
        options = self.experiment.options
        whole = options.epochs * steps_per_epoch
        left = (options.max_steps or sys.maxsize) - self.present * whole
        steps = max(1, min(whole, left))
        return self.schedule.scheduler(self.optimizer, steps_per_epoch=steps_per_epoch, steps=steps)

    def due(self, epoch: int) -> bool:
        """Whether the next stage begins with epoch `epoch`, counted from 0."""
        return epoch // self.experiment.options.epochs > self.present

    def cut_short(self) -> str:
        """A sentence if training has ended before its last stage began; otherwise ""."""
        if self.present + 1 == self.count:
            return ""
        return (
            f"training ended in stage {self.present + 1} of {self.count}, so the later stages have learned nothing: "
            "allow more steps or seconds, or fewer trainer.epochs for each stage."
        )

    def begin(self, average: WeightAverage | None, session: Session) -> None:
        """Go on to the next stage from the best weights so far.

        Args:
            average: the weight average, if the run has one.
            session: its checkpoints hold the best weights, and keep the data of the stage.
        """
        self.present += 1
        session.display.say(f"stage {self.present + 1} of {self.count}")
        model, *others = self._models(average)
        best = session.checkpoints.load(session.checkpoints.best)["model"]
        model.load_state_dict(best)
        made = _made(self.experiment, model)
        session.checkpoints.save_stage(self.present, made)
        model.begin_stage(made)
        for other in others:
            other.load_state_dict(best)
            other.begin_stage(made)
        if average is not None:
            average.begin_anew()
        self.learned_from = digest(made)
        self.optimizer.state.clear()

    def resume(self, average: WeightAverage | None, checkpoints: Checkpoints) -> None:
        """Continue the present stage with the data that it has learned from so far.

        Raises:
            RefusedInput: the data is lost or damaged, or its hash is another.
        """
        if not self.present:
            return
        path = checkpoints.stage(self.present)
        try:
            made = checkpoints.load(path)
        except CheckpointRefused as refusal:
            raise RefusedInput(f"{str(refusal).rstrip('.')}: {_ANEW}") from None
        if digest(made) != self.learned_from:
            raise RefusedInput(f"{path} is not what this run has learned from so far: {_ANEW}")
        for model in self._models(average):
            model.resume_stage(made)

    def state_dict(self) -> dict[str, Any]:
        return {"present": self.present, "learned_from": self.learned_from}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.present, self.learned_from = state["present"], state["learned_from"]

    def _models(self, average: WeightAverage | None) -> list[StagedModel]:
        """The model that is trained, and the averaged one if there is one."""
        models = [self.experiment.model] if average is None else [self.experiment.model, average.model]
        return [model for model in models if isinstance(model, StagedModel)]


_ANEW = "the run cannot continue as if it had never been stopped. To start over, add rerun=all."


def digest(made: Mapping[str, Tensor]) -> str:
    """A hash of tensors: names, types, shapes and values."""
    found = hashlib.sha256()
    for name, values in sorted(made.items()):
        found.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        found.update(values.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:DIGITS]


@torch.no_grad()
def _made(experiment: Experiment, model: StagedModel) -> dict[str, Tensor]:
    task, ledger = experiment.task, experiment.integrator.ledger
    whole = next(task.batches(Split.TRAIN, batch_size=task.size(Split.TRAIN), epoch=0)).to(experiment.dtype)
    integrator = replace(experiment.fine_integrator(), ledger=ledger)
    model.eval()
    with ledger.phase(Phase.SAMPLING):
        return model.make_stage(whole.inputs, integrator, seed=experiment.seed)
