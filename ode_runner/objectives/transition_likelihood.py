"""The likelihood of transitions, by which stochastic differential equations are fitted."""

import abc
import math
from typing import final

from torch import nn

from ode_runner.batch import Batch
from ode_runner.field import StochasticField
from ode_runner.objectives.base import Loss, Objective
from ode_runner.problem import Integrate
from ode_runner.tasks.base import Task


class TransitionLearner(nn.Module, abc.ABC):
    """The interface that the objective needs from a model: a field on the observed state, with diagonal noise."""

    field: StochasticField


@final
class TransitionLikelihood(Objective[TransitionLearner]):
    """The negative log likelihood of each observation given the one before: normal, drift dt and diffusion^2 dt.

    It is in nats, summed over coordinates, averaged over transitions; one evaluation, no solve. The density is that of
    Euler's step, which converges to the true one as observations become denser. A squared distance between paths would
    not work: it is smallest without any noise.

    Pedersen. A New Approach to Maximum Likelihood Estimation for Stochastic Differential Equations Based on Discrete
    Observations. Scand. J. Stat. 1995.
    """

    solves = False

    def loss(self, model: TransitionLearner, task: Task, batch: Batch, integrate: Integrate) -> Loss:
        paths, lengths = batch.targets, batch.ts.diff()
        y, t = paths[:-1].flatten(0, 1), batch.ts[:-1].repeat_interleave(paths.shape[1])
        dt = lengths.repeat_interleave(paths.shape[1])[:, None]
        drift = integrate.evaluate(model.field, t, y, call="drift").to(y.dtype)
        variance = integrate.evaluate(model.field, t, y, call="diffusion").to(y.dtype).square() * dt
        error = paths[1:].flatten(0, 1) - y - drift * dt
        nats = (error.square() / variance + (math.tau * variance).log()) / 2
        return Loss(nats.sum(dim=1).mean())

    def measures(self, model: TransitionLearner) -> str:
        del model
        return "minus the log likelihood of transitions"
