"""Diagnostics of layers: how far states and weights change from layer to layer, and the spectra of the layers."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from ode_runner.analysis.diagnostics import PeriodicDiagnostics
from ode_runner.analysis.spectrum import ritz_values
from ode_runner.batch import Split
from ode_runner.devices.random_state import RandomState
from ode_runner.experiment.experiment import Experiment
from ode_runner.fields.ledger import Phase
from ode_runner.models.base import Model
from ode_runner.plots.depth import draw_layers
from ode_runner.plots.figure_types import Figure
from ode_runner.problem import Integrate, TakesStates, WrappedIntegrate
from ode_runner.regularizers.depth_varying import Layered
from ode_runner.solvers.implicit.jacobian import JacobianProducts, differentiated_further
from ode_runner.types import State


class LayerMeasurements(NamedTuple):
    """Measurements of states and weights between the layers of a model."""

    moved: Tensor  # (layer, batch): |x_k+1 - x_k|
    straight: Tensor  # (batch,): distance between the first and the last state
    distances: Tensor  # (layer - 1,): |theta_k+1 - theta_k| / |theta_k|
    spectra: Tensor  # (layer, values), complex: eigenvalues of the Jacobians of the layers' increments
    residuals: Tensor  # (layer, sweep): change of the state in each sweep of a layer, relative to its size


@final
@dataclass(frozen=True, kw_only=True)
class DepthDiagnostics(PeriodicDiagnostics):
    """Layer diagnostics of models such as `ode_transformer` and `resnet`, on the first validation `samples`.

    They are measured after the first epoch, every `every` epochs, and after the last; a model without layers has none.

    `path_length`: the sum over layers of |x_k+1 - x_k|, averaged over samples. `path_straightness`: the distance
    between first and last state divided by the path length, at most 1. `layer_distance`: the mean over layers of
    |theta_k+1 - theta_k| / |theta_k|. `increment_radius_<k>` and `increment_real_<k>`: the largest absolute value and
    real part of the eigenvalues of d(x_k+1 - x_k)/dx_k, by Arnoldi's method with `products` products (see `ritz_values`
    for its limits). `sweep_residual_<k>`, for layers that iterate: the change of a state in the last sweep, relative to
    its size.
    """

    absent: ClassVar[str] = (
        "diagnostics=depth measures nothing here: it is about the layers of model=resnet and ode_transformer. For "
        "solves use diagnostics=flow."
    )
    least: ClassVar[dict[str, int]] = {"every": 1, "samples": 1, "products": 1}
    samples: int
    products: int

    @classmethod
    def takes(cls, model: type[Model]) -> bool:
        return issubclass(model, Layered)

    def measure(self, experiment: Experiment, *, epoch: int) -> dict[str, float]:
        del epoch
        found = self.look(experiment)
        return {} if found is None else {f"diagnostics/{name}": value for name, value in _scalars(found).items()}

    def figures(self, experiment: Experiment) -> Iterator[tuple[str, Figure]]:
        found = self.look(experiment)
        if found is not None:
            yield "layers", draw_layers(found.moved.mean(dim=1), found.distances, found.spectra)

    def look(self, experiment: Experiment) -> LayerMeasurements | None:
        """The measurements with the present weights; None for a model without layers."""
        if not isinstance(experiment.model, Layered):
            return None
        batch = next(experiment.task.batches(Split.VALIDATION, batch_size=self.samples, epoch=0)).to(experiment.dtype)
        recording = Recording(experiment.integrator)
        experiment.model.eval()
        ledger, random = experiment.integrator.ledger, RandomState.now(experiment.device)
        with torch.enable_grad(), ledger.phase(Phase.DIAGNOSTICS), random.again(), differentiated_further():
            experiment.model(_differentiable(batch.inputs), batch.ts, recording)
            residuals = experiment.model.residuals(batch.inputs)
            parameters = [piece.parameters() for piece in experiment.model.pieces]
            return self._of_states(recording.states, parameters, residuals)

    def _of_states(
        self, states: Sequence[State], parameters: Sequence[Iterator[Tensor]], residuals: Tensor
    ) -> LayerMeasurements:
        steps = list(zip(states, states[1:], strict=False))
        thetas = [parameters_to_vector(own).detach() for own in parameters]
        apart = [(b - a).norm() / a.norm() for a, b in zip(thetas, thetas[1:], strict=False)]
        return LayerMeasurements(
            moved=torch.stack([_sizes(after - before) for before, after in steps]).detach().cpu(),
            straight=_sizes(states[-1] - states[0]).detach().cpu(),
            distances=torch.stack(apart).cpu() if apart else torch.zeros(0),
            spectra=torch.stack([self._spectrum(before, after) for before, after in steps]),
            residuals=residuals,
        )

    def _spectrum(self, before: State, after: State) -> Tensor:
        """The eigenvalues of d(after - before)/d(before), for all samples."""
        jacobian = JacobianProducts(after, before)
        return ritz_values(lambda v: jacobian.jvp(v) - v, before.detach(), products=self.products).flatten()


@final
class Recording(WrappedIntegrate, TakesStates):
    """An `Integrate` that keeps the states that a model of layers passes to it."""

    def __init__(self, integrate: Integrate) -> None:
        super().__init__(integrate)
        self.states: list[State] = []

    def take_states(self, states: Sequence[State]) -> None:
        self.states = list(states)


def _scalars(found: LayerMeasurements) -> dict[str, float]:
    length = found.moved.sum(dim=0)
    scalars = {
        "path_length": float(length.mean()),
        "path_straightness": float((found.straight / length).mean()),
        "layer_distance": float(found.distances.mean()) if len(found.distances) else math.nan,
    }
    for k, values in enumerate(found.spectra, start=1):
        scalars[f"increment_radius_{k}"] = float(values.abs().max())
        scalars[f"increment_real_{k}"] = float(values.real.max())
    for k, values in enumerate(found.residuals, start=1):
        scalars[f"sweep_residual_{k}"] = float(values[-1])
    return scalars


def _differentiable(inputs: Tensor) -> Tensor:
    """Inputs that require gradients if they are floats, since they may be the first state."""
    return inputs.requires_grad_() if inputs.is_floating_point() else inputs


def _sizes(x: State) -> Tensor:
    return x.flatten(1).norm(dim=1)
