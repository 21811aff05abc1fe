"""`rerun`: which of the runs that are already on disk are run again."""

from enum import StrEnum

from ode_runner.errors import RefusedInput, as_typed


class Rerun(StrEnum):
    """The runs that a command runs; all others are left as they are."""

    MISSING = "missing"  # runs that are not completed
    FAILED = "failed"  # runs that were begun and did not complete
    ALL = "all"  # all runs, from the beginning

    @classmethod
    def of(cls, value: object) -> "Rerun":
        """The member for a value of the configuration; true means ALL, false means MISSING.

        Raises:
            RefusedInput: the value is none of these.
        """
        if isinstance(value, bool):
            return cls.ALL if value else cls.MISSING
        try:
            return cls(str(value))
        except ValueError:
            raise RefusedInput(
                f"rerun={as_typed(value)} is neither true nor false, and none of {', '.join(cls)}. "
                "Use rerun=all to start over."
            ) from None
