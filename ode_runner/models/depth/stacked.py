"""An ODE-Net with piecewise constant weights in depth."""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from ode_runner.encoding import Encoding
from ode_runner.errors import RefusedInput
from ode_runner.field import VectorField
from ode_runner.models.base import Model, Numerics
from ode_runner.networks.base import Network
from ode_runner.networks.sizes import check_sizes
from ode_runner.plots.animation import Picture
from ode_runner.plots.depth import draw_weights
from ode_runner.problem import Integrate, Solution
from ode_runner.regularizers.depth_varying import DepthVarying, squared_differences
from ode_runner.types import Scalar, Times


@final
class Stacked(Model, DepthVarying):
    """`pieces` fields, each for an equal part of the time from 0 to `period`, in the task's unit.

    Before time 0 the first field applies, after `period` the last one. Each part is a separate solve, so that no step
    spans a discontinuity.

    Massaroli, Poli, Park, Yamashita, Asama. Dissecting Neural ODEs. NeurIPS 2020.
    """

    numerics: ClassVar[Numerics] = Numerics.ANY

    def __init__(self, network: Network, *, pieces: int, period: float) -> None:
        super().__init__(network)
        check_sizes("model", pieces=pieces)
        if period <= 0:
            raise RefusedInput(f"model.period must be above 0, not {period}.")
        self.period = period
        self.fields = nn.ModuleList(network.field() for _ in range(pieces))
        self.head = network.head()
        self.edges = [-math.inf, *(period * k / pieces for k in range(1, pieces)), math.inf]

    def evolve(self, y0: Encoding, ts: Times, integrate: Integrate) -> Solution:
        states = [y0.y0[None]]
        for field, times, outputs in self._solves(ts):
            ys = integrate(field, y0, times).ys
            states.append(ys[1 : 1 + outputs])
            y0 = y0._replace(y0=ys[-1])
        return Solution(ys=torch.cat(states))

    def roughness(self) -> Scalar:
        return squared_differences(self.fields) * len(self.fields) / self.period

    def figures(self, inputs: Tensor) -> Iterator[tuple[str, Picture]]:
        """The weights over depth, which jump from piece to piece."""
        del inputs
        of_pieces = torch.stack([parameters_to_vector(field.parameters()) for field in self.fields])
        edges = torch.linspace(0, self.period, len(self.fields) + 1)
        times = torch.stack([edges[:-1], edges[1:]], dim=1).flatten()
        yield "weights", draw_weights(times, of_pieces.repeat_interleave(2, dim=0))

    def _solves(self, ts: Times) -> Iterator[tuple[VectorField, Times, int]]:
        """The field of each solve, its times, and the number of outputs after its first time.

        Every solve ends where the next one begins: at the end of a part, or at the last output.
        """
        sign = 1 if ts[-1] >= ts[0] else -1
        parts = list(zip(self.fields, pairwise(self.edges), strict=True))[::sign]
        start, done = ts[:1], 1
        for field, (low, high) in parts:
            end = high if sign > 0 else low
            ahead = ts[done:]
            due = ahead[sign * ahead <= sign * end]
            done += len(due)
            last = done == len(ts)
            if not last and sign * end <= sign * float(start):
                continue  # the times begin after this part
            assert isinstance(field, VectorField)
            times = torch.cat([start, due] if last else [start, due, ts.new_tensor([end])])
            yield field, times, len(due)
            if last:
                return
            start = times[-1:]
