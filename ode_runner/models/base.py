"""The base class of models, and the numerics that a model needs."""

import abc
import inspect
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from ode_runner.batch import Answer, AnswerTimes, Outputs
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
    """How a model uses the solver and the gradient mode."""

    NONE = "neither solver nor gradient mode"
    EQUATION = "any solver and any gradient mode that accepts it; the equation is given, so no network"
    SOLVER = "any solver; nothing is learned, so neither a gradient mode nor a network"
    ANY = "any solver and any gradient mode that accepts it"
    DISCRETE = "a fixed-step explicit Runge-Kutta solver and an exact gradient mode"


UNUSED_AXES = {
    Numerics.NONE: ("solver", "gradient"),
    Numerics.SOLVER: ("network", "gradient"),
    Numerics.EQUATION: ("network",),
}


class Model(nn.Module, abc.ABC):
    """Maps inputs to outputs through an evolving state: stem, evolution, head."""

    numerics: ClassVar[Numerics]
    gives: ClassVar[frozenset[Answer]] = frozenset({Answer.VALUES, Answer.STATES})
    objective: ClassVar[Objective[Any]] = Supervised()  # the training objective
    of_series: ClassVar[bool] = False  # True: driven by the rows of a series; needs a task of series
    at_every_row: ClassVar[bool] = True  # False: uses several rows at once, and has no output at each row
    takes_integrals: ClassVar[bool] = False  # True: outputs are integrals along a solve, as log densities
    uses_network: ClassVar[bool] = True  # False: has its own layers
    network_type: ClassVar[type] = Network  # the class that its network must be an instance of
    of_images: ClassVar[bool] = False  # True: its layers take images only
    initialised_by_data: ClassVar[bool] = False  # True: `initialise` sets weights from the first batch of training
    draws_work: ClassVar[bool] = False  # True: the cost of a training pass is random
    to_events: ClassVar[bool] = False  # True: its solves end at events, whatever the task
    instead: ClassVar[str] = ""  # for messages: what it has in place of axes that it does not use
    untimed: ClassVar[str] = "has blocks and no time between them"  # for messages: why it has no states at any time
    test_only: ClassVar[frozenset[str]] = frozenset()  # options that do not affect training
    other_solver: ClassVar[str] = ""  # message for a solver that does not take its fields, if only one solver does
    separable: ClassVar[tuple[str, str]] = ("network", "separable")  # what makes its fields separable
    # Message for a solver of another kind of field: {instead} is what makes such fields, or a solver of any field.
    other_kind: ClassVar[str] = "; that of network={network} is none. Use {instead}."

    joins_tokens: ClassVar[bool] = True  # for texts: False if each token is predicted independently
    time_heading: str = "t"  # of the column of times in tables of states
    without_network: str = ""  # the option, as typed, with which it does not use its network
    stem: nn.Module
    head: nn.Module

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.every_time = network.spec.every_time
        self.unused_options_of_network = network.unused_options()
        self.stem = network.stem()

    @classmethod
    def answers(cls) -> frozenset[Answer]:
        """The kinds of output of the model. A model of layers, without numerics, has no states at arbitrary times."""
        return cls.gives - {Answer.STATES} if cls.numerics is Numerics.NONE else cls.gives

    @classmethod
    def answer_times(cls) -> frozenset[AnswerTimes]:
        """The times at which it has outputs about a series."""
        if not cls.of_series:
            known = cls.numerics is Numerics.SOLVER  # the true solution, whatever rows were read
            return frozenset(AnswerTimes) if known else frozenset({AnswerTimes.END, AnswerTimes.ANY})
        return frozenset({AnswerTimes.END, *[AnswerTimes.ROWS] * cls.at_every_row})

    @classmethod
    def unused_axes(cls) -> tuple[str, ...]:
        """The axes (groups of choices) that the model ignores."""
        if inspect.getattr_static(cls, "numerics", None) is None:
            raise RefusedInput(
                f"{cls.__name__} does not say what it needs of numerics: numerics = Numerics.ANY, from "
                "ode_runner.models.base, where it takes any solver."
            )
        unused = UNUSED_AXES.get(cls.numerics, () if cls.objective.solves else ("gradient",))
        return unused if cls.uses_network else (*unused, "network")

    @classmethod
    def reads_network(cls, options: Mapping[str, Any]) -> bool:
        """Whether a model with these options uses anything of its network."""
        del options
        return "network" not in cls.unused_axes()

    def unused_options(self) -> Mapping[str, str]:
        """Options without effect, given the values of the others, each with the reason as a clause."""
        return {}

    def introduction(self) -> Iterator[str]:
        """Sentences about the training of this model, printed before it."""
        yield from ()

    @abc.abstractmethod
    def evolve(self, y0: Encoding, ts: Times, integrate: Integrate) -> Solution:
        """The solution at `ts`, as `integrate` returns it.

        A model without a solve returns Solution(ys=states). `y0` is the result of `encode`; the states of an augmented
        model are larger than `y0.y0`.
        """

    def forward(self, inputs: Tensor, ts: Times, integrate: Integrate) -> Outputs:
        """The outputs, read from the last state, or from the state at each time."""
        version = None if inputs.is_inference() else inputs._version
        encoding = self.encode(inputs)
        values = self.decode(encoding, ts, integrate)
        if version is not None and inputs._version != version:
            raise RefusedInput(
                f"{type(self).__name__} writes into its inputs, as y0.mul_() or a layer with inplace=True at the "
                "beginning of the stem do, and the data would change with them. Write into inputs.clone()."
            )
        return Outputs(values=values, terms=encoding.terms)

    def encode(self, inputs: Tensor) -> Encoding:
        """The initial state, at the first time, and further arguments of the field."""
        encoding = self.stem(inputs)
        return encoding if isinstance(encoding, Encoding) else Encoding(encoding)

    def decode(self, encoding: Encoding, ts: Times, integrate: Integrate) -> Tensor:
        """Output values from the encoding of the inputs."""
        return self.read(self.states(encoding, ts, integrate))

    def read(self, states: Trajectory) -> Tensor:
        """Output values from states at the times of a batch."""
        if not self.every_time:
            return self.head(states[-1])
        outputs = self.head(states.flatten(0, 1))
        return outputs.unflatten(0, states.shape[:2])

    def path(self, encoding: Encoding, ts: Times, integrate: Integrate, *, times: int) -> PathStates:
        """About `times` states through depth, from the first of `ts` to the last, for pictures."""
        span = torch.linspace(float(ts[0]), float(ts[-1]), times, dtype=ts.dtype, device=ts.device)
        return self.states(encoding, span, integrate)

    @final
    def solution(self, encoding: Encoding, ts: Times, integrate: Integrate) -> Solution:
        """The result of `evolve`: the states at `ts`, with events and integrals.

        Raises:
            RefusedInput: `evolve` does not return a Solution.
        """
        solution = self.evolve(encoding, ts, integrate)
        if not isinstance(solution, Solution):
            raise RefusedInput(
                f"{type(self).__name__}.evolve returned a {type(solution).__name__}, and a model returns the Solution "
                "that integrate(field, y0, ts) gives, whose states are its `ys`. Return Solution(ys=states), from "
                "ode_runner.problem."
            )
        if len(solution.ys) != len(ts):
            raise RefusedInput(
                f"{type(self).__name__}.evolve returned states {tuple(solution.ys.shape)} for {len(ts)} times: "
                "they are (time, batch, *state), also where only the last are read."
            )
        return solution

    @final
    def states(self, encoding: Encoding, ts: Times, integrate: Integrate) -> Trajectory:
        """The states at `ts`, (time, batch, *state)."""
        return self.solution(encoding, ts, integrate).ys

    def numbers(self) -> dict[str, float]:
        """Learned quantities with names, such as coefficients; reported as test/<name>."""
        return {}

    def check_times(self, ts: Times) -> None:
        """Raises RefusedInput if the model cannot be trained with data at these times; called before training."""
        del ts

    def check_new_series(self) -> None:
        """Raises IncompatibleChoice if the model has parameters for each training series, which a new series lacks."""

    def initialise(self, inputs: Tensor) -> None:
        """Set weights from the first batch of training, before the first step, if `initialised_by_data`."""
        del inputs

    def remarks(self, inputs: Tensor) -> Iterator[str]:
        """Sentences about the trained model that the user should not overlook, given some inputs."""
        del inputs
        yield from ()

    def figures(self, inputs: Tensor) -> Iterator[tuple[str, Picture]]:
        """Pictures of the trained model besides its outputs, by file name without extension."""
        del inputs
        yield from ()

    def generator(self) -> Generator | None:
        """The generator of samples from noise; None for a model that does not generate."""
        return None

    def begin_step(self, progress: float) -> None:
        """Called before each training step; `progress` is the fraction of training that is done, from 0 to 1."""
        del progress

    def begin_test(self) -> None:
        """Called once after training, before the test and other evaluations."""

    def teacher_generator(self) -> Generator | None:
        """The generator of the teacher, if the model was distilled from another one; else None."""
        return None

    def learned_field(self) -> VectorField | None:
        """The field on the task's own state space, if that is what the model learns."""
        return None
