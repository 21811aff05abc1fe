"""Checks the values of optimizer options before anything is made. Types are checked as for every group."""

from collections.abc import Mapping
from typing import Any

from ode_runner.errors import RefusedInput, as_typed

NOT_NEGATIVE = ("lr", "weight_decay", "eps", "lr_decay", "initial_accumulator_value")
FRACTIONS = ("momentum", "rho", "alpha")  # 1 would never forget


def check_optimizer(options: Mapping[str, Any]) -> None:
    """Refuses values that torch's optimizers do not take, or with which none can learn.

    Raises:
        RefusedInput: a value is not allowed; the message names the option and what is allowed.
    """
    for name, value in options.items():
        if name in NOT_NEGATIVE and _is_number(value) and value < 0:
            raise RefusedInput(f"optimizer.{name} must be 0 or more, not {as_typed(value)}.")
        if name in FRACTIONS and _is_number(value) and not 0 <= value < 1:
            raise RefusedInput(f"optimizer.{name} must be at least 0 and below 1, not {as_typed(value)}.")
    _check_betas(options.get("betas"))
    if options.get("nesterov") is True and (options.get("momentum") == 0 or options.get("dampening", 0) != 0):
        raise RefusedInput("optimizer.nesterov=true needs optimizer.momentum above 0, and no optimizer.dampening.")


def _check_betas(betas: Any) -> None:
    """Check that betas are two fractions; values of other types are left to the check of types."""
    if betas is None or isinstance(betas, str) or not isinstance(betas, list | tuple):
        return
    if len(betas) != 2 or any(_is_number(beta) and not 0 <= beta < 1 for beta in betas):
        raise RefusedInput(
            "optimizer.betas must be two numbers, each at least 0 and below 1, such as [0.9,0.999], not "
            f"{as_typed(betas)}."
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
