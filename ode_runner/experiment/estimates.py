"""Standard errors of estimated parameters of a known equation, and which of them the data do not identify."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from ode_runner.batch import Split
from ode_runner.experiment.experiment import Experiment
from ode_runner.experiment.sensitivities import jacobian
from ode_runner.fields.ledger import Phase
from ode_runner.models.equations.estimated import EstimatedModel
from ode_runner.plots.figure_types import Figure
from ode_runner.plots.numbers import draw_estimates
from ode_runner.recording.csv_table import write_csv
from ode_runner.recording.display import Display
from ode_runner.tasks.least_squares import LeastSquaresTask

UNSEEN = 1e-6  # relative to the largest singular value (columns have length 1): below it, data do not see a direction
INVOLVED = 0.1  # component along an unseen unit direction above which a parameter counts as not identified
ALIKE = 0.995  # correlation above which two estimates are reported as hardly distinguishable
AT_BOUND = 1e-3  # as a fraction of the distance between the bounds
FAR = 5  # standard errors: an estimate further from the truth is not off by chance
ROUNDING = 1e-9  # relative: no measurement determines digits beyond this
AHEAD = 1.0  # standard errors: a longer step from an estimate to the minimum is one that training has yet to make
SLIGHT = 1e-4  # relative: no such step, however small the errors (of exact data, rounding)
NEAR = 0.01  # relative: an estimate this close to the truth is found, however small its error (of exact data, rounding)
NOISY_START = (
    "each solve begins from the first row, which is measured with noise; this biases the numbers, by more than "
    "standard errors of the fit would say"
)


@dataclass(frozen=True, kw_only=True)
class Estimates:
    """Values and standard errors at the weights that training has found."""

    values: Mapping[str, float]
    errors: Mapping[str, float]  # standard errors of those that the data identify
    ahead: Mapping[str, float]  # by how much a Gauss-Newton step would change these
    unidentified: Sequence[Sequence[str]]  # groups of which the data identify a combination at most
    alike: Sequence[tuple[str, str, float]]  # pairs and their correlation
    freedom: int  # degrees of freedom: residuals less identified directions
    why_none: str = ""  # why there are no standard errors, although the data suffice


def estimate(experiment: Experiment) -> Estimates | None:
    """Estimates and standard errors, from the derivative of every residual of the training split; None without any.

    There are none for a model or loss of another kind, if the gradient mode needs more evaluations for more outputs, or
    if a measurement is in several samples. Every residual counts as one measurement, even that of a first row from
    which the solve begins.

    Seber, Wild. Nonlinear Regression. Wiley 1989, 2.1.2 and 5.10.
    """
    model, task = experiment.model, experiment.task
    able = isinstance(task, LeastSquaresTask) and task.each_once and experiment.integrator.gradient.many_outputs
    if not (isinstance(model, EstimatedModel) and isinstance(task, LeastSquaresTask) and able and model.estimates()):
        return None
    residuals, derivative = _errors(experiment, task)
    parameters = experiment.parameters()
    numbers = model.estimates()
    by_parameter = jacobian(torch.stack(list(numbers.values())), parameters).to(derivative)
    values = {name: float(value.detach()) for name, value in numbers.items()}
    found = _estimates(values, by_parameter, residuals, derivative)
    return replace(found, errors={}, ahead={}, why_none=NOISY_START) if task.noisy_starts else found


def report_estimates(experiment: Experiment, *, folder: Path, display: Display) -> dict[str, float]:
    """Print the estimates, write `estimates.csv`, and return values and errors as `estimate/...`, `stderr/...`."""
    found = estimate(experiment)
    if found is None:
        if isinstance(experiment.model, EstimatedModel) and experiment.model.estimates():
            display.say(f"no standard errors: they need {_what_they_take(experiment)}")
        return {}
    model = experiment.model
    assert isinstance(model, EstimatedModel)
    truths = model.truths()
    for line in _lines(found, truths):
        display.say(line)
    more = experiment.task.more_errors if isinstance(experiment.task, LeastSquaresTask) else ""
    for sentence in chain(_sentences(found, model, more), _unfinished(found), _far_off(found, truths)):
        display.say(sentence, style="yellow")
    rows = [[name, value, found.errors.get(name), truths.get(name)] for name, value in found.values.items()]
    write_csv(folder / "estimates.csv", ["number", "estimate", "standard_error", "true"], rows)
    values = {f"estimate/{name}": value for name, value in found.values.items()}
    return values | {f"stderr/{name}": error for name, error in found.errors.items()}


def figures_of_estimates(experiment: Experiment, metrics: Mapping[str, float]) -> Iterator[tuple[str, Figure]]:
    """The picture `numbers`: each estimate with its error, beside the true value if known.

    `metrics` has what `report_estimates` returned.
    """
    values, errors = (_named(metrics, f"{kind}/") for kind in ("estimate", "stderr"))
    if values and isinstance(experiment.model, EstimatedModel):
        yield "numbers", draw_estimates(values, errors, experiment.model.truths())


def _what_they_take(experiment: Experiment) -> str:
    task, many = experiment.task, experiment.integrator.gradient.many_outputs
    whole = "" if isinstance(task, LeastSquaresTask) and task.each_once else "whole series (task.window=null)"
    return " and ".join(filter(None, (whole, "" if many else "gradient=forward or backprop")))


def _named(metrics: Mapping[str, float], kind: str) -> dict[str, float]:
    return {name.removeprefix(kind): value for name, value in metrics.items() if name.startswith(kind)}


def _errors(experiment: Experiment, task: LeastSquaresTask) -> tuple[Tensor, Tensor]:
    """The residuals of the training split (residual,), and their derivative (residual, parameter)."""
    experiment.model.eval()
    both = []
    with experiment.integrator.ledger.phase(Phase.DIAGNOSTICS):
        for stored in task.batches(Split.TRAIN, batch_size=experiment.options.batch_size, epoch=0):
            batch = stored.to(experiment.dtype)
            residuals = task.residuals(experiment.outputs(batch), batch)
            both.append((residuals.detach().double(), jacobian(residuals, experiment.parameters()).double()))
    return torch.cat([errors for errors, _ in both]).cpu(), torch.cat([by for _, by in both]).cpu()


def _estimates(values: Mapping[str, float], by_parameter: Tensor, residuals: Tensor, derivative: Tensor) -> Estimates:
    """Estimates by the SVD of the Jacobian `derivative`; `by_parameter` (number, parameter): d number / d parameter."""
    lengths = derivative.norm(dim=0)
    lengths = torch.where(lengths > 0, lengths, torch.ones_like(lengths))
    triangle = torch.linalg.qr(derivative / lengths, mode="r").R  # the SVD of all rows takes memory of their square
    _, singular, directions = torch.linalg.svd(triangle, full_matrices=True)
    singular = torch.cat([singular, singular.new_zeros(len(directions) - len(singular))])
    seen = singular > UNSEEN * singular.max()
    freedom = len(residuals) - int(seen.sum())
    spread = math.sqrt(float(residuals.square().sum()) / freedom) if freedom > 0 else math.nan
    scaled = by_parameter.cpu().double() / lengths
    along = scaled @ directions.T  # (number, direction)
    covariance = (along[:, seen] / singular[seen]) @ (along[:, seen] / singular[seen]).T
    downhill = -directions[seen] @ (derivative.T @ residuals / lengths)
    ahead = (along[:, seen] / singular[seen].square()) @ downhill
    involved = along[:, ~seen].abs() / scaled.norm(dim=1, keepdim=True).clamp_min(1e-300) > INVOLVED
    identified = ~involved.any(dim=1)
    names = list(values)
    errors = {
        name: spread * math.sqrt(float(covariance[i, i]))
        for i, name in enumerate(names)
        if identified[i] and freedom > 0
    }
    return Estimates(
        values=values,
        errors=errors,
        ahead={name: float(ahead[i]) for i, name in enumerate(names) if name in errors},
        unidentified=_groups(names, involved),
        alike=_alike([name for i, name in enumerate(names) if identified[i]], covariance[identified][:, identified]),
        freedom=freedom,
    )


def _groups(names: Sequence[str], involved: Tensor) -> list[list[str]]:
    """Groups of names (number,) that are involved in common unseen directions (number, direction)."""
    groups: list[set[int]] = []
    for column in involved.T:
        own = set(column.nonzero().flatten().tolist())
        touching = [group for group in groups if group & own]
        groups = [group for group in groups if not group & own] + ([set.union(own, *touching)] if own else [])
    return [[names[i] for i in sorted(group)] for group in groups]


def _alike(names: Sequence[str], covariance: Tensor) -> list[tuple[str, str, float]]:
    deviations = covariance.diagonal().clamp_min(0).sqrt()
    found = []
    for i in range(len(names)):
        for j in range(i):
            correlation = float(covariance[i, j] / (deviations[i] * deviations[j]).clamp_min(1e-300))
            if abs(correlation) > ALIKE:
                found.append((names[j], names[i], correlation))
    return found


def _lines(found: Estimates, truths: Mapping[str, float]) -> Iterator[str]:
    width = max(map(len, found.values))
    for name, value in found.values.items():
        true = f" (true: {truths[name]:g})" if name in truths else ""
        with_error = found.freedom > 0 and not found.why_none
        text = _with_error(value, found.errors.get(name)) if with_error else f"{value:.5g}"
        yield f"  {name.ljust(width)} = {text}{true}"
    if found.why_none:
        yield f"  no standard errors: {found.why_none}"
    elif found.freedom > 0:
        yield f"  {found.freedom} degrees of freedom"
    else:
        yield "  no standard errors: there are no more data than learned numbers"


def _with_error(value: float, error: float | None) -> str:
    """The value with the digits that are significant by its error: 2.5889 +- 0.0073."""
    if error is None:
        return f"{value:.5g} (not determined by the data)"
    if not error > ROUNDING * abs(value):
        return f"{value:.8g} +- {error:.1g}"
    digits = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:.{digits}f} +- {error:.{digits}f}"


def _sentences(found: Estimates, model: EstimatedModel, more: str = "") -> Iterator[str]:
    """What the data do not tell; `more` is an option that lets them tell more."""
    fix = f"Fix {{}} ({{}}){f', or type {more}' if more else ''}."
    for *others, last in found.unidentified:
        fixed = fix.format("one" if others else "it", model.fixing(last))
        if others:
            names = f"{', '.join(others)} and {last}"
            yield f"{names} cannot be distinguished: the data determine only a combination of them. {fixed}"
        else:
            yield (
                f"{last} does not show in the data: any value fits them as well; or the field makes a Python number of "
                f"it, as float() and math.exp() do, which has no derivative. {fixed}"
            )
    for one, other, correlation in found.alike:
        yield f"{one} and {other} can hardly be distinguished: the correlation of their errors is {correlation:.4f}."
    for name, (low, high) in model.bounds().items():
        value, span = found.values[name], high - low if math.isfinite(high - low) else abs(found.values[name])
        near = [bound for bound in (low, high) if math.isfinite(bound) and abs(value - bound) < AT_BOUND * span]
        if near:
            yield f"{name} is at its bound {near[0]:g}: its error means nothing. Widen the bound."


def _unfinished(found: Estimates) -> Iterator[str]:
    """A warning of estimates that are not at the minimum of the loss, which their standard errors presuppose."""
    far = [
        f"{name} by {step:.2g}"
        for name, step in found.ahead.items()
        if abs(step) > max(AHEAD * found.errors[name], SLIGHT * abs(found.values[name]))
    ]
    if far:
        yield (
            f"training has not reached the least squares: a Gauss-Newton step would change {', '.join(far)}, which is "
            "more than the standard errors. Train longer; optimizer=gauss_newton takes such steps."
        )


def _far_off(found: Estimates, truths: Mapping[str, float]) -> Iterator[str]:
    """Warn of estimates that are far from known true values."""
    far = []
    for name, true in truths.items():
        off, error = abs(found.values[name] - true), found.errors.get(name)
        if error is not None and off > max(FAR * error, NEAR * abs(true)):
            far.append(
                f"{name} is {off / error:.3g} standard errors from its true value"
                if error
                else f"{name} is {off:.3g} from its true value"
            )
    if far:
        yield (
            f"{', '.join(far)}: training has ended elsewhere than at the numbers that the data were made with. "
            "Train longer, or begin elsewhere (model.start)."
        )
