"""A recurrent cell at every row, and an ODE between rows."""

from typing import ClassVar, final

import torch
from torch import Tensor, nn

from ode_runner.controls.series import Series
from ode_runner.encoding import Encoding
from ode_runner.field import VectorField, WrappedField
from ode_runner.models.base import Numerics
from ode_runner.models.series.series_model import SolvedSeriesModel, flow_over, part_of
from ode_runner.networks.base import Network
from ode_runner.networks.reading import features, reading_network
from ode_runner.problem import Integrate, Solution
from ode_runner.types import State, Time, Times, Trajectory


@final
class ODERNN(SolvedSeriesModel):
    """An ODE evolves the state for the time between two rows; at each row, a GRU cell updates it by the values there.

    A row without values does not update the state, so that outputs may be asked for at such rows.

    The unit of the solver's time is one row. The unit of the ODE's time is the longest training series. In the rows'
    unit of time, a change of the field would move the final state much more than a change of the cell, and could not be
    learned together with it. The field is initialised as 0, so that the model begins as a GRU.

    Rubanova, Chen, Duvenaud. Latent ODEs for Irregularly-Sampled Time Series. NeurIPS 2019.
    """

    numerics: ClassVar[Numerics] = Numerics.ANY
    stem: "RowStem"

    def __init__(self, network: Network) -> None:
        network = reading_network(network, "odernn")
        super().__init__(network)
        self.stem, self.head = RowStem(network.cell()), network.head()
        self.field = GapField(network.flow(), unit=network.spec.duration)

    def ends(self, lengths: Tensor) -> Tensor:
        return lengths - 1

    def span(self, encoding: Encoding) -> int:
        return encoding.given[0].shape[1] - 1

    def along(self, y0: Encoding, places: Times, integrate: Integrate) -> Solution:
        rows, observed = y0.given
        h = y0.y0
        states = [h] * int((places == 0).sum())
        for row in range(1, rows.shape[1]):
            if len(states) == len(places):
                break
            due = places[(places > row - 1) & (places < row)]
            times = torch.cat([places.new_tensor([row - 1]), due, places.new_tensor([row])])
            flowed = integrate(self.field, h, times, given=(rows[:, row, -1:],)).ys
            h = torch.where(observed[:, row, None] > 0, self.stem.cell(rows[:, row], flowed[-1]), flowed[-1])
            states += [*flowed[1:-1], *[h] * int((places == row).sum())]
        return Solution(ys=torch.stack(states))

    def within(
        self, start: Trajectory, y0: Encoding, interval: Tensor, share: Tensor, integrate: Integrate
    ) -> Trajectory:
        """Over a share of the time to the next row."""
        gaps = part_of(y0.given[0][..., -1:], interval + 1)
        return flow_over(self.field, start, [share[..., None] * gaps], integrate)


@final
class GapField(WrappedField):
    """f(h) times the time between two rows, which is given in the rows' unit, (batch, 1), and divided by `unit`."""

    def __init__(self, inner: VectorField, *, unit: float) -> None:
        super().__init__(inner)
        self.unit = unit or 1.0  # series of one row have duration 0

    def forward(self, t: Time, y: State, *given: Tensor) -> State:
        (gap,) = given
        return gap / self.unit * self.inner(t, y)


@final
class RowStem(nn.Module):
    """The state after the first row, and the inputs of the cell for all rows, with 1 for rows that have values."""

    def __init__(self, cell: nn.GRUCell) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, rows: Tensor) -> Encoding:
        series = Series.of_rows(rows)
        observed = features(series)
        first = observed[:, 0]
        some = series.observed.any(dim=-1).to(observed)
        begin = self.cell(first, first.new_zeros(len(first), self.cell.hidden_size))
        return Encoding(begin, (observed, some), lengths=series.lengths)
