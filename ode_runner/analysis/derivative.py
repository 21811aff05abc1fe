"""A gradient as one vector, with its cost, and distances between gradients."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ode_runner.analysis.independent_jacobians import IndependentJacobians
from ode_runner.analysis.same_steps import RecordSteps, ReplaySteps
from ode_runner.batch import Batch
from ode_runner.devices.random_state import RandomState
from ode_runner.errors import IncompatibleChoice
from ode_runner.experiment.experiment import Experiment
from ode_runner.experiment.forward_pass import ForwardPass
from ode_runner.fields.ledger import Phase, Tally
from ode_runner.gradients.base import GradientMode
from ode_runner.models.base import Numerics
from ode_runner.models.copies import convert, copied
from ode_runner.solvers.base import Solver


@dataclass(frozen=True, kw_only=True)
class Derivative:
    """dL/dtheta of one batch over all parameters of a model, converted to double precision."""

    vector: Tensor  # (parameters,)
    loss: float
    forward: Tally
    backward: Tally
    saved_bytes: int | None = None  # saved for the backward pass; None: not measured


def differentiate(
    experiment: Experiment, batch: Batch, random: RandomState, *, measure_memory: bool = False
) -> Derivative:
    """The gradient that a training step would compute; its evaluations are counted as diagnostics.

    Weights, their `.grad` and the random state are left unchanged.
    """
    experiment.model.train()
    batch, parameters, ledger = batch.to(experiment.dtype), experiment.parameters(), experiment.integrator.ledger
    with random.again(), torch.enable_grad():
        passed = ForwardPass(experiment, phase=Phase.DIAGNOSTICS)(batch, measure_memory=measure_memory)
        with ledger.phase(Phase.DIAGNOSTICS) as backward:
            parts = torch.autograd.grad(passed.loss.total, parameters, allow_unused=True, materialize_grads=True)
    vector = torch.cat([part.detach().to(torch.float64).flatten() for part in parts])
    return Derivative(
        vector=vector,
        loss=float(passed.loss.total.detach()),
        forward=passed.tally,
        backward=backward,
        saved_bytes=passed.saved_bytes,
    )


def of_the_solution(experiment: Experiment, batch: Batch, random: RandomState) -> Derivative:
    """The reference for exact modes: backpropagation in double precision through the same steps.

    Raises:
        IncompatibleChoice: the model draws random numbers that would differ in double precision.
    """
    recorded, model = RecordSteps(), copied(experiment.model)  # a copy, since a model may update running statistics
    model.train()
    with random.again(), torch.no_grad(), experiment.integrator.ledger.phase(Phase.DIAGNOSTICS):
        replace(experiment, model=model, integrator=replace(experiment.integrator, gradient=recorded)).loss(
            batch.to(experiment.dtype)
        )
        _check_same_draws(experiment, random)
    replayed = IndependentJacobians(mode=ReplaySteps(solves=iter(recorded.solves), rounds=iter(recorded.rounds)))
    return differentiate(in_double(experiment, solver=experiment.integrator.solver, gradient=replayed), batch, random)


def _check_same_draws(experiment: Experiment, before: RandomState) -> None:
    """Raises IncompatibleChoice if the model has drawn random numbers that would differ in double precision.

    A CPU generator gives the same dropout mask in every precision; a GPU generator does not.
    """
    if experiment.device.type != "cuda" or experiment.dtype == torch.float64:
        return
    if not RandomState.now(experiment.device).same_as(before):
        raise IncompatibleChoice(
            "the model draws random numbers, and a GPU draws others in double precision, in which the reference is "
            "computed. Use trainer.precision=fp64, or trainer.device=cpu."
        )


def check_reference(experiment: Experiment, *, asked: str) -> None:
    """Raises IncompatibleChoice if no reference is possible; `asked` is the option that requires it."""
    if experiment.device.type == "mps":
        raise IncompatibleChoice(
            f"{asked} compares in double precision, which mps lacks. Use trainer.device=cpu, or leave it out."
        )
    solver = experiment.integrator.solver
    if experiment.model.numerics is not Numerics.NONE and not solver.differentiable:
        raise IncompatibleChoice(
            f"{asked} compares with backpropagation through the solver, and this one is {solver.kind}. "
            "Use solver=radau_iia5, say, or leave it out."
        )


def in_double(experiment: Experiment, *, solver: Solver, gradient: GradientMode) -> Experiment:
    """A copy of the experiment in double precision, with other numerics but the same ledger."""
    return replace(
        experiment,
        model=convert(copied(experiment.model), dtype=torch.float64),
        integrator=replace(experiment.integrator, solver=solver, gradient=gradient, field_dtype=None),
        options=replace(experiment.options, precision="fp64"),
    )


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """The distance of two vectors divided by the norm of the second; NaN if that is zero."""
    return float((ours - theirs).norm() / theirs.norm()) if theirs.any() else torch.nan


def cosine(ours: Tensor, theirs: Tensor) -> float:
    """The cosine of the angle between two vectors; NaN if one of them is zero."""
    return float(ours @ theirs / (ours.norm() * theirs.norm())) if ours.any() and theirs.any() else torch.nan
