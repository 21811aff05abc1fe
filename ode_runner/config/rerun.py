"""`rerun`: which of the runs that are on disk already are run again."""

from enum import StrEnum

from ode_runner.errors import RefusedInput, as_typed


class Rerun(StrEnum):
    """The runs that a command runs; it leaves all others as they are."""

    MISSING = "missing"  # all that is not completed
    FAILED = "failed"  # all that was begun and did not complete
    ALL = "all"  # everything, from the beginning

    @classmethod
    def of(cls, value: object) -> "Rerun":
        """The member for a value of the configuration; true stands for all, false for missing.

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
                "Use rerun=all to begin anew."
            ) from None
