"""The right-hand side of a differential equation: kinds of field."""

import abc
from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from ode_runner.noise.brownian_path import Calculus, NoiseKind
from ode_runner.types import State, Time


class VectorField(nn.Module, abc.ABC):
    """The right-hand side of dy/dt = f(t, y), or f(t, y, *given) where tensors are given for a solve.

    A kind of field is a subclass that declares `call_weights` of its own: the methods by which solvers ask for it. A
    field may be of several kinds, and then offers the calls of each.
    """

    call_weights: ClassVar[Mapping[str, float]] = {"forward": 1}  # by method, what a call counts for in the ledger
    batched_time: bool = False  # True: `t` may be (batch,), a time for each sample, in every call; see `broadcast_time`
    batched_time_checked: bool = False  # the first solve has compared that with calls at one time

    @property
    def longest_step(self) -> float | None:
        """A tenth of the shortest period of a field that knows its time scales; None where it does not.

        Adaptive solvers take no longer steps: their error estimate does not see what a longer step passes over.
        """
        return None

    @property
    def shown_name(self) -> str:
        """What messages call it."""
        return type(self).__name__

    @abc.abstractmethod
    def forward(self, t: Time, y: State) -> State:
        """Derivative at time `t`, in the shape of `y`."""


def broadcast_time(t: Tensor, y: State) -> Tensor:
    """`t` of shape () or (batch,), shaped so that it broadcasts against `y` (batch, *state).

    One number stays (); a time for each sample becomes (batch, 1, ...), for (batch,) by itself would be laid along the
    last axis of the state.
    """
    return t if t.dim() == 0 else t.view(-1, *[1] * (y.dim() - 1))


class FieldAround(VectorField):
    """A field that a solver derives from another one, `field`, for its own use."""

    field: VectorField


class StackedField(VectorField):
    """A field on a flat state: `copies` of a batch of `shape`, and after them quadratures, on which nothing depends."""

    shape: torch.Size  # (batch, *state)
    copies: int


class KnownJacobian(VectorField):
    """A field that gives its own derivative by the state, which implicit solvers then use; samples do not interact."""

    call_weights: ClassVar[Mapping[str, float]] = {"forward": 1, "jacobian": 0}

    @abc.abstractmethod
    def jacobian(self, t: Time, y: State) -> Tensor:
        """df/dy of every sample, (batch, element, element), without a graph."""


Push = Callable[[Tensor], Tensor]  # tangents (k, batch or 1, *state) to df/dy times each of them, (k, batch, *state)


class LinearizableField(VectorField):
    """A field that pushes tangents through its own layers: much cheaper than going back through its graph.

    Its Jacobian then is that of the pass that made the derivative, for no evaluation more. It draws no random numbers.
    """

    @abc.abstractmethod
    def linearize(self, t: Time, y: State, *given: Tensor) -> tuple[State, Push]:
        """f(t, y, *given), and v -> (df/dy) v at this place, differentiable as the derivative itself is."""

    def forward(self, t: Time, y: State, *given: Tensor) -> State:
        return self.linearize(t, y, *given)[0]


class NoiseDrivenField(VectorField):
    """A field whose solve may receive noise."""

    def noise_shape(self, y: State) -> torch.Size:
        """The shape of dW for one sample: that of the state, unless overridden."""
        return y.shape[1:]


class StochasticField(NoiseDrivenField):
    """dy = drift(t, y) dt + diffusion(t, y) dW, with no derivative that a solver of ordinary equations could ask for.

    Either takes what is given for a solve after time and state. Both together count as one evaluation.

    Kloeden, Platen. Numerical Solution of Stochastic Differential Equations. Springer 1992, 4.9, for both calculi.
    """

    call_weights: ClassVar[Mapping[str, float]] = {"drift": 0.5, "diffusion": 0.5}
    noise_kind: NoiseKind = NoiseKind.DIAGONAL  # which the first solve compares with the diffusion's derivative
    calculus: Calculus = Calculus.ITO  # in which the drift is stated

    @abc.abstractmethod
    def drift(self, t: Time, y: State) -> State:
        """What multiplies dt, in the shape of `y`."""

    @abc.abstractmethod
    def diffusion(self, t: Time, y: State) -> Tensor:
        """What multiplies dW: in the shape of `y`, or, of general noise, (batch, *state, *noise_shape)."""

    def noise_shape(self, y: State) -> torch.Size:
        """The shape of dW for one sample: that of the state, or one number for scalar noise; general noise must say."""
        if self.noise_kind is NoiseKind.GENERAL:
            raise NotImplementedError(
                f"{type(self).__name__} has general noise: define noise_shape(self, y), which gives "
                "torch.Size([k]) for k Brownian motions."
            )
        return y.shape[1:] if self.noise_kind is not NoiseKind.SCALAR else torch.Size([1] * (y.dim() - 1))

    def forward(self, t: Time, y: State) -> State:
        raise NotImplementedError("a stochastic field has a drift and a diffusion, and no derivative")


class WrappedField(VectorField):
    """A field made of another, `inner`: it takes the same times, and its steps may be no longer.

    A subclass for another kind of field names that kind after this class.
    """

    def __init__(self, inner: VectorField) -> None:
        super().__init__()
        self.inner, self.batched_time = inner, inner.batched_time

    @property
    def longest_step(self) -> float | None:
        return self.inner.longest_step
