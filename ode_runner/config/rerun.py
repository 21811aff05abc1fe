"""`rerun`: which of the runs that are already on disk are to be run."""

from enum import StrEnum

from ode_runner.errors import RefusedInput
from ode_runner.quoting import as_typed


class Rerun(StrEnum):
    """What is run; whatever else there is, is left as it is."""

    MISSING = "missing"  # all that is not completed
    FAILED = "failed"  # all that was begun and did not complete
    ALL = "all"  # everything, from the beginning

    @classmethod
    def of(cls, value: object) -> "Rerun":
        """From the configuration, where true and false are short for all and missing.

        Raises:
            RefusedInput: it is none of these.
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
