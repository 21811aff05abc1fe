"""A latent SDE: observations depend on a stochastic latent state, whose posterior is learned."""

from collections.abc import Mapping
from typing import ClassVar, final

from torch import Tensor, nn

from ode_runner.batch import Answer, Outputs
from ode_runner.encoding import Encoding
from ode_runner.errors import IncompatibleChoice
from ode_runner.field import StochasticField, VectorField
from ode_runner.integral import VJP, Integral
from ode_runner.models.base import Model, Numerics
from ode_runner.networks.base import Network
from ode_runner.networks.diffusion import ConstantDiffusion, Form, learned_diffusion
from ode_runner.networks.sizes import check_sizes
from ode_runner.noise.brownian_path import NoiseKind
from ode_runner.problem import Integrate, Solution
from ode_runner.types import State, Time, Times

KL = "kl_path"  # the name of the term


@final
class LatentSDE(Model):
    """A prior dz = h(z) dt + g(z) dW, and a posterior given data, with drift f(z, context) and the same diffusion.

    The evidence lower bound has two KL divergences: of initial states, and of paths. The latter is the integral of
    |(f - h) / g|^2 / 2, computed along the solve. The context at a time is the state of a GRU that has read the later
    observations backwards, from the last one.

    Args:
        diffusion: `constant`, or `elementwise`, a function of each coordinate alone.
        width: width of the hidden layer of such a function.
        context: size of the context.

    Li, Wong, Chen, Duvenaud. Scalable Gradients for Stochastic Differential Equations. AISTATS 2020, section 5.
    """

    numerics: ClassVar[Numerics] = Numerics.ANY
    gives: ClassVar[frozenset[Answer]] = frozenset({Answer.PATHS, Answer.STATES})

    def __init__(self, network: Network, *, diffusion: Form, width: int, context: int) -> None:
        check_sizes("model", width=width, context=context)
        super().__init__(network)
        if not network.spec.sequence or network.state_is_input:
            raise IncompatibleChoice(
                "model=latent_sde recognises paths from observations of them. Use task.sequence=true and "
                "network=recurrent_vae, or model=sde."
            )
        self.head = network.head()
        self.reader = nn.GRU(network.spec.input_shape[1], context, batch_first=True)
        noise = learned_diffusion(diffusion, network.state, width)
        self.field = PosteriorEquation(network.field(given=context), network.field(), noise)
        self.kl = Integral(self.field.divergence, judged=True)

    def encode(self, inputs: Tensor) -> Encoding:
        """Initial states of paths; given to the field: the context after each time, and the times."""
        encoding = super().encode(inputs)
        context = self.reader(inputs.flip(1))[0].flip(1)
        copies = len(encoding.y0) // len(inputs)
        given = [context.repeat(copies, 1, 1), inputs[..., -2].repeat(copies, 1)]
        return encoding._replace(given=given)

    def unused_options(self) -> Mapping[str, str]:
        additive = self.field.noise_kind is NoiseKind.ADDITIVE
        return {"width": "model.diffusion=constant"} if additive else {}

    def evolve(self, y0: Encoding, ts: Times, integrate: Integrate) -> Solution:
        return integrate(self.field, y0, ts)

    def forward(self, inputs: Tensor, ts: Times, integrate: Integrate) -> Outputs:
        encoding = self.encode(inputs)
        solution = integrate(self.field, encoding, ts, integrals={KL: self.kl})
        values = self.head(solution.ys.flatten(0, 1)).unflatten(0, solution.ys.shape[:2])
        divergence = solution.integrals[KL][-1].unflatten(0, (-1, len(inputs))).mean(dim=0)
        return Outputs(values=values, terms={**encoding.terms, KL: divergence})


@final
class PosteriorEquation(StochasticField):
    """f(z, context) and g(z), with the prior's h(z); at any time, the context is that of the next observed time.

    The given tensors are the context (batch, time, number) and the times (batch, time), equal for all samples.
    """

    def __init__(self, posterior: VectorField, prior: VectorField, diffusion: nn.Module) -> None:
        super().__init__()
        self.posterior, self.prior, self.of_noise = posterior, prior, diffusion
        self.noise_kind = NoiseKind.ADDITIVE if isinstance(diffusion, ConstantDiffusion) else NoiseKind.DIAGONAL

    def drift(self, t: Time, y: State, *given: Tensor) -> State:
        context, times = given
        place = (times[0] <= t.to(times.dtype)).long().sum().clamp(max=context.shape[1] - 1)
        found: State = self.posterior(t, y, context.index_select(1, place.view(1)).squeeze(1))  # no value is read
        return found

    def diffusion(self, t: Time, y: State, *given: Tensor) -> Tensor:
        del t, given
        found: Tensor = self.of_noise(y)
        return found

    def divergence(self, t: Time, y: State, dy: State, vjp: VJP, *given: Tensor) -> Tensor:
        """|(f - h) / g|^2 / 2, (batch,), nats per unit of time.

        The drift is evaluated again, because a solver's drift may be in the other calculus.
        """
        del dy, vjp
        apart = self.drift(t, y, *given) - self.prior(t, y)
        return (apart / self.diffusion(t, y, *given)).square().sum(dim=1) / 2
