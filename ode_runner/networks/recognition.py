"""Recognition networks: from a sequence of observations to the distribution of an initial state."""

import math
from typing import final

import torch
from torch import Tensor, nn

from ode_runner.batch import TaskSpec
from ode_runner.encoding import Encoding
from ode_runner.errors import IncompatibleChoice


def observed_channels(spec: TaskSpec) -> int:
    """The number of values in an observation of a series, without its time and mask."""
    return spec.input_shape[1] - 2


def observed_coordinates(spec: TaskSpec, network: str) -> int:
    """`observed_channels` of a task whose outputs are observations.

    Raises:
        IncompatibleChoice: its outputs are something else.
    """
    if not spec.every_time or spec.causal:
        raise IncompatibleChoice(
            f"network={network} predicts observations at other times, and this task asks for something else. "
            "Use network=sequence."
        )
    return observed_channels(spec)


@final
class Recognition(nn.Module):
    """q(z0 | observations), Gaussian: a GRU reads the sequence backward in time, with the gap to the next older row.

    Inputs are (batch, rows, coordinates + 2): the observation, its time, and 1 (0 for padding). With `blanks`, some
    numbers of an observation are NaN: the GRU receives 0 instead, and a mask of the known ones. In training, one z0 is
    sampled for each sequence. In evaluation there are `samples`, by the points of `normal_points`, so that a sequence's
    result does not depend on the rest of the batch; they follow each other along the batch axis. The KL divergence of q
    from the standard normal distribution is the loss term `kl`.

    Kingma, Welling. Auto-Encoding Variational Bayes. ICLR 2014. Chen, Rubanova, Bettencourt, Duvenaud. Neural Ordinary
    Differential Equations. NeurIPS 2018, section 5.
    """

    def __init__(self, *, coordinates: int, hidden: int, latent: int, samples: int, blanks: bool) -> None:
        super().__init__()
        self.blanks = blanks
        self.gru = nn.GRU(coordinates * (1 + blanks) + 1, hidden, batch_first=True)
        self.posterior = nn.Linear(hidden, 2 * latent)
        self.points = nn.Buffer(normal_points(samples, latent), persistent=False)

    def forward(self, inputs: Tensor) -> Encoding:
        mean, log_variance = self.posterior(self._read(inputs)).chunk(2, dim=-1)
        kl = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(dim=-1)
        z0 = mean + (0.5 * log_variance).exp() * self._noise(mean)
        return Encoding(z0.flatten(0, 1), terms={"kl": kl})

    def _read(self, inputs: Tensor) -> Tensor:
        """The GRU's last state, after it has read the known rows from the latest to the earliest."""
        values, times, known = inputs[..., :-2], inputs[..., -2], inputs[..., -1] > 0
        if self.blanks:
            values = torch.cat([values.nan_to_num(0.0), (~values.isnan()).to(values)], dim=-1)
        order = torch.where(known, -times, torch.inf).argsort(dim=1)
        times = times.gather(1, order)
        lengths = known.sum(dim=1)
        older = torch.cat([times[:, 1:], times[:, :1]], dim=1)
        row, last = torch.arange(times.shape[1], device=times.device), lengths[:, None] - 1
        gaps = times - older.masked_fill(row == last, 0.0)
        rows = torch.cat([values.gather(1, order[..., None].expand_as(values)), gaps[..., None]], dim=-1)
        rows = rows.masked_fill((row > last)[..., None], 0.0)  # padding may be NaN, and 0 times NaN is no gradient
        if not (rows.is_cuda or torch.compiler.is_exporting()):  # avoids a GPU sync; an export has no lengths
            rows = rows[:, : int(lengths.max())]
        states = self.gru(rows)[0]
        return states.gather(1, last[..., None].expand(-1, 1, states.shape[2])).squeeze(1)

    def _noise(self, mean: Tensor) -> Tensor:
        """Standard normal noise (samples, batch or 1, latent)."""
        if self.training:
            # Always float32, so that a reference in double precision has the same noise.
            return torch.randn_like(mean, dtype=torch.float32)[None].to(mean)
        return self.points[:, None].to(mean)


def normal_points(count: int, dimensions: int) -> Tensor:
    """Fixed points (count, dimensions) whose means of functions are near those of a standard normal distribution.

    They are exact for linear functions if there are two points or more, and for quadratic ones from twice the number of
    dimensions on: orthogonal directions with both signs. All sequences share the points, so that the error of random
    ones would not fall with the number of sequences.

    Stroud. Approximate Calculation of Multiple Integrals. Prentice-Hall 1971, 8.2.
    """
    generator, pairs = torch.Generator().manual_seed(0), count // 2
    drawn = torch.randn(max(1, pairs), dimensions, generator=generator)
    if count == 1:
        return drawn
    left, _, right = torch.linalg.svd(drawn.double(), full_matrices=False)
    directions = math.sqrt(max(pairs, dimensions) * count / (2 * pairs)) * left @ right
    origin = directions.new_zeros(count % 2, dimensions)
    return torch.cat([directions, -directions, origin]).float()


@final
class Decoder(nn.Sequential):
    """Maps a latent state to an observation, with one hidden layer."""

    def __init__(self, *, latent: int, width: int, coordinates: int) -> None:
        super().__init__(nn.Linear(latent, width), nn.ReLU(), nn.Linear(width, coordinates))
