"""The Levenberg-Marquardt method: Gauss-Newton steps with damping, for a loss that is a mean of squares."""

import math
from collections.abc import Callable, Iterable
from typing import Any, final

import torch
from torch import Tensor
from torch.optim import Optimizer

from ode_runner.batch import Batch, Split
from ode_runner.distributed.process_group import ProcessGroup
from ode_runner.errors import IncompatibleChoice, NumericalFailure
from ode_runner.experiment.experiment import Experiment
from ode_runner.experiment.forward_pass import ForwardPass
from ode_runner.experiment.sensitivities import jacobian
from ode_runner.experiment.signals import StopRequest
from ode_runner.fields.ledger import Phase, Tally
from ode_runner.tasks.least_squares import LeastSquaresTask
from ode_runner.training.training_pass import TrainingPass

MOST = 2000  # parameters: the cost of a step is their number squared, times the number of residuals
LEAST_DAMPING, MOST_DAMPING = 1e-12, 1e12


@final
class GaussNewton(Optimizer):
    """delta = -(J^T J + damping diag(J^T J))^-1 J^T r, where J is the Jacobian of the residuals r.

    If a step does not reduce the sum of squares, or leads to a solve that fails, the next call takes it back and tries
    a shorter one. `lr` exists for schedules and changes nothing.

    Marquardt. SIAM J. Appl. Math. 11, 1963. More. The Levenberg-Marquardt Algorithm. 1978 (the scale of a parameter is
    the largest so far). Nielsen. Damping Parameter in Marquardt's Method. Report IMM-REP-1999-05 (how damping adapts).
    """

    def __init__(self, params: Iterable[Tensor], *, damping: float, lr: float) -> None:
        if not damping > 0:
            raise ValueError(f"damping must be above 0, not {damping}")
        super().__init__(params, {"lr": lr, "damping": damping})
        self._found: tuple[Tensor, Tensor] | None = None

    @property
    def parameters(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    @property
    def accepted_loss(self) -> Tensor | None:
        """The mean of squares at the last accepted point; None before the first."""
        kept = self._kept
        return kept["residuals"].square().mean() if "residuals" in kept else None

    def linearize(self, residuals: Tensor, derivative: Tensor) -> None:
        """Give the next step the residuals (n,) and their Jacobian (n, parameters) at the present point."""
        self._found = residuals.detach(), derivative.detach()

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move to the next point. If `linearize` was not called since the last step, the present point has failed."""
        del closure
        found, self._found = self._found, None
        kept = self._kept
        if found is not None and self._is_better(found[0]):
            self._keep(*found)
        else:
            kept["damping"] = (kept["damping"] * kept["growth"]).clamp(max=MOST_DAMPING)
            kept["growth"] = kept["growth"] * 2
        delta, kept["promised"] = self._step(kept["residuals"], kept["jacobian"], kept["scale"], kept["damping"])
        self._place(kept["point"] + delta)

    @property
    def _kept(self) -> dict[str, Any]:
        """The last accepted point and its linearization: optimizer state, so that checkpoints have it."""
        return self.state[self.parameters[0]]

    def _is_better(self, residuals: Tensor) -> bool:
        kept = self._kept
        return "residuals" not in kept or bool(residuals.square().sum() < kept["residuals"].square().sum())

    def _keep(self, residuals: Tensor, derivative: Tensor) -> None:
        kept = self._kept
        scale = derivative.norm(dim=0)
        if "residuals" in kept:
            gained = kept["residuals"].square().sum() - residuals.square().sum()
            ratio = gained / kept["promised"].clamp_min(1e-300)
            shrunk = kept["damping"] * (1 - (2 * ratio - 1) ** 3).clamp(min=1 / 3, max=2.0)
            kept["damping"], scale = shrunk.clamp(min=LEAST_DAMPING), torch.maximum(scale, kept["scale"])
        else:
            kept["damping"] = residuals.new_tensor(self.param_groups[0]["damping"])
        kept["growth"] = residuals.new_tensor(2.0)
        kept["point"] = torch.cat([p.detach().flatten() for p in self.parameters]).clone()
        kept["residuals"], kept["jacobian"], kept["scale"] = residuals, derivative, scale

    def _step(self, r: Tensor, j: Tensor, scale: Tensor, damping: Tensor) -> tuple[Tensor, Tensor]:
        """The step, and the predicted reduction of the sum of squares by the linear model."""
        scale = torch.where(scale > 0, scale, torch.ones_like(scale))
        rows = torch.cat([j / scale, damping.sqrt() * torch.eye(len(scale), dtype=j.dtype, device=j.device)])
        right = torch.cat([-r, r.new_zeros(len(scale))])
        delta = torch.linalg.lstsq(rows.cpu(), right[:, None].cpu(), driver="gelsd").solution[:, 0].to(r) / scale
        return delta, r.square().sum() - (r + j @ delta).square().sum()

    def _place(self, point: Tensor) -> None:
        for p, part in zip(self.parameters, point.split([p.numel() for p in self.parameters]), strict=True):
            p.copy_(part.view_as(p))


def least_squares_pass(forward: ForwardPass, batch: Batch, optimizer: GaussNewton) -> TrainingPass:
    """Make a pass and give the optimizer residuals and Jacobian. A pass that fails counts as a worse point.

    Raises:
        NumericalFailure: the pass fails at the initial point, where no earlier one was accepted.
    """
    experiment = forward.experiment
    ledger, task = experiment.integrator.ledger, experiment.task
    assert isinstance(task, LeastSquaresTask)
    try:
        passed = forward(batch, measure_memory=False)
    except NumericalFailure:
        if optimizer.accepted_loss is None:
            raise
        return _failed(optimizer, optimizer.accepted_loss)
    if not bool(passed.loss.total.isfinite()) and optimizer.accepted_loss is not None:
        return _failed(optimizer, optimizer.accepted_loss)
    assert passed.loss.outputs is not None
    residuals = task.residuals(passed.loss.outputs, batch)
    with ledger.phase(Phase.BACKWARD) as backward:
        derivative = jacobian(residuals, optimizer.parameters)
    optimizer.linearize(residuals, derivative)
    slope = 2 / len(residuals) * (residuals.detach() @ derivative)
    for p, part in zip(optimizer.parameters, slope.split([p.numel() for p in optimizer.parameters]), strict=True):
        p.grad = part.view_as(p)
    return TrainingPass.of(passed, batch, experiment, backward)


def evaluated(experiment: Experiment, optimizer: Optimizer, stop: StopRequest, split: Split) -> dict[str, float]:
    """`Experiment.evaluate`; an infinite loss if a solve fails at a point that Gauss-Newton is only trying."""
    try:
        return experiment.evaluate(split, stop)
    except NumericalFailure:
        if not isinstance(optimizer, GaussNewton) or optimizer.accepted_loss is None:
            raise
    return {"loss": math.inf, experiment.criterion[0]: math.inf, "nfe": 0.0}


def _failed(optimizer: GaussNewton, loss: Tensor) -> TrainingPass:
    """The result of a pass at a point that will be taken back: the last accepted loss, and zero gradients."""
    for p in optimizer.parameters:
        p.grad = torch.zeros_like(p)
    return TrainingPass(
        measured={"loss": loss}, of_loss=["loss"], forward=Tally(), backward=Tally(), each=[], saved_bytes=None
    )


def check_gauss_newton(experiment: Experiment, group: ProcessGroup) -> None:
    """Raises IncompatibleChoice if optimizer=gauss_newton does not suit the loss, the data or the options."""
    task, options = experiment.task, experiment.options
    other = "Use optimizer=adam optimizer.lr=0.01 schedule=cosine"
    _check_residuals(experiment, other)
    size, count = task.size(Split.TRAIN), sum(p.numel() for p in experiment.parameters())
    if options.batch_size < size:
        raise IncompatibleChoice(
            f"optimizer=gauss_newton takes all training samples at once: trainer.batch_size={size} or more. {other}."
        )
    if count > MOST:
        raise IncompatibleChoice(
            f"optimizer=gauss_newton is for {MOST:,} parameters at most, and there are {count:,}. {other}."
        )
    half = options.precision == "fp16"
    others = (options.ema, options.accumulate, options.max_grad_norm)
    if group.size > 1 or any(value is not None for value in others) or half:
        raise IncompatibleChoice(
            "optimizer=gauss_newton takes processes=1, trainer.ema=null, trainer.accumulate=null and "
            "trainer.max_grad_norm=null, and no trainer.precision=fp16."
        )


def _check_residuals(experiment: Experiment, other: str) -> None:
    """Raises IncompatibleChoice unless the loss is a mean of squares and the gradient mode gives its Jacobian."""
    task, gradient = experiment.task, experiment.integrator.gradient
    plain = experiment.objective is experiment.model.objective and not task.running_costs()
    if not (isinstance(task, LeastSquaresTask) and plain):
        raise IncompatibleChoice(
            "optimizer=gauss_newton takes a loss that is a mean of squares and nothing else, as task=series and "
            f"task=lotka_volterra have it without a regularizer. {other}."
        )
    if not gradient.many_outputs:
        raise IncompatibleChoice(
            "optimizer=gauss_newton takes the derivative of every error, which gradient=forward and backprop give "
            f"without further evaluations. Use gradient=forward. Or: {other}."
        )
