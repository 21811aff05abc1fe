"""What the training of a run has cost."""

from typing import Any

from ode_runner.training.best_weights import of_training_data
from ode_runner.training.trainer import Trainer

MEASURED = {"saved_bytes": "memory/saved_bytes", "gradient_error": "audit/relative_error"}  # only if measured


def cost_of(trainer: Trainer) -> dict[str, Any]:
    """The cost so far: the record's `cost` without peak memory."""
    meters, means = trainer.meters, trainer.meters.whole.read()
    return {
        "parameters": sum(p.numel() for p in trainer.experiment.parameters()),
        "train_seconds": meters.train_seconds,
        "wall_seconds": meters.clock.seconds,
        "steps": trainer.step,
        **({"best_epoch": trainer.best["epoch"]} if trainer.experiment.objective.ranks else {}),  # else the last
        **({"chosen_on": "the training data"} if of_training_data(trainer.experiment) else {}),  # else on validation
        "nfe_forward": means.get("nfe/forward", 0.0),
        "nfe_backward": means.get("nfe/backward", 0.0),
        **({"samples_per_second": meters.timed_samples / meters.train_seconds} if meters.train_seconds else {}),
        "ledger": trainer.integrator.ledger.state_dict(),
        "compile_seconds": trainer.compiled.seconds,
        **{name: means[source] for name, source in MEASURED.items() if source in means},
        **({"learned_from": trainer.stages.learned_from} if trainer.stages.learned_from else {}),
    }
