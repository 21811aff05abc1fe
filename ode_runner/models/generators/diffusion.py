"""Diffusion models: a head of a path, learned by regression."""

from typing import Literal, final

import torch
from torch import Tensor

from ode_runner.field import VectorField, WrappedField, broadcast_time
from ode_runner.models.generators.path_model import PathModel
from ode_runner.models.generators.predicted_field import PredictedField
from ode_runner.networks.base import Network
from ode_runner.paths.base import GaussianPath
from ode_runner.paths.heads import Head, check_span, convert, default_end_time, to_eps
from ode_runner.paths.named import PathName, path_named
from ode_runner.types import State, Time


@final
class Diffusion(PathModel):
    """Learns a head along a path: the noise, the data, the score, or the velocity.

    The network's output is added to the exact prediction for normal data, which is linear in the state. So predictions
    have the right growth far from the data, where the network is flat.

    Args:
        head: the predicted quantity.
        weighting: `simple`: the squared error of the head (for a score times sigma^2). `snr`: the squared error of the
            data times the signal-to-noise ratio, which equals that of the noise. `likelihood`: the squared error of
            the score times g^2, whose integral bounds the NLL.

    Ho, Jain, Abbeel. Denoising Diffusion Probabilistic Models. NeurIPS 2020. · Song, Sohl-Dickstein, Kingma, Kumar,
    Ermon, Poole. Score-Based Generative Modeling through SDEs. ICLR 2021. · Song, Durkan, Murray, Ermon. Maximum
    Likelihood Training of Score-Based Diffusion Models. NeurIPS 2021, for the third weighting.
    """

    def __init__(
        self,
        network: Network,
        *,
        path: PathName,
        head: Literal["v", "eps", "x0", "score"],
        weighting: Literal["simple", "snr", "likelihood"],
        guidance: float,
        hidden: float,
        start_time: float,
        end_time: float | None,
    ) -> None:
        made, predicted = path_named(path), Head(head)
        default = default_end_time(made, predicted)
        end = default if end_time is None else end_time
        super().__init__(network, guidance=guidance, hidden=hidden, start_time=start_time, end_time=end)
        names = (f"model.path={path}", f"model.head={head}")
        check_span(made, predicted, start=start_time, end=end, names=names)
        self.weighting = weighting
        self.regresses = f"{head} on {path} with weighting={weighting}{self._looked_at(default)}"
        learned = AboutNormal(
            network.field(given=network.spec.condition), path=made, head=predicted, std=network.spec.std
        )
        self.field = PredictedField(learned, path=made, head=predicted, span=(end, start_time))

    def target(self, t: Tensor, data: State, noise: State) -> State:
        path, head = self.field.path, self.field.head
        return convert(path, Head.EPS, head, t, path.noised(t, data, noise), noise)

    def weight(self, t: Tensor) -> Tensor | None:
        path, head = self.field.path, self.field.head
        if self.weighting == "simple":
            return path.sigma(t).square() if head is Head.SCORE else None
        of_noise = to_eps(path, head, t, torch.zeros_like(t), torch.ones_like(t)).square()
        if self.weighting == "snr":
            return of_noise
        return of_noise * path.squared_diffusion(t) / path.sigma(t).square()


@final
class AboutNormal(WrappedField):
    """The head of a path for data N(0, std^2 I), plus a function of time and state."""

    def __init__(self, inner: VectorField, *, path: GaussianPath, head: Head, std: float) -> None:
        super().__init__(inner)
        self.path, self.head, self.std = path, head, std

    def forward(self, t: Time, y: State, *given: Tensor) -> State:
        time = broadcast_time(t, y)
        alpha, sigma = self.path.alpha(time), self.path.sigma(time)
        variance = (alpha * self.std).square() + sigma.square()
        data, noise = alpha * self.std**2 / variance, sigma / variance
        slopes = {Head.X0: data, Head.EPS: noise, Head.SCORE: -1 / variance}
        velocity = self.path.velocity(time, data, noise)
        return slopes.get(self.head, velocity) * y + self.inner(t, y, *given)
