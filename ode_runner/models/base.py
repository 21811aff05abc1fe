"""What a model is, and all it may know of numerics."""

import abc
from collections.abc import Iterator
from enum import Enum
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from ode_runner.batch import Answer, Outputs
from ode_runner.encoding import Encoding
from ode_runner.errors import RefusedInput
from ode_runner.field import VectorField
from ode_runner.models.generator import Generator
from ode_runner.networks.base import Network
from ode_runner.objectives.base import Objective
from ode_runner.objectives.supervised import Supervised
from ode_runner.plots.animation import Picture
from ode_runner.problem import Integrate, Solution
from ode_runner.types import PathStates, Times, Trajectory


class Numerics(Enum):
    """What a model asks of the solver and the gradient mode it is given."""

    NONE = "neither solver nor gradient mode"
    EQUATION = "any solver and any gradient mode that accepts it; the equation is given, so no network"
    SOLVER = "any solver; nothing is learned, so neither a gradient mode nor a network"
    ANY = "any solver and any gradient mode that accepts it"
    DISCRETE = "a fixed-step explicit Runge-Kutta solver and an exact gradient mode"


class Model(nn.Module, abc.ABC):
    """Maps inputs to outputs through a state that evolves: stem, evolution, head."""

    numerics: ClassVar[Numerics]
    gives: ClassVar[frozenset[Answer]] = frozenset({Answer.VALUES, Answer.STATES})
    objective: ClassVar[Objective[Any]] = Supervised()  # what training minimises
    of_series: ClassVar[bool] = False  # True: the rows of a series drive it, which a task must give
    at_every_row: ClassVar[bool] = True  # False: it is driven by several rows at once, and has no answer at each
    takes_integrals: ClassVar[bool] = False  # True: its answers are integrals along a solve, as log densities are
    uses_network: ClassVar[bool] = True  # False: its layers are its own
    initialised_by_data: ClassVar[bool] = False  # True: `initialise` sets weights from the first batch of training
    draws_work: ClassVar[bool] = False  # True: a random number decides how much a pass of training computes
    to_events: ClassVar[bool] = False  # True: its solves end where an event does, whatever the task
    instead: ClassVar[str] = ""  # what it has in the place of axes that it does not use
    test_only: ClassVar[frozenset[str]] = frozenset()  # options that no weight depends on
    other_solver: ClassVar[str] = ""  # what each solver is told that takes none of its fields, where one solver does
    other_kind: ClassVar[str] = (  # what a solver of another kind of fields is told: what decides, and the way out
        "; that of network={network} is none. Use network=separable, or solver=rk4."
    )

    stem: nn.Module
    head: nn.Module

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.every_time = network.spec.every_time
        self.stem = network.stem()

    @classmethod
    def answers(cls) -> frozenset[Answer]:
        """What it gives; there are no states at any time where there is no time between two blocks."""
        return cls.gives - {Answer.STATES} if cls.numerics is Numerics.NONE else cls.gives

    @abc.abstractmethod
    def evolve(self, y0: Encoding, ts: Times, integrate: Integrate) -> Solution:
        """The states at `ts` as `integrate` gives them; a model without a solve gives Solution(ys=states).

        `y0` is what `encode` says of the beginning, at ts[0]; augmented states are larger than `y0.y0`.
        """

    def forward(self, inputs: Tensor, ts: Times, integrate: Integrate) -> Outputs:
        """Outputs read from the last state, or from the state at each time."""
        encoding = self.encode(inputs)
        return Outputs(values=self.decode(encoding, ts, integrate), terms=encoding.terms)

    def encode(self, inputs: Tensor) -> Encoding:
        """The state at the first time."""
        encoding = self.stem(inputs)
        return encoding if isinstance(encoding, Encoding) else Encoding(encoding)

    def decode(self, encoding: Encoding, ts: Times, integrate: Integrate) -> Tensor:
        """Output values from the state at the first time."""
        return self.read(self.states(encoding, ts, integrate))

    def read(self, states: Trajectory) -> Tensor:
        """Output values from states at the times of a batch."""
        if not self.every_time:
            return self.head(states[-1])
        outputs = self.head(states.flatten(0, 1))
        return outputs.unflatten(0, states.shape[:2])

    def path(self, encoding: Encoding, ts: Times, integrate: Integrate, *, times: int) -> PathStates:
        """About `times` states on the way through depth, from the first of `ts` to the last, for pictures."""
        span = torch.linspace(float(ts[0]), float(ts[-1]), times, dtype=ts.dtype, device=ts.device)
        return self.states(encoding, span, integrate)

    @final
    def solution(self, encoding: Encoding, ts: Times, integrate: Integrate) -> Solution:
        """What the model evolves through, with its events.

        Raises:
            RefusedInput: it says something else than a solution.
        """
        solution = self.evolve(encoding, ts, integrate)
        if not isinstance(solution, Solution):
            raise RefusedInput(
                f"{type(self).__name__}.evolve returned a {type(solution).__name__}, and a model returns the Solution "
                "that integrate(field, y0, ts) gives, whose states are its `ys`. Return Solution(ys=states), from "
                "ode_runner.problem."
            )
        return solution

    @final
    def states(self, encoding: Encoding, ts: Times, integrate: Integrate) -> Trajectory:
        """Those that the model evolves through."""
        return self.solution(encoding, ts, integrate).ys

    def numbers(self) -> dict[str, float]:
        """What the model has learned that has a name of its own, such as a coefficient: reported as test/<name>."""
        return {}

    def check_times(self, ts: Times) -> None:
        """Raises RefusedInput where data at such times cannot teach the model what it is made of; before training."""
        del ts

    def check_new_series(self) -> None:
        """Raises IncompatibleChoice where it has learned something of each series, which a new one lacks."""

    def initialise(self, inputs: Tensor) -> None:
        """Set weights from the first batch of training, before the first step, if `initialised_by_data`."""
        del inputs

    def remarks(self, inputs: Tensor) -> Iterator[str]:
        """What a person should not overlook in what the model has learned to do with such inputs, a sentence each."""
        del inputs
        yield from ()

    def figures(self, inputs: Tensor) -> Iterator[tuple[str, Picture]]:
        """Pictures of what the model has learned besides its answers, by file name without ending."""
        del inputs
        yield from ()

    def generator(self) -> Generator | None:
        """What takes noise to samples, where the model has that."""
        return None

    def begin_step(self, progress: float) -> None:
        """Called before each step of training, of which the part `progress` is done."""
        del progress

    def begin_test(self) -> None:
        """Called once the weights are what they will be, before the test and whatever else is asked of the model."""

    def teacher_generator(self) -> Generator | None:
        """What takes noise to the samples that the model has learned to draw, where it has learned from another."""
        return None

    def learned_field(self) -> VectorField | None:
        """The field on the task's own state space, if that is what the model learns."""
        return None
