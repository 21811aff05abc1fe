"""A batch of data, what a model answers to it, and what a network must know of a task before it can be built."""

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
    """Parts of the data. The test split is touched once, at the end of a run."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


class Answer(StrEnum):
    """What a task may need of a model, and a model may give, in words."""

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
    """When answers about a series are wanted, in words."""

    END = "an answer at the end of a series"
    ROWS = "an answer at every row from no later one"
    ANY = "states at other times than those of its rows"


@dataclass(frozen=True, kw_only=True)
class Drive:
    """External inputs of a system, such as a control, measured at times of their own.

    In a batch, `inputs` have the knots of each behind the state and the number of its series: (columns, knots, 2), time
    and value.
    """

    columns: int
    held: bool  # True: constant from knot to knot; False: linear between two knots


@dataclass(frozen=True, kw_only=True)
class TaskSpec:
    """What a network must know of a task before it can be built."""

    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    every_time: bool = False  # outputs are wanted at each of the batch's times, not at the last alone
    autonomous: bool = False  # the rule to be learned does not change with time
    state_itself: bool = False  # outputs are the state itself: a head that is learned would change the question
    span: tuple[float, float] | None = None  # first and last of all times that are asked for, where that is known
    condition: int = 0  # how many numbers behind those of an input are a condition, on which a density depends
    std: float = 1.0  # of the numbers of an input in the training split
    sequence: bool = False  # inputs are series: rows of an observation, its time, and 1, or 0 for padding
    duration: float = 1.0  # of the longest series that is learned from, first row to last, where inputs are series
    blanks: bool = False  # some numbers of an observation of a series may be missing: they are NaN
    causal: bool = False  # an answer is wanted at each row of a series (times are row numbers), from no later row
    series: int = 0  # how many series there are, one of whose numbers an input has behind the state; 0: it has none
    whole_series: bool = False  # every solve begins at the first row of its series
    drive: Drive | None = None  # external inputs, which an input has behind the number of its series
    field: VectorField | None = None  # the true field, where it is known
    stem: nn.Module | None = None  # from inputs to the initial state of the true field; None: an input is that state
    head: nn.Module | None = None  # from states of the true field to outputs; None: the state itself
    event: Event | None = None  # along the true field, where there is one
    path: BrownianPath | None = None  # the noise of each sample, where the true field is stochastic
    sampled: tuple[float, float] | None = None  # first and last time of a solve of the true field from noise to data
    noise_seed: int | None = None  # of the noise that drives the true field, where there is some
    tokens: int = 0  # inputs are sequences of whole numbers below this one, the size of a vocabulary; 0: they are not

    @property
    def answer_times(self) -> AnswerTimes:
        """When answers are wanted about a series."""
        return AnswerTimes.ROWS if self.causal else AnswerTimes.ANY if self.every_time else AnswerTimes.END

    @property
    def conditioned_shape(self) -> tuple[int, ...]:
        """The shape of an input with its condition or the number of its series behind it; without knots of a drive."""
        behind = self.condition + (self.series > 0)
        return (math.prod(self.input_shape) + behind,) if behind else self.input_shape

    def checked(self, inputs: Tensor) -> Tensor:
        """Inputs as whole numbers where they are tokens; otherwise as they are.

        Raises:
            RefusedInput: one of them is no token, or a sequence has no row.
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

    def parted(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs (batch, *conditioned_shape) as data (batch, *input_shape) and conditions (batch, condition)."""
        data, condition = inputs.flatten(1).tensor_split([math.prod(self.input_shape)], dim=1)
        return data.unflatten(1, self.input_shape), condition


class Batch(NamedTuple):
    """What one step learns from."""

    inputs: Tensor  # (batch, *conditioned_shape)
    ts: Times  # the task owns time: output times of a trajectory, or [0, 1] for a classifier
    targets: Tensor  # (batch, ...), or (time, batch, ...) where outputs are wanted at every time
    observed: Tensor | None = None  # bool, (time, batch) or as targets: where these are known; None: everywhere
    part: str = ""  # which of several questions the test split asks
    weights: Mapping[str, float] = MappingProxyType({})  # of terms that the model adds to the loss, where not 1
    event_times: Tensor | None = None  # (event, batch), where events are asked for; NaN after a sample's last
    numbers: Tensor | None = None  # (batch,), whole: by which the samples' noise is known; None: their places

    def to(self, dtype: torch.dtype) -> "Batch":
        """The batch with inputs, times and targets in a floating point type; classes and other whole numbers stay."""
        parts = [("inputs", self.inputs), ("targets", self.targets), ("event_times", self.event_times)]
        floating = [(name, x) for name, x in parts if x is not None and x.is_floating_point()]
        others: dict[str, Any] = {name: x.to(dtype) for name, x in floating if x.dtype != dtype}
        if self.ts.dtype != dtype:
            others["ts"] = times_in(self.ts, dtype)
        return self._replace(**others) if others else self

    def rows(self, own: slice, *, every_time: bool) -> "Batch":
        """The batch of some of its samples. `every_time`: targets are (time, batch, ...)."""
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
    """What a model answers."""

    values: Tensor  # (batch, *output_shape), or (time, batch, *output_shape) where wanted at every time
    terms: Mapping[str, Tensor] = MappingProxyType({})  # (batch,) each: what the model adds to the loss, by name
    events: Events | None = None  # of the solve, where there may be some

    def cpu(self) -> "Outputs":
        """The same on the CPU."""
        events = None if self.events is None else Events(*(part.cpu() for part in self.events))
        return Outputs(self.values.cpu(), {name: term.cpu() for name, term in self.terms.items()}, events)


class Drawn(NamedTuple):
    """Samples of a density."""

    path: Trajectory  # (time, sample, *shape), from the base law to the data
    log_density: Tensor | None  # (sample,), nats, of the last; None where sampling does not tell it
    evaluations: float | None = None  # of the field for a batch of them; None where they were not counted
