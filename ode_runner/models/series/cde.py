"""A neural controlled differential equation."""

from collections.abc import Iterator
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from ode_runner.controls.base import Control, path_at, slope_at
from ode_runner.controls.named import ControlName, control_named
from ode_runner.encoding import Encoding
from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.field import VectorField
from ode_runner.models.base import Numerics
from ode_runner.models.series.control_stem import ControlStem
from ode_runner.models.series.series_model import SolvedSeriesModel, flow_over, part_of
from ode_runner.networks.base import Network
from ode_runner.networks.reading import reading_network
from ode_runner.plots.animation import Picture
from ode_runner.plots.series import draw_control
from ode_runner.problem import Integrate
from ode_runner.types import State, Time, Trajectory

POINTS = 40  # points of a picture between two rows


@final
class CDE(SolvedSeriesModel):
    """dz = F(z) dX along a control X through the rows of a series; initially, z is an affine map of the first row.

    Args:
        control: the interpolation of rows by X; see `ode_runner.controls`.
        time: whether time is a channel of X. Without it, the model does not see how fast values change.
        counts: whether X includes the share of rows at which each channel was observed so far; None: if values may be
            missing.

    Kidger, Morrill, Foster, Lyons. Neural Controlled Differential Equations for Irregular Time Series. NeurIPS 2020.
    """

    numerics: ClassVar[Numerics] = Numerics.ANY
    stem: ControlStem

    def __init__(self, network: Network, *, control: ControlName, time: bool, counts: bool | None) -> None:
        network = reading_network(network, "cde")
        super().__init__(network)
        spec, self.control = network.spec, control_named(control)
        _check(control, self.control, time=time, causal=spec.causal, blanks=spec.blanks)
        counted = spec.blanks if counts is None else counts
        channels = time + network.channels * (1 + counted)
        initial, rows = network.initial(channels), spec.input_shape[0]
        self.stem = ControlStem(self.control, initial, time=time, counted=counted, rows=rows, at_every_row=spec.causal)
        self.field = ControlledField(network.matrix_field(channels))
        self.head = network.head()

    def ends(self, lengths: Tensor) -> Tensor:
        return self.control.pieces * (lengths - 1)

    def within(
        self, start: Trajectory, y0: Encoding, interval: Tensor, share: Tensor, integrate: Integrate
    ) -> Trajectory:
        """Over a share of a piece, whose coefficients are scaled to a piece of length 1."""
        coefficients = part_of(y0.given[0], interval)
        powers = share[..., None] ** torch.arange(1, coefficients.shape[2] + 1, device=share.device)
        return flow_over(self.field, start, [(coefficients * powers[..., None])[:, :, None]], integrate)

    def figures(self, inputs: Tensor) -> Iterator[tuple[str, Picture]]:
        """The control of the first input."""
        knots, coefficients = (x[0].cpu() for x in self.stem.path(inputs[:1]))
        s = torch.linspace(0, len(coefficients), POINTS * (len(knots) - 1) + 1).to(knots)
        names = self.stem.names(inputs.shape[-1] - 2)
        yield "control", draw_control(s / self.control.pieces, path_at(s, knots[0], coefficients), knots, names)


class ControlledField(VectorField):
    """F(z) dX/ds, given the coefficients of dX/ds."""

    batched_time = True

    def __init__(self, matrices: nn.Module) -> None:
        super().__init__()
        self.matrices = matrices

    def forward(self, t: Time, y: State, *given: Tensor) -> State:
        (coefficients,) = given
        return (self.matrices(y) * slope_at(t, coefficients)[:, None]).sum(
            dim=-1
        )  # cheaper than a product by a library


def _check(name: str, control: Control, *, time: bool, causal: bool, blanks: bool) -> None:
    """Raises IncompatibleChoice or RefusedInput if the control does not suit the task, or lacks the time channel."""
    if causal and not (control.causal_with_blanks if blanks else control.causal):
        why = "fills in what is missing from later rows" if control.causal else "leads from row to row by all of them"
        raise IncompatibleChoice(
            f"this task asks for an answer at every row from no later one, and model.control={name} {why}. "
            f"Use model.control={'rectilinear' if blanks else 'hermite'}."
        )
    if control.pieces > 1 and not time:
        raise RefusedInput(
            f"model.control={name} goes on in time first, and model.time=false leaves time out. Use model.time=true, "
            "or model.control=linear."
        )
