"""What the models share that read a series on the way."""

from typing import ClassVar

from ode_runner.models.base import Model
from ode_runner.networks.reading import ReadingNetwork
from ode_runner.types import Times


class SeriesModel(Model):
    """A model whose state is moved by the rows of a series, from the first (time 0) to the last.

    Depth is counted in rows: the task's times, from 0 to 1, are the way through all rows of a batch, or numbers of rows
    where answers are wanted at each. Before the first and after the last the state stands still.
    """

    of_series: ClassVar[bool] = True
    network_type: ClassVar[type] = ReadingNetwork

    def __init__(self, network: ReadingNetwork) -> None:
        super().__init__(network)
        self.causal = network.spec.causal

    def intervals(self, *, rows: int) -> int:
        """How many intervals its solves through so many rows have; a step of fixed size in each is enough."""
        return max(1, rows - 1)

    def places(self, ts: Times, *, rows: int) -> Times:
        """The rows at the task's times, counted from 0."""
        return (ts if self.causal else ts * (rows - 1)).clamp(0, rows - 1)
