"""The quantities that a network may predict along a path (heads), and exact conversions between them."""

from enum import StrEnum

import torch
from torch import Tensor

from ode_runner.errors import IncompatibleChoice
from ode_runner.paths.base import END_TIME, GaussianPath

LATEST = 0.999  # start of sampling to suggest for a path whose alpha is 0 at t = 1


class Head(StrEnum):
    """The quantity that a network estimates from x_t."""

    V = "v"  # E[alpha' x_0 + sigma' e], the velocity dx/dt of the path
    EPS = "eps"  # E[e]
    X0 = "x0"  # E[x_0]
    SCORE = "score"  # the gradient of log p_t, -E[e] / sigma


def to_x0(path: GaussianPath, head: Head, t: Tensor, x: Tensor, output: Tensor) -> Tensor:
    """E[x_0 | x_t] from a head's output; `t` broadcasts against `x`.

    The head `v` is not the "velocity" of Salimans and Ho, alpha e - sigma x_0. The two are equal up to a factor on the
    cosine path only.
    """
    if head is Head.X0:
        return output
    alpha, sigma = path.alpha(t), path.sigma(t)
    if head is Head.EPS:
        return (x - sigma * output) / alpha
    if head is Head.SCORE:
        return (x + sigma.square() * output) / alpha
    alpha_dot, sigma_dot = path.alpha_dot(t), path.sigma_dot(t)
    return (sigma_dot * x - sigma * output) / (alpha * sigma_dot - sigma * alpha_dot)


def to_eps(path: GaussianPath, head: Head, t: Tensor, x: Tensor, output: Tensor) -> Tensor:
    """E[e | x_t] from a head's output."""
    if head is Head.EPS:
        return output
    alpha, sigma = path.alpha(t), path.sigma(t)
    if head is Head.SCORE:
        return -sigma * output
    if head is Head.X0:
        return (x - alpha * output) / sigma
    alpha_dot, sigma_dot = path.alpha_dot(t), path.sigma_dot(t)
    return (alpha * output - alpha_dot * x) / (alpha * sigma_dot - sigma * alpha_dot)


def to_velocity(path: GaussianPath, head: Head, t: Tensor, x: Tensor, output: Tensor) -> Tensor:
    """dx/dt from a head's output."""
    if head is Head.V:
        return output
    x0, eps = to_x0(path, head, t, x, output), to_eps(path, head, t, x, output)
    return path.alpha_dot(t) * x0 + path.sigma_dot(t) * eps


def to_score(path: GaussianPath, head: Head, t: Tensor, x: Tensor, output: Tensor) -> Tensor:
    """The score, the gradient of log p_t, from a head's output."""
    return output if head is Head.SCORE else -to_eps(path, head, t, x, output) / path.sigma(t)


CONVERSIONS = {Head.V: to_velocity, Head.EPS: to_eps, Head.X0: to_x0, Head.SCORE: to_score}


def convert(path: GaussianPath, head: Head, wanted: Head, t: Tensor, x: Tensor, output: Tensor) -> Tensor:
    """Convert a head's output to that of the head `wanted`."""
    return CONVERSIONS[wanted](path, head, t, x, output)


def default_end_time(path: GaussianPath, head: Head) -> float:
    """The default end of sampling: that of the path for the velocity; a time with sigma > 0 for other heads."""
    return path.end_time if head is Head.V or path.end_time > 0 else END_TIME


def is_regular(path: GaussianPath, head: Head, t: float) -> bool:
    """Whether x_0, noise and velocity are finite at time `t` for a finite output of the head."""
    time, one, half = (torch.tensor(value, dtype=torch.float64) for value in (t, 1.0, 0.5))
    found = [convert(path, head, wanted, time, half, one) for wanted in (Head.X0, Head.EPS, Head.V)]
    return all(bool(torch.isfinite(value)) for value in found)


def check_span(path: GaussianPath, head: Head, *, start: float, end: float, names: tuple[str, str]) -> None:
    """Raises IncompatibleChoice if a head cannot be sampled from `start` down to `end`.

    `names` are the choices of path and head as typed, ("model.path=linear", "model.head=eps"); the second is in words
    if the model has one head only.
    """
    chosen, predicted = names
    has_heads = "=" in predicted
    if not is_regular(path, head, start):
        raise IncompatibleChoice(
            f"{predicted} on {chosen} is divided by alpha, which is 0 at t = {start:g}: the first step from there is "
            f"singular. Begin at {LATEST} (model.start_time={LATEST}){', or use model.head=v' if has_heads else ''}."
        )
    if not is_regular(path, head, end):
        raise IncompatibleChoice(
            f"with {chosen} and {predicted}, dx/dt is not finite at t = {end:g}. End at {END_TIME:g} "
            f"(model.end_time={END_TIME:g}), or use model.path=linear{' model.head=v' if has_heads else ''}."
        )
