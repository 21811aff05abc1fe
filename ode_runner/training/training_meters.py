"""Meters of training steps: means of their scalars, seconds and samples."""

from collections.abc import Mapping
from typing import Any, final

from ode_runner.batch import Split
from ode_runner.experiment.experiment import Experiment
from ode_runner.experiment.meters import Clock, Means, Stopwatch, peak_bytes
from ode_runner.training.unread_steps import UnreadSteps, reported

SAMPLES = "samples"


@final
class TrainingMeters:
    """The meters of one run, over all its sessions.

    Args:
        experiment: the experiment that is trained.
        at_once: whether the scalars of a step are read during that step; otherwise some steps later.
    """

    def __init__(self, experiment: Experiment, *, at_once: bool) -> None:
        options, self.task, self.device = experiment.options, experiment.task, experiment.device
        self.latest_size = float(min(options.batch_size, self.task.size(Split.TRAIN)))  # mean samples, when last logged
        self.sizes = Means()  # samples of the steps in the window: the last of an epoch may have fewer
        self.unread = UnreadSteps(experiment.model, self.device, most=options.log_every, at_once=at_once)
        self.window, self.latest = Means(), dict[str, float]()  # since the last logged step; what was logged then
        self.whole, self.clock, self.stopwatch = Means(), Clock(), Stopwatch(self.device)  # since the beginning
        self.train_seconds, self.timed_samples = 0.0, 0  # without the first step of each session

    def read(self) -> None:
        """Read the scalars of the unread steps, and add them to the means.

        Raises:
            Diverged: the loss or gradient of one of these steps is not finite.
        """
        for (step, scalars), seconds in zip(self.unread.read(), self.stopwatch.take(), strict=True):
            scalars = reported(self.task, scalars) | {"time/step_seconds": seconds}
            self.window.add(scalars)
            self.sizes.add({SAMPLES: len(step.batch.inputs)})
            self.whole.add(scalars)
            if step.warm:
                self.train_seconds += seconds
                self.timed_samples += len(step.batch.inputs)

    def take(self) -> dict[str, float]:
        """The scalars to log: means since the last logged step, speed and memory. A new window begins."""
        self.latest_size = self.samples
        scalars = self.latest = self.window.take()
        self.sizes = Means()
        scalars["time/samples_per_second"] = self.latest_size / scalars["time/step_seconds"]
        scalars["memory/peak_bytes"] = peak_bytes(self.device)
        return scalars

    @property
    def samples(self) -> float:
        """The mean number of samples of a step since the last logged step; if there is none, the last logged mean."""
        return self.sizes.read().get(SAMPLES, self.latest_size)

    def means(self) -> dict[str, float]:
        """The means since the last logged step; if there is no newer step, the means that were logged then."""
        return self.window.read() or self.latest

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {
            "window": self.window.state_dict(),
            "sizes": self.sizes.state_dict(),
            "whole": self.whole.state_dict(),
            "latest": dict(self.latest),
            "seconds": [self.clock.seconds, self.train_seconds],
            "timed_samples": self.timed_samples,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned, among other entries of a checkpoint."""
        self.window.load_state_dict(state["window"])
        self.sizes.load_state_dict(state.get("sizes", {}))  # absent in older checkpoints
        self.whole.load_state_dict(state["whole"])
        self.latest = state["latest"]
        self.clock.seconds, self.train_seconds = state["seconds"]
        self.timed_samples = state["timed_samples"]
