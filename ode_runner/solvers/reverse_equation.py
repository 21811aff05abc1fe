"""Checks of the times between which the reverse equation of a Gaussian path is solved."""

import torch

from ode_runner.devices.transfer import read_times
from ode_runner.errors import RefusedInput, can_be_typed
from ode_runner.paths.base import END_TIME
from ode_runner.paths.denoising_field import DenoisingField
from ode_runner.paths.heads import LATEST
from ode_runner.types import Times


def check_reverse(field: DenoisingField, ts: Times, *, solver: str, looks_ahead: bool) -> None:
    """Raises RefusedInput if the reverse equation of a path is singular at an end, or solved from data to noise.

    Args:
        field: the field of the path.
        ts: times of the solve.
        solver: the solver's name in messages.
        looks_ahead: whether the solver evaluates drift or diffusion at the end of a step.
    """
    times, name = read_times(ts), field.path.name
    first, last = times[0], times[-1]
    if last > first:
        raise RefusedInput(
            f"the reverse equation of the path {name} runs from noise to data, and not from t = {first:g} to "
            f"{last:g}. Use a solver without noise, such as solver=ddim."
        )
    begin, end = torch.tensor([first, last], dtype=torch.float64)
    if not torch.isfinite(field.path.squared_diffusion(begin)):
        raise RefusedInput(
            f"the reverse equation of the path {name} has infinite noise at t = {first:g}, where alpha is 0. "
            + _or_else(f"Begin at {LATEST} (model.start_time; task.start_time of model=exact)", "use solver=ddpm")
        )
    if looks_ahead and last < first and not field.path.sigma(end):
        raise RefusedInput(
            f"{solver} asks the reverse equation of the path {name} for its right-hand side at t = {last:g}, where no "
            "noise is left and it is infinite. "
            + _or_else(
                f"End at {END_TIME:g} (model.end_time; task.end_time of model=exact)", "use solver=euler_maruyama"
            )
        )


def _or_else(times: str, instead: str) -> str:
    """Both pieces of advice, or the second alone if a command takes the model as it is."""
    return f"{times}, or {instead}." if can_be_typed("model") else f"{instead.capitalize()}."
