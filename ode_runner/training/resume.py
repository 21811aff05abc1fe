"""Resumes a run from its newest sound checkpoint."""

from ode_runner.errors import CheckpointRefused
from ode_runner.recording.checkpoint import Checkpoints
from ode_runner.recording.display import Display
from ode_runner.recording.logger import MetricsFile
from ode_runner.training.best_weights import NONE
from ode_runner.training.trainer import Trainer


def resume(
    trainer: Trainer, checkpoints: Checkpoints, metrics: MetricsFile, display: Display, *, announce: bool
) -> str:
    """Load the newest sound checkpoint into the trainer, if there is one, and cut metrics.jsonl to its step.

    `announce`: whether the step is printed; False for checkpoints that another run has made.

    Returns a clause for the record if files were damaged, so that the result may differ; otherwise "".
    """
    state, refusals = checkpoints.load_newest()
    for refusal in refusals:
        display.say(f"{refusal} Going on from {'the one before' if state else 'the beginning'}.", style="yellow")
    if state is None:
        metrics.rewind(0)
        return ""
    trainer.load_state_dict(state)
    if not metrics.rewind(state["metrics_position"]):
        display.say(
            f"{metrics.path} has lost lines: the curves have a gap before step {trainer.step:,}", style="yellow"
        )
    if announce:
        display.remark(f"resuming at step {trainer.step:,} of {trainer.total_steps:,}")
    return _without_best(trainer, checkpoints, display)


def _without_best(trainer: Trainer, checkpoints: Checkpoints, display: Display) -> str:
    """Forget the best epoch if its weights are lost, so that a later epoch replaces it; returns the record's clause."""
    if not trainer.best["epoch"] or trainer.step >= trainer.total_steps:
        return ""
    try:
        checkpoints.load(checkpoints.best)
    except CheckpointRefused as refusal:
        trainer.best = dict(NONE)
        display.say(f"{refusal} The best of the epochs to come takes its place.", style="yellow")
        return f"best weights chosen from step {trainer.step} on, for the earlier ones were lost"
    return ""
