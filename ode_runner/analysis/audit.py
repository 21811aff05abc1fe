"""Audits: all gradient modes on the same weights and batch, compared with references in double precision."""

import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch

from ode_runner.analysis.derivative import (
    Derivative,
    cosine,
    differentiate,
    in_double,
    of_the_solution,
    relative_error,
)
from ode_runner.analysis.independent_jacobians import IndependentJacobians
from ode_runner.batch import Batch, Split
from ode_runner.devices.random_state import RandomState
from ode_runner.errors import RefusedInput
from ode_runner.experiment.experiment import Experiment
from ode_runner.gradients.base import GradientMode
from ode_runner.recording.status import status_of

REPEATS = 5  # timed repetitions, after an untimed one


@dataclass(frozen=True, kw_only=True)
class References:
    """The reference gradients of an audit: backpropagation in double precision, for two solutions.

    `solution` is the gradient of the numerical solution itself: same solver, same steps. An exact mode differs from it
    only by rounding. `flow` is the gradient of the flow that the solver approximates, computed with two refinements.
    The difference between one and two refinements, `flow_uncertainty`, is an estimate of its error.
    """

    solution: Derivative
    flow: Derivative | None
    flow_uncertainty: float  # relative; NaN without a flow
    flow_missing: str = ""  # the reason if `flow` is None


@dataclass(frozen=True, kw_only=True)
class ModeResult:
    """Errors and cost of one gradient mode; NaN if it was refused or failed, with the `reason`."""

    mode: str
    reason: str = ""
    exact: bool = False
    loss: float = torch.nan
    solution_cosine: float = torch.nan
    solution_error: float = torch.nan
    flow_cosine: float = torch.nan
    flow_error: float = torch.nan
    nfe_forward: float = 0
    nfe_backward: float = 0
    accepted: int = 0
    rejected: int = 0
    saved_bytes: int | None = 0  # None: torch cannot measure them
    milliseconds: float = torch.nan


class Audit:
    """Compares gradient modes on one batch, one set of weights and one solver.

    Random numbers are the same for all modes. A stem or field that draws some must do so in a fixed dtype, not the
    state's: otherwise the references are of another loss.
    """

    def __init__(self, experiment: Experiment, *, reference: GradientMode) -> None:
        self.experiment, self.reference = experiment, reference
        options = experiment.options
        stored = next(experiment.task.batches(Split.TRAIN, batch_size=options.batch_size, epoch=0))
        self.batch: Batch = stored.to(experiment.dtype)  # rounded once, so that the references see the same
        self.random = RandomState.now(experiment.device)
        self.references = self._references()

    def results(self, modes: Mapping[str, GradientMode | str]) -> Iterator[ModeResult]:
        """A result for each mode, by name; a string in place of a mode is the reason why it is not admissible."""
        for name, mode in modes.items():
            if isinstance(mode, str):
                yield ModeResult(mode=name, reason=mode)
                continue
            try:
                yield self._measured(name, mode)
            except (RefusedInput, RuntimeError, MemoryError) as error:  # the failure of one mode must not stop others
                yield ModeResult(mode=name, reason=status_of(error)[1])

    def reference_result(self) -> ModeResult:
        """The numerical solution's gradient in double precision; its error against the flow's is the solver's."""
        result = self._compared("double precision", self.references.solution)
        result = replace(result, solution_cosine=torch.nan, solution_error=torch.nan)
        return replace(result, exact=True, nfe_forward=0)  # another solve chose its steps

    def _references(self) -> References:
        solution = of_the_solution(self.experiment, self.batch, self.random)
        try:
            once, flow = self._in_double(refinements=1), self._in_double(refinements=2)
        except RuntimeError as error:  # a finer solve exceeds the solver's step limit or the memory
            reason = status_of(error)[1]
            return References(solution=solution, flow=None, flow_uncertainty=torch.nan, flow_missing=reason)
        uncertainty = relative_error(once.vector, flow.vector)
        return References(solution=solution, flow=flow, flow_uncertainty=uncertainty)

    def _in_double(self, *, refinements: int) -> Derivative:
        solver = self.experiment.integrator.solver
        for _ in range(refinements):
            solver = solver.refined()
        independent = IndependentJacobians(mode=self.reference)
        return differentiate(in_double(self.experiment, solver=solver, gradient=independent), self.batch, self.random)

    def _measured(self, name: str, mode: GradientMode) -> ModeResult:
        experiment = replace(self.experiment, integrator=replace(self.experiment.integrator, gradient=mode))
        found = differentiate(experiment, self.batch, self.random, measure_memory=True)
        milliseconds = 1000 * self._seconds(experiment)
        return replace(
            self._compared(name, found), exact=mode.exact, saved_bytes=found.saved_bytes, milliseconds=milliseconds
        )

    def _compared(self, name: str, found: Derivative) -> ModeResult:
        solution, flow = self.references.solution.vector, self.references.flow
        return ModeResult(
            mode=name,
            loss=found.loss,
            solution_cosine=cosine(found.vector, solution),
            solution_error=relative_error(found.vector, solution),
            flow_cosine=cosine(found.vector, flow.vector) if flow else torch.nan,
            flow_error=relative_error(found.vector, flow.vector) if flow else torch.nan,
            nfe_forward=found.forward.evaluations,
            nfe_backward=found.backward.evaluations,
            accepted=found.forward.accepted,
            rejected=found.forward.rejected,
        )

    def _seconds(self, experiment: Experiment) -> float:
        """The median time of a whole gradient in seconds, over REPEATS."""
        taken = []
        for _ in range(REPEATS):
            _wait_for(experiment.device)
            begun = time.perf_counter()
            differentiate(experiment, self.batch, self.random)
            _wait_for(experiment.device)
            taken.append(time.perf_counter() - begun)
        return statistics.median(taken)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
