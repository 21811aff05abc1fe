"""Sizes of data sets and scales of noise: what can be drawn."""

from ode_runner.batch import Split
from ode_runner.errors import RefusedInput

MOST = 10_000_000  # samples: more would be drawn for minutes before memory is used up
LATEST = 1_000_000  # units of time
MOST_EACH_WAY = 5_000  # cells of a grid: 25 million densities are a matter of hours


def check_counts(least: int, most: int = MOST, **counts: int) -> None:
    """Raises RefusedInput for an option of the task that is below `least`, or beyond what anybody can draw."""
    for name, value in counts.items():
        if value < least:
            raise RefusedInput(f"task.{name} must be at least {least}, not {value}.")
        if value > most:
            raise RefusedInput(f"task.{name} must be at most {most:,}, not {value:,}.")


def split_sizes(*, train: int, validation: int, test: int) -> dict[Split, int]:
    """The number of samples of each split.

    Raises:
        RefusedInput: one of them is below 2, or beyond what anybody can draw.
    """
    check_counts(2, train=train, validation=validation, test=test)
    return {Split.TRAIN: train, Split.VALIDATION: validation, Split.TEST: test}


def check_horizon(horizon: float) -> None:
    """Raises RefusedInput for a last time that is none, or so late that nobody waits for a solution until then."""
    if not horizon > 0:
        raise RefusedInput(f"task.horizon must be positive, not {horizon}.")
    if horizon > LATEST:
        raise RefusedInput(f"task.horizon must be at most {LATEST:,}, not {horizon}.")


def check_deviations(**deviations: float) -> None:
    """Raises RefusedInput for a standard deviation of the task that is negative."""
    for name, value in deviations.items():
        if value < 0:
            raise RefusedInput(f"task.{name} must be 0 or more, not {value}.")
