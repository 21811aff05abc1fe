"""A moving average of the weights over training. Validation and test use it instead of the weights themselves."""

import typing
from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ode_runner.models.base import Model
from ode_runner.models.copies import copied
from ode_runner.recording.display import Display, counted


@final
class WeightAverage:
    """Exponential moving average of a model's weights and buffers: `decay` * average + (1 - `decay`) * latest.

    It begins with the weights after the first step. Buffers that are integers, such as counts, or sparse, such as the
    matrix of a graph, are copied from the latest step.

    Polyak, Juditsky. Acceleration of Stochastic Approximation by Averaging. SIAM J. Control Optim. 1992.
    """

    def __init__(self, model: Model, *, decay: float) -> None:
        averaged, self._average = typing.cast(Model, _Copied(model)), get_ema_multi_avg_fn(decay)
        self.averaged = AveragedModel(averaged, multi_avg_fn=self._of_dense, use_buffers=True)

    @property
    def model(self) -> Model:
        """A copy of the model whose weights are the averages."""
        return typing.cast(Model, self.averaged.module)

    def update(self, model: Model) -> None:
        """Update the averages after a step of training."""
        self.averaged.update_parameters(model)
        for ours, latest in zip(self.model.buffers(), model.buffers(), strict=True):
            if not ours.is_floating_point() or ours.layout != torch.strided:
                ours.copy_(latest)

    def _of_dense(self, averages: Sequence[Tensor], latest: Sequence[Tensor], count: Tensor | int) -> None:
        dense = [i for i, x in enumerate(averages) if x.layout == torch.strided]
        if dense:
            self._average([averages[i] for i in dense], [latest[i] for i in dense], count)

    def begin_anew(self) -> None:
        """Start the averages again, from the weights after the next step."""
        self.averaged.n_averaged.zero_()

    def state_dict(self) -> dict[str, Any]:
        return self.averaged.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.averaged.load_state_dict(state)


class _Copied:
    """Has AveragedModel copy a model by `copied`."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def __deepcopy__(self, memo: object) -> Model:
        return copied(self.model)


def introduce_average(decay: float, *, steps: int, display: Display) -> None:
    """Print that averaged weights are evaluated, and warn if the run is too short for them to forget the first step."""
    reach = counted(round(1 / (1 - decay)), "step")
    display.say(f"judged by a moving average of the weights over about {reach} (trainer.ema={decay})")
    if steps > 1 and (left := decay ** (steps - 1)) > 0.05:  # it begins with the weights after the first
        display.say(
            f"after {steps:,} steps the weights of the first still count for {left:.0%}: a smaller trainer.ema may do "
            "better",
            style="yellow",
        )
