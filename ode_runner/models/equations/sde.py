"""A stochastic equation whose drift and diffusion are learned."""

from collections.abc import Mapping
from typing import Any, ClassVar, final

from torch import Tensor, nn

from ode_runner.batch import Answer
from ode_runner.encoding import Encoding
from ode_runner.errors import IncompatibleChoice
from ode_runner.field import StochasticField, VectorField
from ode_runner.models.base import Model, Numerics
from ode_runner.networks.base import Network
from ode_runner.networks.diffusion import ConstantDiffusion, Form, learned_diffusion
from ode_runner.networks.sizes import check_sizes
from ode_runner.noise.brownian_path import NoiseKind
from ode_runner.objectives.base import Objective
from ode_runner.objectives.transition_likelihood import TransitionLearner, TransitionLikelihood
from ode_runner.problem import Integrate, Solution
from ode_runner.types import State, Time, Times


@final
class StochasticEquationModel(Model, TransitionLearner):
    """dx = f(x) dt + g(x) dW on the observed state, in Ito calculus, fitted by the likelihood of transitions.

    It is trained without a solve; the solver computes its paths. Tasks that compare paths with data point by point
    refuse this model, because such a loss would drive g to 0.

    Tzen, Raginsky. Neural Stochastic Differential Equations: Deep Latent Gaussian Models in the Diffusion Limit. 2019,
    for such equations; the likelihood is that of the objective.

    Args:
        diffusion: `constant`, a number per coordinate; `elementwise`, a function of each coordinate alone.
        width: width of the hidden layer of such a function.
    """

    numerics: ClassVar[Numerics] = Numerics.ANY
    gives: ClassVar[frozenset[Answer]] = frozenset({Answer.PATHS, Answer.STATES})
    objective: ClassVar[Objective[Any]] = TransitionLikelihood()

    def __init__(self, network: Network, *, diffusion: Form, width: int) -> None:
        check_sizes("model", width=width)
        super().__init__(network)
        if not network.state_is_data:
            raise IncompatibleChoice(
                "model=sde is fitted on the observed state itself, and this network makes features of its inputs. Use "
                "network=mlp and task.sequence=false, or model=latent_sde."
            )
        self.head = network.head()
        self.field = LearnedEquation(network.field(), learned_diffusion(diffusion, network.state, width))

    def unused_options(self) -> Mapping[str, str]:
        additive = self.field.noise_kind is NoiseKind.ADDITIVE
        return {"width": "model.diffusion=constant"} if additive else {}

    def evolve(self, y0: Encoding, ts: Times, integrate: Integrate) -> Solution:
        return integrate(self.field, y0, ts)

    def learned_field(self) -> VectorField:
        return self.field


@final
class LearnedEquation(StochasticField):
    """A learned drift, and a learned diffusion of diagonal noise."""

    def __init__(self, drift: VectorField, diffusion: nn.Module) -> None:
        super().__init__()
        self.inner, self.of_noise = drift, diffusion
        self.batched_time = drift.batched_time
        self.noise_kind = NoiseKind.ADDITIVE if isinstance(diffusion, ConstantDiffusion) else NoiseKind.DIAGONAL

    def drift(self, t: Time, y: State) -> State:
        found: State = self.inner(t, y)
        return found

    def diffusion(self, t: Time, y: State) -> Tensor:
        found: Tensor = self.of_noise(y)
        return found
