"""A run taken up where it was left, from what is still sound of what it had saved."""

import math

from ode_runner.errors import CheckpointRefused
from ode_runner.recording.checkpoint import Checkpoints
from ode_runner.recording.display import Display
from ode_runner.recording.logger import MetricsFile
from ode_runner.training.trainer import Trainer


def resume(trainer: Trainer, checkpoints: Checkpoints, metrics: MetricsFile, display: Display) -> str:
    """Stand where the newest sound checkpoint was taken, else at the beginning.

    Returns a clause for the record where the result is not that of a run whose files were all sound.
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
    display.say(f"resuming at step {trainer.step:,} of {trainer.total_steps:,}")
    return _without_best(trainer, checkpoints, display)


def _without_best(trainer: Trainer, checkpoints: Checkpoints, display: Display) -> str:
    """Where the best weights so far are lost, the best of the epochs to come have to do."""
    if not trainer.best["epoch"] or trainer.step >= trainer.total_steps:
        return ""
    try:
        checkpoints.load(checkpoints.best)
    except CheckpointRefused as refusal:
        trainer.best = {"objective": math.nan, "epoch": 0}
        display.say(f"{refusal} The best of the epochs to come takes its place.", style="yellow")
        return f"best weights chosen from step {trainer.step} on, for the earlier ones were lost"
    return ""
