"""A look at the gradient now and then while a run trains."""

import torch

from ode_runner.analysis.derivative import check_reference, cosine, of_the_solution, relative_error
from ode_runner.batch import Batch
from ode_runner.errors import RefusedInput
from ode_runner.experiment.experiment import Experiment
from ode_runner.random_state import RandomState
from ode_runner.recording.status import status_of

WORRYING = 0.1  # relative error of the gradient beyond which a run says so, once a session


class GradientMonitor:
    """Compares every so many steps the gradient that a run is about to follow with the one in double precision.

    The reference is of the same solution, along the same steps, so what is seen is what the gradient mode and rounding
    do, and not what the solver does. Evaluations are entered under diagnostics; weights, their gradient and random
    numbers are left as they are. Costs a solve and a whole gradient in double precision, and a copy of the model.
    """

    def __init__(self, experiment: Experiment, *, every: int | None) -> None:
        if every is not None:
            check_reference(experiment, asked="trainer.audit_every")
        self.experiment, self.every = experiment, every
        self._said, self._worry = False, ""

    def due(self, step: int) -> bool:
        """Whether the gradient of this step is to be compared."""
        return self.every is not None and step % self.every == 0

    def compare(self, batch: Batch, random: RandomState, *, step: int) -> dict[str, float]:
        """`audit/cosine` and `audit/relative_error` of the parameters' `.grad`, from random numbers as they were."""
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.experiment.parameters()]
        ours = torch.cat([part.detach().to(torch.float64).flatten() for part in parts])
        try:
            theirs = of_the_solution(self.experiment, batch, random).vector
        except (RefusedInput, RuntimeError, MemoryError) as error:  # no reason to end a run that is well otherwise
            self._worry = f"trainer.audit_every: no reference at step {step}. {status_of(error)[1]}"
            return {}
        off, angle = relative_error(ours, theirs), cosine(ours, theirs)
        if off > WORRYING:
            exact = self.experiment.integrator.gradient.exact
            cure = "trainer.precision=fp64" if exact else "a tighter tolerance or finer steps, or gradient=backprop"
            self._worry = f"the gradient is off by {off:.0%} (cosine {angle:.3f}) at step {step}. Try {cure}."
        return {"audit/cosine": angle, "audit/relative_error": off}

    def warning(self) -> str:
        """A sentence for the person if there is cause, the first time only."""
        if self._said or not self._worry:
            return ""
        self._said = True
        return self._worry
