"""A second-order ODE-Net."""

from typing import ClassVar, final

import torch
from torch import Tensor

from ode_runner.encoding import Encoding
from ode_runner.field import WrappedField
from ode_runner.fields.structured_field import SecondOrderField, SeparableField
from ode_runner.models.base import Model, Numerics
from ode_runner.networks.base import Network
from ode_runner.networks.channels import ChannelMap
from ode_runner.problem import Integrate, Solution
from ode_runner.types import State, Time, Times


@final
class SecondOrder(Model):
    """q'' = f(t, q, q'), on the state (q, v) with v = q'. Initially v is zero or a learned affine map of q.

    Without `damping`, f depends on q only. Then the field is separable, and symplectic solvers take it, too.

    Massaroli, Poli, Park, Yamashita, Asama. Dissecting Neural ODEs. NeurIPS 2020.
    """

    numerics: ClassVar[Numerics] = Numerics.ANY
    other_kind: ClassVar[str] = "; that of model={model} reads the velocity. Use {instead}."
    separable: ClassVar[tuple[str, str]] = ("model.damping", "false")

    def __init__(self, network: Network, *, damping: bool, learned_velocity: bool) -> None:
        super().__init__(network)
        acceleration = network.field(given=network.state if damping else 0)
        self.field = DampedField(acceleration) if damping else UndampedField(acceleration)
        self.head = network.head(extra=network.state)
        self.velocity = ChannelMap(network.state, network.state) if learned_velocity else None

    def evolve(self, y0: Encoding, ts: Times, integrate: Integrate) -> Solution:
        q = y0.y0
        v = self.velocity(q) if self.velocity else torch.zeros_like(q)
        return integrate(self.field, y0._replace(y0=torch.cat([q, v], dim=1)), ts)


@final
class DampedField(WrappedField, SecondOrderField):
    """q' = v, v' = f(t, q, v, *given)."""

    def force(self, t: Time, y: State, *given: Tensor) -> State:
        q, v = y.chunk(2, dim=1)
        return self.inner(t, q, v, *given)


@final
class UndampedField(WrappedField, SeparableField, SecondOrderField):
    """q' = v, v' = f(t, q, *given)."""

    def drift(self, t: Time, p: State, *given: Tensor) -> State:
        return p

    def kick(self, t: Time, q: State, *given: Tensor) -> State:
        return self.inner(t, q, *given)

    def force(self, t: Time, y: State, *given: Tensor) -> State:
        return self.kick(t, y.chunk(2, dim=1)[0], *given)
