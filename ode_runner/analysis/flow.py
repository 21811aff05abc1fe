"""Diagnostics of a model's flow: stiffness, growth of perturbations, reversibility, gradients along it."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch
from torch import Tensor

from ode_runner.analysis.diagnostics import PeriodicDiagnostics
from ode_runner.analysis.spectrum import largest_singular_value, ritz_values
from ode_runner.analysis.trajectory_probe import ProbeTrajectory, TrajectoryProbe
from ode_runner.batch import Split
from ode_runner.devices.random_state import RandomState
from ode_runner.errors import RefusedInput
from ode_runner.experiment.experiment import Experiment
from ode_runner.fields.ledger import Phase
from ode_runner.fields.structured_field import slope_of
from ode_runner.integrator import Integrator
from ode_runner.models.base import Model, Numerics
from ode_runner.solvers.implicit.jacobian import JacobianProducts, differentiated_further
from ode_runner.solvers.tableau import time_tensor


@final
@dataclass(frozen=True, kw_only=True)
class FlowDiagnostics(PeriodicDiagnostics):
    """Measures the first solve of a model, on the first `samples` validation samples, at `places` times.

    This is done after the first epoch, every `every` epochs, and after the last.

    From the eigenvalues of the field's Jacobian, by Arnoldi's method with `products` products (see `ritz_values` for
    its limits), the largest over times and samples: `spectral_radius` and `largest_real_part`, per unit of time;
    `stiffness`, the fastest decay rate times the time span.

    From the Jacobian J of the flow map, by products with J^T J, as a mean of logarithms over samples: `growth`, the
    largest factor by which neighbouring states separate; `lyapunov_exponent`, its logarithm per unit of time, the
    finite-time exponent of the fastest direction. They are exact if a state has at most `products` elements, and
    otherwise lower bounds, from half as many products.

    `drift`: the error of the initial state after a backward solve, relative to its norm; NaN if that solve fails. Ito's
    equations, which are not solved backwards, have none. Stochastic equations are measured along the noise of their
    samples, and eigenvalues are those of the drift in the field's own calculus.
    `gradient_norm_<percent>`: |dL/dy(t)| over the batch at these times. `gradient_ratio`: the first of these norms
    divided by the last; with outputs at every time it includes what each of them adds. These and `growth` are NaN if
    the solver keeps no graph. `rejected_share`: the share of rejected steps.

    Hairer, Wanner. Solving Ordinary Differential Equations II. Springer 1996, IV.2. Benettin and others. Lyapunov
    characteristic exponents. Meccanica 15, 1980.
    """

    absent: ClassVar[str] = (
        "diagnostics=flow measures nothing here: training makes no solve. For the layers of model=resnet and "
        "ode_transformer use diagnostics=depth."
    )
    least: ClassVar[dict[str, int]] = {"every": 1, "samples": 1, "places": 2, "products": 1}
    samples: int
    places: int
    products: int

    @classmethod
    def takes(cls, model: type[Model]) -> bool:
        return model.numerics is not Numerics.NONE and model.objective.solves

    def measure(self, experiment: Experiment, *, epoch: int) -> dict[str, float]:
        del epoch
        ledger = experiment.integrator.ledger
        batch = next(experiment.task.batches(Split.VALIDATION, batch_size=self.samples, epoch=0)).to(experiment.dtype)
        probing = ProbeTrajectory(places=self.places)
        integrator = Integrator(solver=experiment.integrator.solver, gradient=probing, ledger=ledger)
        integrate = replace(experiment, integrator=integrator).integrate(len(batch.inputs), batch.numbers)
        experiment.model.eval()
        random = RandomState.now(experiment.device)
        with torch.enable_grad(), ledger.phase(Phase.DIAGNOSTICS), random.again(), differentiated_further():
            try:
                loss = experiment.model.objective.loss(experiment.model, experiment.task, batch, integrate).total
            except (RuntimeError, MemoryError):  # only this solve failed: the run's own may succeed
                return {f"diagnostics/{name}": math.nan for name in (*self._names(), "drift")}
            if not probing.probes:
                return {}
            found = self.about(probing.probes[0], loss)
        return {f"diagnostics/{name}": value for name, value in found.items()}

    def about(self, probe: TrajectoryProbe, loss: Tensor) -> dict[str, float]:
        """The measurements of one solve, by their names without `diagnostics/`."""
        graph = probe.solver.differentiable  # else derivatives of later states would all be zero
        norms = _or_nan(lambda: _gradient_norms(probe, loss), count=self.places, known=graph)
        radius, rightmost, decay = _or_nan(lambda: self._spectrum(probe), count=3)
        [exponent] = _or_nan(lambda: [_lyapunov_exponent(probe, products=self.products)], count=1, known=graph)
        attempts = probe.solution.accepted + probe.solution.rejected
        ratio = norms[0] / norms[-1] if norms[-1] else math.nan
        stiffness, growth = max(decay, 0.0) * probe.span, math.exp(min(exponent * probe.span, 700.0))  # keep NaN
        eigenvalues = (radius, rightmost, stiffness)
        values = (*eigenvalues, exponent, growth, *norms, ratio, probe.solution.rejected / attempts)
        return dict(zip(self._names(), values, strict=True)) | _drift(probe)

    def _names(self) -> list[str]:
        percents = [round(100 * place / (self.places - 1)) for place in range(self.places)]
        eigenvalues = ("spectral_radius", "largest_real_part", "stiffness")
        norms = [f"gradient_norm_{percent:03}" for percent in percents]
        return [*eigenvalues, "lyapunov_exponent", "growth", *norms, "gradient_ratio", "rejected_share"]

    def _spectrum(self, probe: TrajectoryProbe) -> list[float]:
        """The largest absolute value, largest real part and fastest decay of the eigenvalues over times and samples."""
        found = []
        for t, state in zip(probe.times, probe.states, strict=True):
            place = state.detach().requires_grad_()
            jacobian = JacobianProducts(slope_of(probe.field)(time_tensor(t, place), place), place)
            found.append(ritz_values(jacobian.jvp, place, products=self.products))
        values = torch.stack(found)
        return [float(values.abs().max()), float(values.real.max()), float(-values.real.min())]


def _lyapunov_exponent(probe: TrajectoryProbe, *, products: int) -> float:
    begin, end = probe.states[0], probe.states[-1]
    if begin[0].numel() > products:
        products = -(-products // 2)  # each is two passes along the solve
    stretch = largest_singular_value(JacobianProducts(end, begin), begin, products=products)
    return float(stretch.log().mean()) / probe.span


def _drift(probe: TrajectoryProbe) -> dict[str, float]:
    """`drift`; nothing if the solver refuses to solve the equation backwards, as it does Ito's."""
    try:
        return {"drift": probe.reverse_error()}
    except RefusedInput:
        return {}
    except (RuntimeError, MemoryError):
        return {"drift": math.nan}


def _gradient_norms(probe: TrajectoryProbe, loss: Tensor) -> list[float]:
    parts = torch.autograd.grad(loss, probe.states, retain_graph=True, allow_unused=True, materialize_grads=True)
    return [float(part.norm()) for part in parts]


def _or_nan(compute: Callable[[], list[float]], *, count: int, known: bool = True) -> list[float]:
    """The `count` numbers of `compute`; NaN if they are not `known` or the computation fails."""
    try:
        return compute() if known else [math.nan] * count
    except (RuntimeError, MemoryError, RefusedInput):
        return [math.nan] * count
