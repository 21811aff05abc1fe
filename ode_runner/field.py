"""The right-hand side of an ODE, and the ledger in which every evaluation of it is entered."""

import abc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ode_runner.noise import Calculus, NoiseKind
from ode_runner.paths.base import GaussianPath
from ode_runner.paths.heads import Head, to_velocity
from ode_runner.types import State, Time


class VectorField(nn.Module, abc.ABC):
    """The right-hand side of dy/dt = f(t, y), or f(t, y, *given) where tensors are given for a solve.

    A kind of field is a subclass that declares `call_weights` of its own: the methods by which solvers ask for it. A
    field may be of several kinds, and then offers the calls of each.
    """

    call_weights: ClassVar[Mapping[str, float]] = {"forward": 1}  # by method, what a call counts for in the ledger
    batched_time: bool = False  # True: `t` may be (batch,), a time for each sample, in every call; see `broadcast_time`
    batched_time_checked: bool = False  # the declaration has been compared with calls at one time each

    @property
    def longest_step(self) -> float | None:
        """A tenth of the shortest period of a field that knows its time scales; None where it does not.

        Adaptive solvers take no longer steps, for what their error estimate does not see they do not resolve.
        """
        return None

    @abc.abstractmethod
    def forward(self, t: Time, y: State) -> State:
        """Derivative at time `t`, in the shape of `y`."""


def broadcast_time(t: Tensor, y: State) -> Tensor:
    """`t` of shape () or (batch,), shaped so that it broadcasts against `y` (batch, *state).

    One number stays (); a time for each sample becomes (batch, 1, ...), for (batch,) by itself would be laid along the
    last axis of the state.
    """
    return t if t.dim() == 0 else t.view(-1, *[1] * (y.dim() - 1))


class KnownEquation(VectorField):
    """A field with numbers that have names, each an attribute of the field."""

    numbers: ClassVar[tuple[str, ...]]


class FieldAround(VectorField):
    """A field that a solver makes of another, `field`, for itself."""

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


class DrivenField(VectorField):
    """A field whose solve may be given noise."""

    def noise_shape(self, y: State) -> torch.Size:
        """Of dW for one sample; as of `y`, unless told otherwise."""
        return y.shape[1:]


class StochasticField(DrivenField):
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
        """Of dW for one sample: as of `y`, one number for scalar noise; general noise has to say."""
        if self.noise_kind is NoiseKind.GENERAL:
            raise NotImplementedError(
                f"{type(self).__name__} has general noise: define noise_shape(self, y), which gives "
                "torch.Size([k]) for k Brownian motions."
            )
        return y.shape[1:] if self.noise_kind is not NoiseKind.SCALAR else torch.Size([1] * (y.dim() - 1))

    def forward(self, t: Time, y: State) -> State:
        raise NotImplementedError("a stochastic field has a drift and a diffusion, and no derivative")


class DenoisingField(StochasticField):
    """The field of a Gaussian path: what it takes the data to be, given a state, and all that follows from that.

    As an ordinary field it is the path's velocity, from noise at t = 1 to data at t = 0. As a stochastic one it is the
    reverse equation dx = (F x - g^2 score) dt + g dW, whose solution from 1 to 0 has the same law at every time. Its
    diffusion is the path's own and costs no evaluation.

    Song et al. Score-Based Generative Modeling through SDEs. ICLR 2021.
    """

    call_weights: ClassVar[Mapping[str, float]] = {"forward": 1, "denoise": 1, "drift": 1, "diffusion": 0}
    noise_kind = NoiseKind.ADDITIVE
    path: GaussianPath

    @abc.abstractmethod
    def denoise(self, t: Time, x: State, *given: Tensor) -> State:
        """E[x_0 | x_t = x], in the shape of `x`."""

    def forward(self, t: Time, y: State, *given: Tensor) -> State:
        return to_velocity(self.path, Head.X0, broadcast_time(t, y), y, self.denoise(t, y, *given))

    def drift(self, t: Time, y: State, *given: Tensor) -> State:
        time, denoised = broadcast_time(t, y), self.denoise(t, y, *given)
        score = (self.path.alpha(time) * denoised - y) / self.path.sigma(time).square()
        return self.path.drift_rate(time) * y - self.path.squared_diffusion(time) * score

    def diffusion(self, t: Time, y: State, *given: Tensor) -> Tensor:
        del given
        return self.path.squared_diffusion(broadcast_time(t, y)).sqrt() * torch.ones_like(y)


