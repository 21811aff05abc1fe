"""`trainer.audit_every`: compares gradients of training steps with a reference at regular intervals."""

import torch

from ode_runner.analysis.derivative import check_reference, cosine, of_the_solution, relative_error
from ode_runner.batch import Batch
from ode_runner.devices.random_state import RandomState
from ode_runner.errors import RefusedInput
from ode_runner.experiment.experiment import Experiment
from ode_runner.recording.status import status_of

WARN_ABOVE = 0.1  # relative error of the gradient above which a run warns, once per session


class GradientMonitor:
    """Compares the gradient of every `every`-th training step with one in double precision.

    The reference is of the same solution, with the same steps: the difference is due to the gradient mode and to
    rounding, not to the solver. Evaluations are counted as diagnostics; weights, their gradient and random numbers are
    left unchanged. The cost is a solve and a whole gradient in double precision, and a copy of the model.
    """

    def __init__(self, experiment: Experiment, *, every: int | None) -> None:
        if every is not None:
            check_reference(experiment, asked="trainer.audit_every")
        self.experiment, self.every = experiment, every
        self._remarked, self._warning = False, ""

    def due(self, step: int) -> bool:
        """Whether the gradient of this step should be compared."""
        return self.every is not None and step % self.every == 0

    def compare(self, batch: Batch, random: RandomState, *, step: int) -> dict[str, float]:
        """`audit/cosine` and `audit/relative_error` of the parameters' `.grad`; empty if there is no reference.

        Args:
            batch: of the step.
            random: the random state before the step's forward pass.
            step: its number, for messages.
        """
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.experiment.parameters()]
        ours = torch.cat([part.detach().to(torch.float64).flatten() for part in parts])
        try:
            theirs = of_the_solution(self.experiment, batch, random).vector
        except (RefusedInput, RuntimeError, MemoryError) as error:  # not a reason to end the run
            self._warning = f"trainer.audit_every: no reference at step {step}. {status_of(error)[1]}"
            return {}
        off, angle = relative_error(ours, theirs), cosine(ours, theirs)
        if off > WARN_ABOVE:
            exact = self.experiment.integrator.gradient.exact
            cure = "trainer.precision=fp64" if exact else "a tighter tolerance or finer steps, or gradient=backprop"
            self._warning = f"the gradient is off by {off:.0%} (cosine {angle:.3f}) at step {step}. Try {cure}."
        return {"audit/cosine": angle, "audit/relative_error": off}

    def warning(self) -> str:
        """A message for the user, once per session, if a gradient was off or had no reference; else ""."""
        if self._remarked or not self._warning:
            return ""
        self._remarked = True
        return self._warning
