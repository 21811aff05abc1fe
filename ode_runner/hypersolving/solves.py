"""The solves of a trained model in double precision, by any solver, and what they reach."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

from ode_runner.batch import Split
from ode_runner.devices.random_state import RandomState
from ode_runner.errors import IncompatibleChoice
from ode_runner.experiment.experiment import Experiment
from ode_runner.experiment.meters import Means
from ode_runner.experiment.signals import StopRequest
from ode_runner.fields.counted_field import CountedField, uncounted
from ode_runner.fields.ledger import Phase
from ode_runner.gradients.base import GradientMode
from ode_runner.hypersolving.residuals import MeasureResiduals, RecordStates, Residuals, joined
from ode_runner.integrator import Integrator
from ode_runner.solvers.base import Solver
from ode_runner.solvers.explicit.dopri5 import Dopri5
from ode_runner.solvers.explicit.rk4 import RK4
from ode_runner.solvers.runge_kutta import FixedStepRungeKutta
from ode_runner.tasks.sampled import SampledTask
from ode_runner.types import Trajectory

SHARE = 1e-3  # the tolerance of accurate solves, as a share of the error of the classical method
TOLERANCES = (1e-10, 1e-5)  # its least and largest values: near a kink of a field, small ones take very many steps


class Measured(NamedTuple):
    """What a solver reaches on the test split."""

    nfe: float  # evaluations per batch, with the cost of corrections
    error: float  # mean distance of states from accurate ones, over samples and output times after the first
    objective: float | None  # the task's metric; None: there is none of these samples


@dataclass(frozen=True, kw_only=True)
class Solves:
    """The solves for `samples` samples of a split, or for as many generated ones if the model learns without a solve.

    `experiment` has a trained model in double precision; its integrator is not used.
    """

    experiment: Experiment
    samples: int

    def accurate(self, base: FixedStepRungeKutta, factor: float) -> Dopri5:
        """A solver whose error is small beside that of the classical method with `factor` times the steps of `base`.

        That error is estimated on the test split by halving these steps.
        """
        [steps, half] = (RK4(num_steps=None, step_size=base.size / factor / parts) for parts in (1, 2))
        error = _apart(self.states(steps), self.states(half))
        least, largest = TOLERANCES
        tolerance = min(max(SHARE * error, least), largest) if math.isfinite(error) else largest
        return Dopri5(rtol=tolerance, atol=tolerance, max_steps=100_000, per_sample=False)

    def residuals(self, methods: Sequence[FixedStepRungeKutta], accurate: Solver) -> tuple[Residuals, CountedField]:
        """The residuals of the steps of methods along solutions by `accurate` of the training split, and their field.

        Raises:
            IncompatibleChoice: the solves have integrals, or several fields.
        """
        mode = MeasureResiduals(methods=methods)
        self._pass(accurate, mode, Split.TRAIN)
        if len({id(uncounted(field)) for field in mode.fields}) > 1:
            raise IncompatibleChoice(
                "hypersolve= fits a correction to one field, and this model solves several, one after another. Name a "
                "run of model=odenet, say."
            )
        return joined(mode.found), mode.fields[-1]

    def states(self, solver: Solver) -> list[Trajectory]:
        """The states of every solve on the test split."""
        mode = RecordStates()
        self._pass(solver, mode, Split.TEST)
        return mode.found

    def measure(self, solver: Solver, accurate: Sequence[Trajectory]) -> Measured:
        """What a solver reaches on the test split, whose accurate states are given."""
        mode = RecordStates()
        results = self._pass(solver, mode, Split.TEST)
        return Measured(results["nfe"], _apart(mode.found, accurate), results.get(self.experiment.task.objective))

    def _pass(self, solver: Solver, mode: GradientMode, split: Split) -> dict[str, float]:
        """Metrics and evaluations per batch of a split by a solver; random numbers are the same for every solver."""
        experiment = replace(
            self.experiment,
            objective=self.experiment.model.objective,  # without the integrals of regularisers
            integrator=Integrator(solver=solver, gradient=mode),
        )
        generates = experiment.model.generator() is not None and not experiment.model.objective.solves
        with RandomState.now(experiment.device).again(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that steps are too long for training: this is what is compared
            if generates:
                return self._generate(experiment, split)
            return experiment.evaluate(split, StopRequest(), most=self.samples)

    @torch.no_grad()
    def _generate(self, experiment: Experiment, split: Split) -> dict[str, float]:
        """Evaluations per batch of generated samples: those of the test metrics, or others in place of training."""
        experiment.model.eval()
        begin = 0 if split is Split.TEST else self.samples
        task, numbers, evaluations = experiment.task, torch.arange(begin, begin + self.samples), Means()
        conditions = task.given(2 * self.samples) if isinstance(task, SampledTask) else []
        for part in numbers.split(experiment.options.eval_batch_size):
            with experiment.integrator.ledger.phase(Phase.SAMPLING) as tally:
                experiment.generate(part, given=[z[part.to(z.device)] for z in conditions])
            evaluations.add({"nfe": tally.evaluations})
        return evaluations.read()


def _apart(ours: Sequence[Trajectory], theirs: Sequence[Trajectory]) -> float:
    """The mean distance of states, over samples and output times after the first."""
    apart = [(one - other)[1:].flatten(2).norm(dim=2) for one, other in zip(ours, theirs, strict=True)]
    return float(torch.cat([each.flatten() for each in apart]).mean())
