"""Where the helpers of a run come from, if it is to have any."""

import torch

from ode_runner.distributed import Helpers
from ode_runner.errors import RefusedInput
from ode_runner.ranks import Rank
from ode_runner.spawned import Spawned
from ode_runner.torchrun import Gathered


def helpers_for(processes: object, device: torch.device) -> Helpers | None:
    """The other processes of a run over `processes`, or over as many as torchrun has started; None for one alone.

    Raises:
        RefusedInput: there cannot be as many.
    """
    if type(processes) is not int or processes < 1:  # true is an int to isinstance
        raise RefusedInput(f"processes={processes} is no whole number from 1 on.")
    if (rank := Rank.of_this_process()) is not None:
        return Gathered(rank, asked=processes, device=device)
    return Spawned(size=processes, device=device) if processes > 1 else None
