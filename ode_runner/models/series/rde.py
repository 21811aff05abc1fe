"""A neural rough differential equation: a controlled equation over windows of rows, by their log-signatures."""

from collections.abc import Iterator
from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ode_runner.controls.linear import LinearControl
from ode_runner.controls.series import Series
from ode_runner.encoding import Encoding
from ode_runner.field import VectorField
from ode_runner.models.base import Numerics
from ode_runner.models.series.control_stem import ControlStem
from ode_runner.models.series.series_model import SolvedSeriesModel, flow_over, part_of
from ode_runner.networks.base import Network
from ode_runner.networks.reading import reading_network
from ode_runner.networks.sizes import check_sizes
from ode_runner.problem import Integrate
from ode_runner.types import State, Time, Trajectory


@final
class RDE(SolvedSeriesModel):
    """dz = F(z) dX along straight lines from row to row, with one autonomous ODE per window of rows.

    By the log-ODE method of depth 2, the ODE of a window is dz/ds = sum_i F_i X_i + sum_ij A_ij DF_j F_i. X are the
    increments of the path over the window, and A_ij its areas, half the integral of x_i dx_j - x_j dx_i from the
    window's first row. It costs one product with dF/dz per channel, and takes one step per window, not one per row.

    Args:
        window: number of rows of a window.
        time: whether time is a channel.
        counts: whether channels include the share of rows at which each was observed so far; None: if values may be
            missing.

    Morrill, Salvi, Kidger, Foster. Neural Rough Differential Equations for Long Time Series. ICML 2021, section 3.
    """

    numerics: ClassVar[Numerics] = Numerics.ANY
    at_every_row: ClassVar[bool] = False
    stem: "WindowStem"

    def __init__(self, network: Network, *, window: int, time: bool, counts: bool | None) -> None:
        check_sizes("model", window=window)
        network = reading_network(network, "rde")
        super().__init__(network)
        spec = network.spec
        counted = spec.blanks if counts is None else counts
        channels = time + network.channels * (1 + counted)
        initial, rows = network.initial(channels), spec.input_shape[0]
        lines = ControlStem(LinearControl(), initial, time=time, counted=counted, rows=rows, at_every_row=False)
        self.stem = WindowStem(lines, window=window)
        self.field = WindowField(network.matrix_field(channels))
        self.head = network.head()

    def ends(self, lengths: Tensor) -> Tensor:
        return (lengths - 1 + self.stem.window - 1) // self.stem.window

    def within(
        self, start: Trajectory, y0: Encoding, interval: Tensor, share: Tensor, integrate: Integrate
    ) -> Trajectory:
        """Over a share of a window, whose equation does not change within it and is linear in what is given."""
        increments, areas = (part_of(z, interval) for z in y0.given)
        given = [(share[..., None] * increments)[:, :, None], (share[..., None, None] * areas)[:, :, None]]
        return flow_over(self.field, start, given, integrate)

    def remarks(self, inputs: Tensor) -> Iterator[str]:
        rows = inputs.shape[1]
        if self.stem.window > rows - 1:
            yield f"model.window={self.stem.window} is more than the {rows - 1} steps of a series: it is one window"


@final
class WindowStem(nn.Module):
    """Maps rows of series to the initial state; gives increments and areas of all windows, with breaks between them."""

    def __init__(self, rows: ControlStem, *, window: int) -> None:
        super().__init__()
        self.rows, self.window = rows, window

    def forward(self, rows: Tensor) -> Encoding:
        knots, lines = self.rows.path(rows)
        given = increments_and_areas(lines.squeeze(2), self.window)
        breaks, lengths = [*range(1, given[0].shape[1])], Series.of_rows(rows).lengths
        return Encoding(self.rows.initial(knots[:, 0]), given=given, breaks=breaks, lengths=lengths)


def increments_and_areas(steps: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Increments and areas of every window of lines (series, row, channel).

    They are (series, window, channel) and (series, window, channel, channel).

    The last window is filled with lines of length 0.
    """
    steps = pad(steps, (0, 0, 0, -steps.shape[1] % window)).unflatten(1, (-1, window))
    so_far = steps.cumsum(dim=2) - steps
    products = so_far.transpose(2, 3) @ steps
    return steps.sum(dim=2), (products - products.transpose(2, 3)) / 2


class WindowField(VectorField):
    """sum_i F_i X_i + sum_ij A_ij DF_j F_i for the window at time t, given X and A of all windows."""

    batched_time = True

    def __init__(self, matrices: nn.Module) -> None:
        super().__init__()
        self.matrices = matrices

    def forward(self, t: Time, y: State, *given: Tensor) -> State:
        increments, areas = (_of_window(t, z) for z in given)
        matrices = self.matrices(y)
        along = (matrices @ increments[..., None]).squeeze(2)
        return along + derivatives(self.matrices, y, matrices @ areas).sum(dim=2)


def derivatives(matrices: nn.Module, y: State, directions: Tensor) -> Tensor:
    """The derivative of each column of the matrices (batch, state, channel) along its direction in `directions`.

    The Jacobian-vector product is the derivative of a vector-Jacobian product, which all gradient modes can
    differentiate again.
    """
    channels = directions.shape[2]

    def columns(copies: Tensor) -> Tensor:
        of_all: Tensor = matrices(copies.flatten(0, 1))
        return of_all.unflatten(0, (channels, -1)).diagonal(dim1=0, dim2=3)

    found, pull, *_ = torch.func.vjp(columns, y.expand(channels, *y.shape))
    _, push, *_ = torch.func.vjp(lambda left: pull(left)[0], torch.zeros_like(found))
    pushed: Tensor = push(directions.movedim(2, 0))[0]
    return pushed


def _of_window(t: Time, given: Tensor) -> Tensor:
    """The given tensor of the window that contains `t`, (series, ...); `t` is () or (series,)."""
    window = t.detach().floor().long().clamp(0, given.shape[1] - 1)
    if t.dim():
        return given[torch.arange(len(given), device=given.device), window]
    return given.index_select(1, window.view(1)).squeeze(1)
