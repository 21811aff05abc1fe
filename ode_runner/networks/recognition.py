"""From a sequence of observations to the distribution of an initial state: what the variational networks share."""

from typing import final

import torch
from torch import Tensor, nn

from ode_runner.batch import TaskSpec
from ode_runner.encoding import Encoding
from ode_runner.errors import IncompatibleChoice


def observed_channels(spec: TaskSpec) -> int:
    """How many numbers an observation of a series has, besides its time and whether it is known."""
    return spec.input_shape[1] - 2


def observed_coordinates(spec: TaskSpec, network: str) -> int:
    """`observed_channels` of a task whose answers are observations.

    Raises:
        IncompatibleChoice: they are not.
    """
    if not spec.every_time or spec.causal:
        raise IncompatibleChoice(
            f"network={network} predicts observations at other times, and this task asks for something else. "
            "Use network=sequence."
        )
    return observed_channels(spec)


@final
class Recognition(nn.Module):
    """q(z0 | observations), Gaussian: a GRU reads the sequence backwards in time, told the gap to the next older one.

    Inputs are (batch, rows, coordinates + 2): the observation, its time, and 1, or 0 for a row that is only padding.
    With `blanks` some numbers of an observation are NaN: the GRU is given 0 there, and which of them are known.
    In training one z0 is drawn for each sequence. In evaluation `samples` are, from the same `samples` points of a
    standard normal for every sequence, so that its result does not depend on its company; they follow each other
    along the batch axis. The divergence of q from the standard normal is the term `kl` of the loss.

    Kingma, Welling. Auto-Encoding Variational Bayes. ICLR 2014. Chen, Rubanova, Bettencourt, Duvenaud. Neural Ordinary
    Differential Equations. NeurIPS 2018, section 5.
    """

    def __init__(self, *, coordinates: int, hidden: int, latent: int, samples: int, blanks: bool) -> None:
        super().__init__()
        self.blanks = blanks
        self.gru = nn.GRU(coordinates * (1 + blanks) + 1, hidden, batch_first=True)
        self.posterior = nn.Linear(hidden, 2 * latent)
        self.samples = samples

    def forward(self, inputs: Tensor) -> Encoding:
        mean, log_variance = self.posterior(self._read(inputs)).chunk(2, dim=-1)
        kl = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(dim=-1)
        z0 = mean + (0.5 * log_variance).exp() * self._noise(mean)
        return Encoding(z0.flatten(0, 1), terms={"kl": kl})

    def _read(self, inputs: Tensor) -> Tensor:
        """The GRU's last state, having read known rows from the latest to the earliest."""
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
        if not (rows.is_cuda or torch.compiler.is_exporting()):  # a GPU would be waited for; a file knows no lengths
            rows = rows[:, : int(lengths.max())]
        states = self.gru(rows)[0]
        return states.gather(1, last[..., None].expand(-1, 1, states.shape[2])).squeeze(1)

    def _noise(self, mean: Tensor) -> Tensor:
        """Standard normal (samples, batch or 1, latent)."""
        if self.training:
            # Of one type, whatever the state's, so that a reference in double precision draws the same.
            return torch.randn_like(mean, dtype=torch.float32)[None].to(mean)
        generator = torch.Generator().manual_seed(0)
        return torch.randn(self.samples, 1, mean.shape[1], generator=generator).to(mean)


@final
class Decoder(nn.Sequential):
    """From a latent state to an observation: one hidden layer."""

    def __init__(self, *, latent: int, width: int, coordinates: int) -> None:
        super().__init__(nn.Linear(latent, width), nn.ReLU(), nn.Linear(width, coordinates))
