"""Glow: a flow for images."""

import math
from collections.abc import Iterator, Sequence
from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ode_runner.batch import TaskSpec
from ode_runner.errors import IncompatibleChoice
from ode_runner.models.flows.discrete_flow import DiscreteFlow
from ode_runner.models.flows.flow_layers import ActNorm, Chain, FlowLayer, Mapped, SqueezedPart
from ode_runner.networks.base import Network
from ode_runner.networks.sizes import check_sizes
from ode_runner.types import State

LARGEST_LOG_SCALE = 2.0  # bound of a coupling's log scale: unbounded ones diverge


@final
class Glow(DiscreteFlow):
    """`steps` steps on each of `levels` levels; a step is an ActNorm, a 1x1 convolution and an affine coupling.

    Each level begins with a squeeze to a quarter of the pixels; after it, half of the channels are split off.

    Args:
        width: channels within a coupling.

    Kingma, Dhariwal. Glow: Generative Flow with Invertible 1x1 Convolutions. NeurIPS 2018. There the distribution of
    the parts that are split off is learned; here it is standard normal.
    """

    of_images: ClassVar[bool] = True

    def __init__(self, network: Network, *, levels: int, steps: int, width: int) -> None:
        check_sizes("model", levels=levels, steps=steps, width=width)
        shape = network.spec.input_shape
        if network.spec.condition or len(shape) != 3 or any(side % 2**levels for side in shape[1:]):
            raise IncompatibleChoice(
                f"model=glow halves the sides of images {levels} times (model.levels), and takes no condition; this "
                f"task's data have shape {shape}{' and a condition' if network.spec.condition else ''}. Use "
                f"{_instead(network.spec)}."
            )
        super().__init__(network, _steps(shape, levels, steps, width))


def _instead(spec: TaskSpec) -> str:
    """What to type for data that cannot be halved so often, or have a condition."""
    shape = spec.input_shape
    if math.prod(shape) == 1:
        return "model=cnf"
    side = math.gcd(*shape[1:]) if len(shape) == 3 and not spec.condition else 1
    levels = (side & -side).bit_length() - 1  # how often 2 divides both sides
    return "model=coupling_flow" + (f", or model.levels={levels}" if levels else "")


def _steps(shape: Sequence[int], levels: int, steps: int, width: int) -> Iterator[FlowLayer]:
    channels, height, across = shape
    for level in range(1, levels + 1):
        channels, height, across = 4 * channels, height // 2, across // 2
        for _ in range(steps):
            step = ActNorm((channels, height, across)), InvertibleConvolution(channels), ImageCoupling(channels, width)
            yield SqueezedPart(Chain(step), level=level)
        channels //= 2


@final
class InvertibleConvolution(FlowLayer):
    """A 1x1 convolution with the matrix P L U: a fixed permutation and learned triangular matrices.

    L has ones on its diagonal, U has `sign` exp(d), so that log |det| is the sum of d, for every pixel. `factors` holds
    L below the diagonal, U above, and d on it. The initial matrix is a random rotation.
    """

    permutation: Tensor
    sign: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        rotation, _ = torch.linalg.qr(torch.randn(channels, channels))
        permutation, lower, upper = torch.linalg.lu(rotation)
        self.register_buffer("permutation", permutation)
        self.register_buffer("sign", upper.diagonal().sign())
        log_diagonal = upper.diagonal().abs().log().diag()
        self.factors = nn.Parameter(lower.tril(-1) + log_diagonal + upper.triu(1))

    def forward(self, x: State, given: Sequence[Tensor]) -> Mapped:
        lower, upper = self._triangular()
        weight = self.permutation @ lower @ upper
        return Mapped(F.conv2d(x, weight[:, :, None, None]), self._log_det(x))

    def inverse(self, y: State, given: Sequence[Tensor]) -> Mapped:
        lower, upper = self._triangular()
        columns = self.permutation.T @ y.transpose(0, 1).flatten(1)
        columns = torch.linalg.solve_triangular(lower, columns, upper=False, unitriangular=True)
        columns = torch.linalg.solve_triangular(upper, columns, upper=True)
        x = columns.view(y.shape[1], y.shape[0], *y.shape[2:]).transpose(0, 1)
        return Mapped(x, -self._log_det(y))

    def _triangular(self) -> tuple[Tensor, Tensor]:
        identity = torch.eye(len(self.sign), dtype=self.factors.dtype, device=self.factors.device)
        diagonal = (self.sign * self.factors.diagonal().exp()).diag()
        return self.factors.tril(-1) + identity, self.factors.triu(1) + diagonal

    def _log_det(self, x: State) -> Tensor:
        return (x[0, 0].numel() * self.factors.diagonal().sum()).expand(len(x))


@final
class ImageCoupling(FlowLayer):
    """Scales and shifts the second half of the channels by convolutions of the first; initially the identity."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.kept = channels // 2
        first = nn.Conv2d(self.kept, width, 3, padding=1)
        last = nn.Conv2d(width, 2 * (channels - self.kept), 3, padding=1)
        for p in last.parameters():
            nn.init.zeros_(p)
        # tanh first: a pixel that is lit in a test image, but in no training image, must not shift others far
        self.layers = nn.Sequential(first, nn.Tanh(), nn.Conv2d(width, width, 1), nn.SiLU(), last)

    def forward(self, x: State, given: Sequence[Tensor]) -> Mapped:
        kept, changed = x.tensor_split([self.kept], dim=1)
        shift, log_scale = self._of(kept)
        y = torch.cat([kept, (changed + shift) * log_scale.exp()], dim=1)
        return Mapped(y, log_scale.flatten(1).sum(dim=1))

    def inverse(self, y: State, given: Sequence[Tensor]) -> Mapped:
        kept, changed = y.tensor_split([self.kept], dim=1)
        shift, log_scale = self._of(kept)
        x = torch.cat([kept, changed * (-log_scale).exp() - shift], dim=1)
        return Mapped(x, -log_scale.flatten(1).sum(dim=1))

    def _of(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        shift, raw = self.layers(kept).chunk(2, dim=1)
        return shift, LARGEST_LOG_SCALE * torch.tanh(raw / LARGEST_LOG_SCALE)
