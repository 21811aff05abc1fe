"""The rank of this process among those that `torchrun` has started."""

import os
from typing import NamedTuple

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")  # of the environment, set by torchrun
OTHERS = ("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID")


class Rank(NamedTuple):
    """One process of a run over several, counted from 0, over all machines and on its own."""

    number: int
    size: int
    number_here: int
    size_here: int

    @classmethod
    def of_this_process(cls) -> "Rank | None":
        """The rank from torchrun's environment; None where there is none, or only one process."""
        if any(name not in os.environ for name in (*VARIABLES, *OTHERS)):
            return None
        rank = cls(*(int(os.environ[name]) for name in VARIABLES))
        return rank if rank.size > 1 else None
