"""A batch of data, a model's outputs for it, and what a network must know about a task before it can be built."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ode_runner.devices.transfer import times_in
from ode_runner.errors import RefusedInput
from ode_runner.event import Event, Events
from ode_runner.field import VectorField
from ode_runner.noise.brownian_path import BrownianPath
from ode_runner.types import Times, Trajectory


class Split(StrEnum):
    """Parts of the data. The test split is used once, at the end of a run."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


class Answer(StrEnum):
    """The kinds of output that a task may need and a model may give; the values appear in messages."""

    VALUES = "values"
    LOG_DENSITY = "a log density"
    SAMPLES = "samples"
    TOKENS = "sequences of tokens"
    STATES = "states at any time"
    PATHS = "sample paths of a stochastic equation"
    TRUTH = "the solution of the task's own field"
    EQUATION = "a solution of the task's own equation"
    EVENTS = "times of events"


class AnswerTimes(StrEnum):
    """The times at which a task asks for outputs about a series; the values appear in messages."""

    END = "an answer at the end of a series"
    ROWS = "an answer at every row from no later one"
    ANY = "states at other times than those of its rows"


@dataclass(frozen=True, kw_only=True)
class Learner:
    """What a task knows about the model whose metrics it comments on."""

    learns: bool = True  # False: it has no parameters, so that errors are the solver's
    by_solves: bool = True  # its loss depends on solves, whose errors training may exploit
    joins_tokens: bool = True  # it can learn that tokens depend on each other
    samples_by_steps: bool = True  # shorter steps of a solver would make its samples better
    finer: str = "a smaller tolerance, or more steps"  # what makes the error of its solver smaller


LEARNER = Learner()


@dataclass(frozen=True, kw_only=True)
class Drive:
    """External inputs of a system, such as a control signal, each measured at its own times.

    In a batch, each row of `inputs` holds the state, then the number of its series, then the knots of every external
    input: (columns, knots, 2), time and value.
    """

    columns: int
    held: bool  # True: constant from knot to knot; False: linear between two knots


