"""A recurrent network with the time between rows as an input."""

from typing import ClassVar, final

from torch import Tensor

from ode_runner.controls.series import Series
from ode_runner.encoding import Encoding
from ode_runner.models.base import Numerics
from ode_runner.models.series.series_model import SeriesModel
from ode_runner.networks.base import Network
from ode_runner.networks.reading import SeriesReader, reading_network
from ode_runner.problem import Integrate, Solution
from ode_runner.types import PathStates, Times


@final
class GRUGaps(SeriesModel):
    """A GRU over the rows: inputs are the values, which were observed, and the time since the last row. No solve.

    The baseline `GRU-dt` of Rubanova et al. 2019 and Kidger et al. 2020.
    """

    numerics: ClassVar[Numerics] = Numerics.NONE
    untimed: ClassVar[str] = "goes from row to row and has no states between them"
    stem: SeriesReader

    def __init__(self, network: Network) -> None:
        network = reading_network(network, "gru_gaps")
        super().__init__(network)
        self.unused_options_of_network = dict.fromkeys(("width", "depth"), "there is no field")
        self.stem, self.head = network.stem(), network.head()

    def encode(self, inputs: Tensor) -> Encoding:
        states = self.stem.along(inputs)
        return Encoding(states[:, 0], given=(states,), lengths=Series.of_rows(inputs).lengths)

    def ends(self, lengths: Tensor) -> Tensor:
        return lengths - 1

    def evolve(self, y0: Encoding, ts: Times, integrate: Integrate) -> Solution:
        """The states after each row; at a time between two rows, the state after the first of them."""
        (states,) = y0.given
        assert y0.lengths is not None
        if self.causal:
            return Solution(ys=states.transpose(0, 1)[ts.clamp(0, states.shape[1] - 1).floor().long()])
        rows = self.places(ts, y0.lengths).floor().long()
        return Solution(ys=states.transpose(0, 1).gather(0, rows[..., None].expand(-1, -1, states.shape[2])))

    def path(self, encoding: Encoding, ts: Times, integrate: Integrate, *, times: int) -> PathStates:
        """The state after each row; `times` is ignored."""
        return encoding.given[0].transpose(0, 1)
