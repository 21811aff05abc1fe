"""The interface of networks for models that read a series row by row."""

import abc
from typing import final

import torch
from torch import Tensor, nn

from ode_runner.controls.series import Series
from ode_runner.errors import IncompatibleChoice
from ode_runner.field import VectorField
from ode_runner.networks.base import Network


class ReadingNetwork(Network):
    """A network whose state is updated by the rows of a series; the stem is a GRU over all of them."""

    takes_blanks = True
    of_series = True
    channels: int  # numbers in an observation

    @abc.abstractmethod
    def stem(self) -> "SeriesReader":
        """Maps rows of series to the state after the last row."""

    @abc.abstractmethod
    def initial(self, channels: int) -> nn.Module:
        """Maps the first point of a control, (batch, channels), to the state there."""

    @abc.abstractmethod
    def matrix_field(self, channels: int) -> nn.Module:
        """Maps states (batch, state) to matrices (batch, state, channels)."""

    @abc.abstractmethod
    def cell(self) -> nn.GRUCell:
        """Maps `features` of a row and the state before it to the state after it."""

    @abc.abstractmethod
    def flow(self) -> VectorField:
        """Maps a state to its slope between rows, which is bounded, and 0 before training."""


@final
class SeriesReader(nn.Module):
    """A GRU over the rows of series.

    Cho et al. Learning Phrase Representations using RNN Encoder-Decoder. EMNLP 2014.
    """

    def __init__(self, *, channels: int, hidden: int, rows: int) -> None:
        super().__init__()
        self.gru = nn.GRU(2 * channels + 1, hidden, batch_first=True)
        _, _, of_inputs, of_states = self.gru.all_weights[0]
        remember(of_inputs, of_states, rows=rows)

    def along(self, rows: Tensor) -> Tensor:
        """States (series, rows, hidden) after each row; for padding, after the last row."""
        series = Series.of_rows(rows)
        states = self.gru(features(series))[0]
        indices = torch.minimum(torch.arange(rows.shape[1], device=rows.device), series.lengths[:, None] - 1)
        return states.gather(1, indices[..., None].expand_as(states))

    def forward(self, rows: Tensor) -> Tensor:
        return self.along(rows)[:, -1]


@torch.no_grad()
def remember(of_inputs: Tensor, of_states: Tensor, *, rows: int) -> None:
    """Sets the biases of a GRU's update gate for memory times of 1 to `rows` rows, drawn on a log scale.

    With torch's default biases around 0, a unit forgets half of its state at every row: after 100 rows nothing of the
    first is left, and no gradient reaches it.

    Tallec, Ollivier. Can recurrent neural networks warp time? ICLR 2018, section 2.
    """
    units = len(of_inputs) // 3  # reset gate, update gate, new state
    update = slice(units, 2 * units)
    of_inputs[update] = (1 + max(rows - 2, 0) * torch.rand(units)).log()
    of_states[update] = 0.0


def features(series: Series) -> Tensor:
    """(series, rows, 2 channels + 1): the values (0 if blank), whether each was observed, and time since the last row.

    The time is 0 at the first row and in padding.
    """
    gaps = torch.cat([torch.zeros_like(series.times[:, :1]), series.times.diff(dim=1)], dim=1)
    return torch.cat([series.values.nan_to_num(0.0), series.observed.to(gaps), gaps[..., None]], dim=-1)


def reading_network(network: Network, model: str) -> ReadingNetwork:
    """The network, if it has the parts that a model of series needs.

    Raises:
        IncompatibleChoice: it does not have them.
    """
    if not isinstance(network, ReadingNetwork):
        raise IncompatibleChoice(
            f"model={model} is driven by a series, and the network chosen has no such pieces. Use network=sequence."
        )
    return network