@dataclass(frozen=True, kw_only=True)
class TaskSpec:
    """What a network must know about a task before it can be built."""

    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    every_time: bool = False  # True: outputs at all of the batch's times; False: at the last one only
    autonomous: bool = False  # the rule to be learned does not change with time
    state_itself: bool = False  # outputs are the state itself: a learned head would change the question
    span: tuple[float, float] | None = None  # the first and last time of all that are asked for; None: unknown
    condition: int = 0  # length of the condition of a conditional density, which follows the numbers of an input
    std: float = 1.0  # standard deviation of the inputs' numbers in the training split
    sequence: bool = False  # inputs are series; a row holds an observation, its time, and 1 (0 for padding)
    duration: float = 1.0  # if inputs are series: the longest time from first to last row in the training data
    blanks: bool = False  # numbers in a row of a series may be missing (NaN)
    causal: bool = False  # outputs at each row of a series, from this and earlier rows only; times are row numbers
    series: int = 0  # number of series; the index of its series follows the state in each input; 0: no such index
    whole_series: bool = False  # every solve begins at the first row of its series
    drive: Drive | None = None  # external inputs; their knots follow the index of the series in each input
    field: VectorField | None = None  # the true field, if it is known
    stem: nn.Module | None = None  # maps inputs to the initial state of the true field; None: the input is that state
    head: nn.Module | None = None  # maps states of the true field to outputs; None: the output is the state
    event: Event | None = None  # the event of the true field, if it has one
    path: BrownianPath | None = None  # the noise of each sample, if the true field is stochastic
    sampled: tuple[float, float] | None = None  # first and last time of a solve of the true field from noise to data
    noise_seed: int | None = None  # seed of the noise that drives the true field, if there is noise
    tokens: int = 0  # size of the vocabulary, if inputs are sequences of tokens (whole numbers below it); else 0

    @property
    def answer_times(self) -> AnswerTimes:
        """When outputs about a series are asked for."""
        return AnswerTimes.ROWS if self.causal else AnswerTimes.ANY if self.every_time else AnswerTimes.END

    @property
    def conditioned_shape(self) -> tuple[int, ...]:
        """The shape of an input followed by its condition or the index of its series, without the knots of a drive."""
        behind = self.condition + (self.series > 0)
        return (math.prod(self.input_shape) + behind,) if behind else self.input_shape

    def checked(self, inputs: Tensor) -> Tensor:
        """The inputs, converted to int64 if they are tokens.

        Raises:
            RefusedInput: an input is not a valid token, or a series consists of padding only.
        """
        if self.sequence and bool((empty := (inputs[..., -1] <= 0).all(dim=1)).any()):
            raise RefusedInput(
                f"inputs: sequence {int(empty.int().argmax())} (from 0) has no row that is known. The last number of a "
                "row is 1, or 0 for padding; one at least must be 1."
            )
        if not self.tokens:
            return inputs
        if bool(((inputs != inputs.round()) | (inputs < 0) | (inputs >= self.tokens)).any()):
            raise RefusedInput(f"inputs must be whole numbers from 0 to {self.tokens - 1}, the tokens of this task.")
        return inputs.long()

    def split_condition(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Splits inputs (batch, *conditioned_shape) into data (batch, *input_shape), conditions (batch, condition)."""
        data, condition = inputs.flatten(1).tensor_split([math.prod(self.input_shape)], dim=1)
        return data.unflatten(1, self.input_shape), condition


class Batch(NamedTuple):
    """The data of one training step, or of one evaluation."""

    inputs: Tensor  # (batch, *conditioned_shape)
    ts: Times  # set by the task: output times of a trajectory, or [0, 1] for a classifier
    targets: Tensor  # (batch, ...), or (time, batch, ...) if outputs are asked for at every time
    observed: Tensor | None = None  # bool, (time, batch) or as targets: which targets are known; None: all
    part: str = ""  # name of the part, if the test split has several
    weights: Mapping[str, float] = MappingProxyType({})  # weights of the model's loss terms; 1 for those not named
    event_times: Tensor | None = None  # (event, batch), if events are asked for; NaN after a sample's last event
    numbers: Tensor | None = None  # (batch,), int64: key of each sample's noise; None: its position in the batch

    def to(self, dtype: torch.dtype) -> "Batch":
        """The batch with floating-point inputs, times and targets converted to `dtype`; integers stay as they are."""
        parts = [("inputs", self.inputs), ("targets", self.targets), ("event_times", self.event_times)]
        floating = [(name, x) for name, x in parts if x is not None and x.is_floating_point()]
        others: dict[str, Any] = {name: x.to(dtype) for name, x in floating if x.dtype != dtype}
        if self.ts.dtype != dtype:
            others["ts"] = times_in(self.ts, dtype)
        return self._replace(**others) if others else self

    def rows(self, own: slice, *, every_time: bool) -> "Batch":
        """A batch of the samples in the slice `own`. `every_time`: targets are (time, batch, ...)."""
        return self._replace(
            inputs=self.inputs[own],
            targets=self.targets[:, own] if every_time else self.targets[own],
            observed=None if self.observed is None else self.observed[:, own],
            event_times=None if self.event_times is None else self.event_times[:, own],
            numbers=None if self.numbers is None else self.numbers[own],
        )

    @property
    def even(self) -> bool:
        """Whether all samples have the same number of observations."""
        return self.observed is None or len(self.observed.movedim(1, 0).flatten(1).sum(dim=1).unique()) < 2

    def cpu(self) -> "Batch":
        """The same on the CPU."""
        tensors: dict[str, Any] = {name: x.cpu() for name, x in self._asdict().items() if isinstance(x, Tensor)}
        return self._replace(**tensors)


class Outputs(NamedTuple):
    """The outputs of a model."""

    values: Tensor  # (batch, *output_shape), or (time, batch, *output_shape) if asked for at every time
    terms: Mapping[str, Tensor] = MappingProxyType({})  # (batch,) each: terms that the model adds to the loss, by name
    events: Events | None = None  # the events of the solve; None: no event was looked for

    def cpu(self) -> "Outputs":
        """The same on the CPU."""
        events = None if self.events is None else Events(*(part.cpu() for part in self.events))
        return Outputs(self.values.cpu(), {name: term.cpu() for name, term in self.terms.items()}, events)


class Drawn(NamedTuple):
    """Samples of a density."""

    path: Trajectory  # (time, sample, *shape), from the base distribution to the data
    log_density: Tensor | None  # (sample,), nats, at the last time; None if sampling does not give it
    evaluations: float | None = None  # evaluations of the field for one batch of samples; None if not counted
