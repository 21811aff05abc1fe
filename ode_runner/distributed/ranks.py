"""The rank of this process among those started by `torchrun`."""

import os
from typing import NamedTuple

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")  # environment variables set by torchrun
OTHERS = ("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID")


class Rank(NamedTuple):
    """The rank of a process and the number of processes: over all machines, and on its own machine."""

    number: int
    size: int
    number_here: int
    size_here: int

    @classmethod
    def of_this_process(cls) -> "Rank | None":
        """The rank from torchrun's environment variables; None without them, or with only one process."""
        if any(name not in os.environ for name in (*VARIABLES, *OTHERS)):
            return None
        rank = cls(*(int(os.environ[name]) for name in VARIABLES))
        return rank if rank.size > 1 else None
