"""An objective with regularisers."""

from collections.abc import Mapping, Sequence
from functools import partial, reduce
from typing import Any, final

import torch
from torch import Tensor, nn

from ode_runner.batch import Batch
from ode_runner.errors import RefusedInput
from ode_runner.integral import Integral
from ode_runner.objectives.base import TASK, Loss, Objective
from ode_runner.objectives.own_times import OwnTimes
from ode_runner.objectives.regularized_solves import RegularizedSolves, no_penalties
from ode_runner.problem import Integrate
from ode_runner.regularizers.base import PathRegularizer, Regularizer
from ode_runner.regularizers.estimates import EstimatedRegularizer
from ode_runner.tasks.base import Task
from ode_runner.types import Scalar, State, Times, Trajectory


@final
class Regularized(Objective[nn.Module]):
    """Another objective with the penalty of each regulariser, by its name.

    In training, the penalties are terms of the loss. Otherwise they are reported separately, and solves are not
    changed.
    """

    def __init__(self, objective: Objective[Any], regularizers: Mapping[str, Regularizer]) -> None:
        self.objective, self.regularizers = objective, regularizers
        self.solves, self.ranks = objective.solves, objective.ranks

    def loss(self, model: nn.Module, task: Task, batch: Batch, integrate: Integrate) -> Loss:
        if model.training:
            batch = batch._replace(ts=self._times(batch.ts))
        integrals = partial(self._integrals, training=model.training, numbers=batch.numbers)
        of_states = self._of_states if self._penalises_states else no_penalties
        along = RegularizedSolves(integrate, integrals, of_states=of_states, own=OwnTimes.of(batch))
        loss = self.objective.loss(model, task, batch, along)
        penalties = self._penalties(model, along)
        if both := {TASK, *loss.terms} & penalties.keys():
            raise RefusedInput(f"a term of the loss has the name of a regulariser: {', '.join(both)}. Rename one.")
        if not model.training:
            return loss._replace(penalties=penalties)
        total = loss.total
        for name, penalty in penalties.items():
            total = total + self.regularizers[name].weight * penalty
        return loss._replace(total=total, terms={**(loss.terms or {TASK: loss.total}), **penalties})

    def measures(self, model: nn.Module) -> str:
        return self.objective.measures(model)

    def _times(self, ts: Times) -> Times:
        return reduce(lambda times, regularizer: regularizer.last_time(times), self.regularizers.values(), ts)

    def _integrals(self, y0: State, *, training: bool, numbers: Tensor | None) -> dict[str, Integral]:
        found = {}
        for name, one in self.regularizers.items():
            if isinstance(one, EstimatedRegularizer) and not training:
                found[name] = one.reported(y0, numbers)
            elif isinstance(one, PathRegularizer):
                found[name] = one.integral(y0, training=training)
        return found

    @property
    def _penalises_states(self) -> bool:
        return any(type(one).of_states is not Regularizer.of_states for one in self.regularizers.values())

    def _of_states(self, ts: Times, ys: Trajectory) -> dict[str, Tensor]:
        penalties = {name: regularizer.of_states(ts, ys) for name, regularizer in self.regularizers.items()}
        found = {name: penalty for name, penalty in penalties.items() if penalty is not None}
        for name, penalty in found.items():
            _check_penalty(penalty, self.regularizers[name], "of_states", shape=ys.shape[1:2])
        return found

    def _penalties(self, model: nn.Module, along: RegularizedSolves) -> dict[str, Scalar]:
        """The penalties by regulariser: those of the solves that were made, plus those on parameters."""
        penalties = dict(along.sums)
        for name, regularizer in self.regularizers.items():
            penalty = regularizer.penalty(model)
            if penalty is not None:
                _check_penalty(penalty, regularizer, "penalty", shape=())
                penalties[name] = penalties[name] + penalty if name in penalties else penalty
        return penalties


def _check_penalty(penalty: object, regularizer: Regularizer, hook: str, *, shape: Sequence[int]) -> None:
    """Raises RefusedInput unless the result of a regulariser's hook has its shape: others would be averaged too."""
    if not isinstance(penalty, Tensor) or penalty.shape != torch.Size(shape):
        found = f"one of {tuple(penalty.shape)}" if isinstance(penalty, Tensor) else f"a {type(penalty).__name__}"
        what = "one number for every sample" if shape else "one number"
        raise RefusedInput(
            f"{type(regularizer).__name__}.{hook} gives {what}, a tensor of shape {tuple(shape)}, and gave {found}."
        )
