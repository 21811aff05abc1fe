"""The check of boolean options that belong to no class that would check them."""

from ode_runner.errors import RefusedInput, as_typed


def check_boolean(option: str, value: object) -> None:
    """Raises RefusedInput unless the value of the `option` is true or false."""
    if not isinstance(value, bool):
        raise RefusedInput(f"{option}={as_typed(value)} is neither true nor false.")
