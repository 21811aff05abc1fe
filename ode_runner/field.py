"""The right-hand side of a differential equation, a field, and the kinds of field that solvers distinguish."""

import abc
from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from ode_runner.noise.brownian_path import Calculus, NoiseKind
from ode_runner.types import State, Time


class VectorField(nn.Module, abc.ABC):
    """The right-hand side of dy/dt = f(t, y), or of dy/dt = f(t, y, *given) if tensors are given to a solve.

    A kind of field is a subclass that declares its own `call_weights`: the methods that solvers call. A field may be of
    several kinds; it then has the methods of each.
    """

    call_weights: ClassVar[Mapping[str, float]] = {"forward": 1}  # by method: evaluations that a call counts as
    solved_by: ClassVar[str] = "a solver for such fields"  # in messages
    slopes: ClassVar[frozenset[str]] = frozenset({"forward"})  # calls whose result has the shape of their state
    batched_time: bool = False  # True: `t` may be (batch,), one time per sample, in every call; see `broadcast_time`
    batched_time_checked: bool = False  # True once a solve has compared such calls with calls at a single time

    @property
    def longest_step(self) -> float | None:
        """The largest step of adaptive solvers: a tenth of the field's shortest period. None: no period is known.

        A longer step may pass over an oscillation without an effect on its error estimate.
        """
        return None

    @property
    def shown_name(self) -> str:
        """The name of the field in messages."""
        return type(self).__name__

    @abc.abstractmethod
    def forward(self, t: Time, y: State) -> State:
        """Derivative at time `t`, in the shape of `y`."""


def broadcast_time(t: Tensor, y: State) -> Tensor:
    """`t` of shape () or (batch,), shaped so that it broadcasts against `y` (batch, *state).

    A single time stays (). One time per sample becomes (batch, 1, ...), because (batch,) would broadcast along the last
    axis of the state.
    """
    return t if t.dim() == 0 else t.view(-1, *[1] * (y.dim() - 1))


class FieldAround(VectorField):
    """A field that a solver makes from another field, `field`, for its own use."""

    field: VectorField


class StackedField(VectorField):
    """A field on a flat state: `copies` batches of `shape`, then quadratures, on which the field does not depend."""

    shape: torch.Size  # (batch, *state)
    copies: int


class KnownJacobian(VectorField):
    """A field that provides its own Jacobian, which implicit solvers then use. Samples must not interact."""

    call_weights: ClassVar[Mapping[str, float]] = {"forward": 1, "jacobian": 0}

    @abc.abstractmethod
    def jacobian(self, t: Time, y: State) -> Tensor:
        """The Jacobian df/dy of every sample, (batch, element, element), without a graph."""


JVP = Callable[[Tensor], Tensor]  # maps tangents (k, batch or 1, *state) to (df/dy) times each, (k, batch, *state)


class LinearizableField(VectorField):
    """A field that computes Jacobian-vector products by its own layers, which is much cheaper than through autograd.

    The products use the intermediate values of the pass that computed the derivative, without another evaluation. The
    field must not draw random numbers.
    """

    @abc.abstractmethod
    def linearize(self, t: Time, y: State, *given: Tensor) -> tuple[State, JVP]:
        """f(t, y, *given), and the function v -> (df/dy) v at this point. Both are differentiable."""

    def forward(self, t: Time, y: State, *given: Tensor) -> State:
        return self.linearize(t, y, *given)[0]


class NoiseDrivenField(VectorField):
    """A field whose solve may receive noise."""

    def noise_shape(self, y: State) -> torch.Size:
        """The shape of dW for one sample: the shape of the state, unless overridden."""
        return y.shape[1:]


class StochasticField(NoiseDrivenField):
    """dy = drift(t, y) dt + diffusion(t, y) dW. It has no derivative for a solver of ordinary equations.

    Both methods take the tensors given to a solve after time and state. A call of both counts as one evaluation.

    Kloeden, Platen. Numerical Solution of Stochastic Differential Equations. Springer 1992, 4.9, for both calculi.
    """

    call_weights: ClassVar[Mapping[str, float]] = {"drift": 0.5, "diffusion": 0.5}
    solved_by: ClassVar[str] = "solver=euler_maruyama, or another for stochastic equations"
    slopes: ClassVar[frozenset[str]] = frozenset({"drift"})
    noise_kind: NoiseKind = NoiseKind.DIAGONAL  # the first solve checks it by the derivative of the diffusion
    calculus: Calculus = Calculus.ITO  # the calculus in which the drift is stated

    @abc.abstractmethod
    def drift(self, t: Time, y: State) -> State:
        """The factor of dt, in the shape of `y`."""

    @abc.abstractmethod
    def diffusion(self, t: Time, y: State) -> Tensor:
        """The factor of dW, in the shape of `y`; for general noise, (batch, *state, *noise_shape)."""

    def noise_shape(self, y: State) -> torch.Size:
        """The shape of dW for one sample: that of the state, or one number for scalar noise; else override it."""
        if self.noise_kind is NoiseKind.GENERAL:
            raise NotImplementedError(
                f"{type(self).__name__} has general noise: define noise_shape(self, y), which gives "
                "torch.Size([k]) for k Brownian motions."
            )
        return y.shape[1:] if self.noise_kind is not NoiseKind.SCALAR else torch.Size([1] * (y.dim() - 1))

    def forward(self, t: Time, y: State) -> State:
        raise NotImplementedError("a stochastic field has a drift and a diffusion, and no derivative")


class WrappedField(VectorField):
    """A field made from another one, `inner`: it takes the same times and has the same longest step.

    A subclass for another kind of field lists that kind as its second base class.
    """

    def __init__(self, inner: VectorField) -> None:
        super().__init__()
        self.inner, self.batched_time = inner, inner.batched_time

    @property
    def longest_step(self) -> float | None:
        return self.inner.longest_step
