"""Finds out whether a run would be refused, without running it: makes its objects, and takes a step on few samples."""

from collections.abc import Mapping
from dataclasses import dataclass

from omegaconf import DictConfig, OmegaConf

from ode_runner.batch import Split
from ode_runner.build import build_experiment, trainer_of
from ode_runner.building.device import OF_GPUS, find_device, set_precision
from ode_runner.building.instantiate import construct
from ode_runner.distributed.process_group import SingleProcess
from ode_runner.distributed.workers import worker_pool
from ode_runner.errors import NumericalFailure
from ode_runner.experiment.experiment import Experiment
from ode_runner.experiment.loss_scaling import check_loss_scaling
from ode_runner.experiment.options import TrainerOptions
from ode_runner.fields.ledger import Phase
from ode_runner.recording.own_warnings import warnings_printed
from ode_runner.tasks.base import Task
from ode_runner.training.prepare_compiled import check_compilable
from ode_runner.training.trainer import Trainer

FEW = 8  # samples with which a step is tried


def unsaid(warning: str) -> None:
    """Ignore a warning of a dry run: the run itself will print it."""
    del warning


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """The objects of a run on the CPU, which another process may run on another device."""

    experiment: Experiment
    trainer: Trainer | None  # None: there is nothing to learn

    @classmethod
    @warnings_printed(unsaid)
    def of(cls, cfg: DictConfig, choices: Mapping[str, str], *, task: Task | None = None) -> "DryRun":
        """Make the objects; `task` is the task if it has been made already.

        Raises:
            RefusedInput: a run would be refused before it begins.
        """
        options: TrainerOptions = construct(cfg, "trainer")
        set_precision(options, device := find_device(options.device, precision=options.precision))
        worker_pool(cfg.processes, device, oversubscribe=cfg.oversubscribe)
        own = {"device": "cpu", "precision": "fp32" if options.precision in OF_GPUS else options.precision}
        on_cpu = OmegaConf.merge(cfg, {"trainer": own})
        assert isinstance(on_cpu, DictConfig)
        experiment = build_experiment(on_cpu, choices, task=task)
        check_loss_scaling(options, experiment.integrator.gradient, processes=cfg.processes)
        trainer = trainer_of(on_cpu, experiment, SingleProcess()) if experiment.parameters() else None
        if trainer is not None and device.type == "cpu":
            check_compilable(experiment, processes=cfg.processes)
        return cls(experiment=experiment, trainer=trainer)

    @warnings_printed(unsaid)
    def evaluations(self) -> float:
        """Evaluations of the forward pass of a first step with few samples; 0 if it fails numerically.

        Raises:
            RefusedInput: a run would be refused at its first step.
        """
        task, trainer = self.experiment.task, self.trainer
        sized = self.experiment.integrator.gradient.sized_by_batch
        size = min(self.experiment.options.batch_size, task.size(Split.TRAIN))
        try:
            batch = next(task.batches(Split.TRAIN, batch_size=size if sized else min(size, FEW), epoch=0))
            if trainer is not None:
                trainer.initialise()
                return float(trainer.train_step(batch, measure_memory=False)["nfe/forward"])
            with self.experiment.integrator.ledger.phase(Phase.FORWARD) as tally:
                self.experiment.loss(batch.to(self.experiment.dtype))
            return tally.evaluations
        except NumericalFailure:
            return 0
