"""Limits on the sizes of networks and models."""

from ode_runner.errors import RefusedInput

MOST = 100_000  # layers, or units of a layer: more would take minutes to build, and then all memory


def check_sizes(group: str, *, least: int = 1, **sizes: int) -> None:
    """Checks that each size of `group` is between `least` and MOST.

    Raises:
        RefusedInput: a size is not; the message names the option.
    """
    for name, value in sizes.items():
        if value < least:
            raise RefusedInput(f"{group}.{name} must be {f'at least {least}' if least else '0 or more'}, not {value}.")
        if value > MOST:
            raise RefusedInput(f"{group}.{name} must be at most {MOST:,}, not {value}.")
