"""Statistics of an adaptive solve."""

from collections import deque

from torch import Tensor


class SolveStatistics:
    """Counts of steps, and the last step sizes and derivative, which explain a failure."""

    def __init__(self) -> None:
        self.accepted = self.rejected = 0
        self.sizes: deque[float] = deque(maxlen=5)
        self.newest: Tensor | None = None  # the last derivative computed

    @property
    def attempts(self) -> int:
        return self.accepted + self.rejected

    def note(self, dt: float, derivative: Tensor | None, *, accepted: bool) -> None:
        self.accepted += accepted
        self.rejected += not accepted
        self.sizes.append(dt)
        self.newest = None if derivative is None else derivative.detach()
