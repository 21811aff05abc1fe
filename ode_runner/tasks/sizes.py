"""Limits on the sizes of data sets and on the scales of noise."""

from ode_runner.batch import Split
from ode_runner.errors import RefusedInput

MOST = 10_000_000  # samples: more would take minutes to draw, and then all memory
LATEST = 1_000_000  # units of time
MOST_EACH_WAY = 5_000  # cells of a grid along each axis: 25 million densities take hours


def check_counts(least: int, most: int = MOST, **counts: int) -> None:
    """Raises RefusedInput if an option of the task is below `least` or above `most`."""
    for name, value in counts.items():
        if value < least:
            raise RefusedInput(f"task.{name} must be at least {least}, not {value}.")
        if value > most:
            raise RefusedInput(f"task.{name} must be at most {most:,}, not {value:,}.")


def split_sizes(*, train: int, validation: int, test: int) -> dict[Split, int]:
    """The number of samples of each split.

    Raises:
        RefusedInput: one of them is below 2 or above MOST.
    """
    check_counts(2, train=train, validation=validation, test=test)
    return {Split.TRAIN: train, Split.VALIDATION: validation, Split.TEST: test}


def check_horizon(horizon: float) -> None:
    """Raises RefusedInput if the last time is not positive, or so late that the solution would take too long."""
    if not horizon > 0:
        raise RefusedInput(f"task.horizon must be positive, not {horizon}.")
    if horizon > LATEST:
        raise RefusedInput(f"task.horizon must be at most {LATEST:,}, not {horizon}.")


def check_deviations(**deviations: float) -> None:
    """Raises RefusedInput for a standard deviation of the task that is negative."""
    for name, value in deviations.items():
        if value < 0:
            raise RefusedInput(f"task.{name} must be 0 or more, not {value}.")
