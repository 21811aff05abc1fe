"""Sizes of networks and models: whole numbers that can be built."""

from ode_runner.errors import RefusedInput

MOST = 100_000  # layers, or units of one: more would be built for minutes before memory is used up


def check_sizes(group: str, *, least: int = 1, **sizes: int) -> None:
    """Refuses a size of `group` below `least`, or beyond what anybody can build.

    Raises:
        RefusedInput: names the option.
    """
    for name, value in sizes.items():
        if value < least:
            raise RefusedInput(f"{group}.{name} must be {f'at least {least}' if least else '0 or more'}, not {value}.")
        if value > MOST:
            raise RefusedInput(f"{group}.{name} must be at most {MOST:,}, not {value}.")
