"""The base class of models that are driven by the rows of a series."""

from typing import ClassVar

from ode_runner.models.base import Model
from ode_runner.networks.reading import ReadingNetwork
from ode_runner.types import Times


class SeriesModel(Model):
    """A model whose state is driven by the rows of a series, from the first (time 0) to the last.

    Solves use the row number as time. The task's times from 0 to 1 are mapped to all rows of a batch; if outputs are
    asked for at each row, they are row numbers already. Before the first row and after the last, the state is constant.
    """

    of_series: ClassVar[bool] = True
    network_type: ClassVar[type] = ReadingNetwork

    def __init__(self, network: ReadingNetwork) -> None:
        super().__init__(network)
        self.causal = network.spec.causal

    def intervals(self, *, rows: int) -> int:
        """The number of intervals of a solve through this many rows; one fixed step in each is enough."""
        return max(1, rows - 1)

    def row_positions(self, ts: Times, *, rows: int) -> Times:
        """The task's times as row numbers, from 0."""
        return (ts if self.causal else ts * (rows - 1)).clamp(0, rows - 1)
