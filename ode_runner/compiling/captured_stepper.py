"""Steps of an adaptive solve on a GPU; each accepted step has a recording of its own."""

from collections.abc import Iterable
from typing import NamedTuple, final

from ode_runner.compiling.captured_function import CapturedFunction
from ode_runner.compiling.captured_steps import CapturedSteps, Recordings
from ode_runner.compiling.recorded_stepper import clock_of, first_size
from ode_runner.fields.counted_field import CountedField
from ode_runner.solvers.one_step import AcceptedStep, Step
from ode_runner.solvers.stepper import AdaptiveStepper, StepResult
from ode_runner.types import State

_OfAStep = list[tuple[Recordings, CapturedFunction]]  # recordings in use by a step, and where they are returned to


class Taken(NamedTuple):
    """An accepted step, and the recordings for its derivative."""

    interval: AcceptedStep
    y0: State
    step: CapturedFunction | None  # None: a step over no time
    end: CapturedFunction | None  # that has evaluated f(t1, y1), if the step did not


@final
class CapturedStepper(AdaptiveStepper):
    """Takes the steps of one solve. Each accepted step has a recording of its own.

    Args:
        steps: the recordings.
        field: evaluated eagerly if norms overflow; its ledger counts the evaluations.
        keeps: whether recordings of accepted steps are held for as long as this stepper lives.
        dense: whether there may be outputs within steps.
    """

    def __init__(self, steps: CapturedSteps, field: CountedField, *, keeps: bool, dense: bool) -> None:
        self.steps, self.field, self.keeps = steps, field, keeps
        self._recordings = steps.dense_step if keeps and dense else steps.step
        self.given = [z.detach() for z in field.given]
        self.taken: list[Taken] = []
        self.first: CapturedFunction | None = None  # that has evaluated the first slope
        self.evaluations = 0
        self._attempt: CapturedFunction | None = None
        self._end: CapturedFunction | None = None
        self._held: list[_OfAStep] = [[]]  # by step; the first entry is for what precedes the steps

    def __del__(self) -> None:
        self._release(self._held)

    def begin(self, t0: float, y0: State, *, span: float) -> tuple[State, float]:
        self.first, self.evaluations = self._take(self.steps.begin), self.evaluations + 2
        f0, norms = self.first(clock_of(t0, t0 + span, y0), y0, *self.given)
        return f0, first_size(self.steps.solver, self.field, t0, y0, f0, norms, span=span)

    def slope(self, t: float, y: State) -> State:
        recording, self.evaluations = self._take(self.steps.slope), self.evaluations + 1
        if self._attempt is None:
            self.first = recording
        else:
            self._end = recording
        [f] = recording(clock_of(t, t, y), y, *self.given)
        return f

    def step(self, t0: float, t1: float, y0: State, f0: State | None) -> StepResult:
        assert f0 is not None, "a pair knows the slope that a step begins with"
        self._attempt = self._attempt or self._take(self._recordings)  # a rejected attempt is overwritten
        y1, *rest, error = self._attempt(clock_of(t0, t1, y0), y0, f0, *self.given)
        tableau = self.steps.tableau
        f1 = rest.pop(0) if tableau.first_same_as_last else None
        self.evaluations += len(tableau.b) - 1
        return StepResult(y1, [f0, *rest], f1, float(error))

    def accept(self, step: Step) -> None:
        """Accept the last attempt as a step of the solution."""
        y0 = step.y0 if self.keeps else step.y0.clone()
        self.taken.append(Taken(step.interval, y0, self._attempt, self._end))
        self._attempt = self._end = None
        self._held.append([])
        if not self.keeps:  # the next step needs only the end of the last one
            self._release(self._held[:-2])
            self._held = self._held[-2:]

    def _take(self, recordings: Recordings) -> CapturedFunction:
        recording = recordings.take()
        self._held[-1].append((recordings, recording))
        return recording

    @staticmethod
    def _release(held: Iterable[_OfAStep]) -> None:
        for of_a_step in held:
            for recordings, recording in of_a_step:
                recordings.give_back(recording)