class ConsistencyField(DrivenField):
    """A function that takes a state of a Gaussian path, at any time, to the data at its end: no derivative."""

    call_weights: ClassVar[Mapping[str, float]] = {"jump": 1}
    path: GaussianPath

    @abc.abstractmethod
    def jump(self, t: Time, x: State, *given: Tensor) -> State:
        """The data at the end of the way that is at `x` at time `t`, in the shape of `x`."""

    def forward(self, t: Time, y: State) -> State:
        raise NotImplementedError("a consistency function takes noise to data, and has no derivative")


class KnownLaw(DenoisingField):
    """The true field between a law whose density is known and noise."""

    @abc.abstractmethod
    def log_density(self, x: State, *given: Tensor) -> Tensor:
        """Of the data, (batch,), nats; of those under a condition, where one is given."""

    @abc.abstractmethod
    def along(self, path: GaussianPath) -> "KnownLaw":
        """The field of the same law along another path."""


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


class Phase(StrEnum):
    """What an evaluation was made for."""

    FORWARD = "forward"
    BACKWARD = "backward"
    EVALUATION = "evaluation"
    SAMPLING = "sampling"
    DIAGNOSTICS = "diagnostics"


@dataclass
class Tally:
    """Evaluations of the field, attempted steps, and products with its Jacobian that implicit stages take."""

    evaluations: float = 0  # whole, unless a solver asks for the halves of a separable field one by one
    accepted: int = 0
    rejected: int = 0
    products: int = 0
    smallest_step: float | None = None  # accepted, where step control chooses and tells

    def add(self, other: "Tally") -> None:
        self.evaluations += other.evaluations
        self.products += other.products
        self.enter(other.accepted, other.rejected, other.smallest_step)

    def enter(self, accepted: int, rejected: int, smallest_step: float | None) -> None:
        """The steps of a solve."""
        self.accepted += accepted
        self.rejected += rejected
        known = [size for size in (self.smallest_step, smallest_step) if size is not None]
        self.smallest_step = min(known, default=None)


@dataclass(frozen=True, kw_only=True)
class EachSample:
    """What a solve took of every sample, where each has steps of its own: int64 (batch,), on the CPU."""

    evaluations: Tensor  # as many as the sample would take by itself
    accepted: Tensor
    rejected: Tensor
    failures: Mapping[int, str]  # by sample: why it did not reach the end of its span; it has no values from there on


class Ledger:
    """Every evaluation of a run, entered where it happens, under the phase it was made for.

    One evaluation is one call of the field on a whole batch; half of a separable field is half an evaluation.
    """

    def __init__(self) -> None:
        self.totals = {phase: Tally() for phase in Phase}
        self.tally = self.totals[Phase.DIAGNOSTICS]  # outside any phase somebody is looking around
        self.watched: list[EachSample] | None = None

    @contextmanager
    def phase(self, phase: Phase) -> Iterator[Tally]:
        """Enter what happens inside under `phase`; yields the tally of this block alone."""
        outer, self.tally = self.tally, Tally()
        try:
            yield self.tally
        finally:
            self.totals[phase].add(self.tally)
            self.tally = outer

    @contextmanager
    def each_sample(self) -> Iterator[list[EachSample]]:
        """Yields a list to which every solve inside adds what it took of each sample, if it steps them one by one."""
        outer, self.watched = self.watched, []
        try:
            yield self.watched
        finally:
            self.watched = outer

    def put_back(self, phase: Phase, total: Tally) -> None:
        """As if nothing had been entered since the phase's total was this."""
        vars(self.totals[phase]).update(vars(total))

    def enter(self, each: EachSample) -> None:
        """Note what a solve took of each sample, for whoever is looking."""
        if self.watched is not None:
            self.watched.append(each)

    def state_dict(self) -> dict[str, dict[str, float]]:
        return {phase.value: dict(vars(tally)) for phase, tally in self.totals.items()}

    def load_state_dict(self, state: dict[str, dict[str, Any]]) -> None:
        for phase, tally in state.items():
            self.totals[Phase(phase)] = Tally(**tally)
