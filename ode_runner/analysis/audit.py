"""Every gradient mode on the same weights and the same batch, against references in double precision."""

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
from ode_runner.analysis.independent import IndependentJacobians
from ode_runner.batch import Batch, Split
from ode_runner.errors import RefusedInput
from ode_runner.experiment.experiment import Cell
from ode_runner.gradients.base import GradientMode
from ode_runner.random_state import RandomState
from ode_runner.recording.status import verdict

REPEATS = 5  # timed, after one that is not


@dataclass(frozen=True, kw_only=True)
class References:
    """What gradients are compared with: backpropagation in double precision, of two solutions.

    `solution` is the gradient of the numerical solution as such: same solver, same steps. An exact mode differs from
    it by rounding. `flow` is the gradient of what the solver approximates: it is refined twice. How far the two
    refinements are apart, `flow_uncertainty`, says how good that is.
    """

    solution: Derivative
    flow: Derivative | None
    flow_uncertainty: float  # relative; NaN without a flow
    flow_missing: str = ""  # why there is none


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What came of one gradient mode: NaN where it was refused, or failed, for `reason`."""

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
    saved_bytes: int | None = 0  # None: torch does not allow to measure them
    milliseconds: float = torch.nan


class Audit:
    """One batch, one set of weights, one solver; any number of gradient modes.

    Random numbers are the same for all: a stem or field that draws some has to draw them in a type of its own
    choosing, not the state's, or the references are of another loss.
    """

    def __init__(self, cell: Cell, *, reference: GradientMode) -> None:
        self.cell, self.reference = cell, reference
        options = cell.options
        stored = next(cell.task.batches(Split.TRAIN, batch_size=options.batch_size, epoch=0))
        self.batch: Batch = stored.to(cell.dtype)  # rounded once, for the references as well
        self.random = RandomState.now(cell.device)
        self.references = self._references()

    def findings(self, modes: Mapping[str, GradientMode | str]) -> Iterator[Finding]:
        """One for each mode, by name; a text in the place of a mode is why it is not admissible."""
        for name, mode in modes.items():
            if isinstance(mode, str):
                yield Finding(mode=name, reason=mode)
                continue
            try:
                yield self._measured(name, mode)
            except (RefusedInput, RuntimeError, MemoryError) as error:  # of one mode, which must not cost the others
                yield Finding(mode=name, reason=verdict(error)[1])

    def reference_finding(self) -> Finding:
        """The numerical solution's gradient in double precision: its distance from the flow's is the solver's doing."""
        finding = self._compared("double precision", self.references.solution)
        finding = replace(finding, solution_cosine=torch.nan, solution_error=torch.nan)
        return replace(finding, exact=True, nfe_forward=0)  # its steps were chosen by another solve

    def _references(self) -> References:
        solution = of_the_solution(self.cell, self.batch, self.random)
        try:
            once, flow = self._in_double(refinements=1), self._in_double(refinements=2)
        except RuntimeError as error:  # finer steps reach where the solver stops, or the memory ends
            reason = verdict(error)[1]
            return References(solution=solution, flow=None, flow_uncertainty=torch.nan, flow_missing=reason)
        uncertainty = relative_error(once.vector, flow.vector)
        return References(solution=solution, flow=flow, flow_uncertainty=uncertainty)

    def _in_double(self, *, refinements: int) -> Derivative:
        solver = self.cell.integrator.solver
        for _ in range(refinements):
            solver = solver.refined()
        independent = IndependentJacobians(mode=self.reference)
        return differentiate(in_double(self.cell, solver=solver, gradient=independent), self.batch, self.random)

    def _measured(self, name: str, mode: GradientMode) -> Finding:
        cell = replace(self.cell, integrator=replace(self.cell.integrator, gradient=mode))
        found = differentiate(cell, self.batch, self.random, measure_memory=True)
        milliseconds = 1000 * self._seconds(cell)
        return replace(
            self._compared(name, found), exact=mode.exact, saved_bytes=found.saved_bytes, milliseconds=milliseconds
        )

    def _compared(self, name: str, found: Derivative) -> Finding:
        solution, flow = self.references.solution.vector, self.references.flow
        return Finding(
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

    def _seconds(self, cell: Cell) -> float:
        """Median time of a whole gradient."""
        taken = []
        for _ in range(REPEATS):
            _wait_for(cell.device)
            begun = time.perf_counter()
            differentiate(cell, self.batch, self.random)
            _wait_for(cell.device)
            taken.append(time.perf_counter() - begun)
        return statistics.median(taken)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
