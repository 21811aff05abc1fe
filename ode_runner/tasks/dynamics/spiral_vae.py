"""The task of reconstructing, extrapolating and generating noisy spirals from a few observations."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from ode_runner.batch import Batch, Outputs, Split, TaskSpec
from ode_runner.encoding import Encoding
from ode_runner.errors import RefusedInput
from ode_runner.plots.curves import draw_curves
from ode_runner.plots.figure_types import Figure
from ode_runner.plots.spirals import draw_prior_samples, draw_reconstructions, draw_walk
from ode_runner.tasks.base import ModelView, Task
from ode_runner.tasks.batches import in_batches, shuffler
from ode_runner.tasks.observations import on_the_union, with_roots
from ode_runner.tasks.sizes import check_counts
from ode_runner.types import Scalar

TURNS, GRID = 3, 500  # of a whole spiral: revolutions, and times on its grid


@final
@dataclass(kw_only=True, eq=False)
class SpiralVAE(Task):
    """Segments of spirals, half of them clockwise, each observed at `observed` of `points` times.

    A model is trained on the evidence lower bound; the Gaussian likelihood has the standard deviation `noise` of the
    data. The test split asks for the `points` times of the observed window and for as many after it, and compares with
    noisy and clean values.

    Chen, Rubanova, Bettencourt, Duvenaud. Neural Ordinary Differential Equations. NeurIPS 2018, section 5.1.
    """

    train: int  # spirals
    validation: int
    test: int
    points: int  # times in the window; all spirals have the same grid
    observed: int  # observed times of these, drawn for each spiral without replacement
    noise: float  # standard deviation of each coordinate
    kl_epochs: int  # epochs in which the weight of the KL divergence rises to 1
    seed: int
    device: torch.device

    mean_over_samples: ClassVar[bool] = True
    test_only: ClassVar[frozenset[str]] = frozenset({"test"})  # it is drawn last by the generator
    gives_observations: ClassVar[bool] = True
    objective: ClassVar[str] = "elbo"
    higher_is_better: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self._check()
        self.spec = TaskSpec(
            input_shape=(self.observed, 4), output_shape=(2,), every_time=True, autonomous=True, sequence=True
        )
        generator = torch.Generator().manual_seed(self.seed)
        sizes = {Split.TRAIN: self.train, Split.VALIDATION: self.validation, Split.TEST: self.test}
        self.splits = {
            split: self._draw(size, self.points * (2 if split is Split.TEST else 1), generator)
            for split, size in sizes.items()
        }
        self.ts = TURNS * math.tau / GRID * torch.arange(2 * self.points, device=self.device)

    def rising_weights(self) -> Mapping[str, tuple[str, int]]:
        return {"kl": ("kl_epochs", self.kl_epochs)}

    def size(self, split: Split) -> int:
        return len(self.splits[split].clean)

    def batches(self, split: Split, *, batch_size: int, epoch: int) -> Iterator[Batch]:
        training, generator = split is Split.TRAIN, shuffler(split, seed=self.seed, epoch=epoch)
        for chosen in in_batches(self.size(split), batch_size, generator, device=self.device):
            batch = self.batch(self.splits[split], chosen, whole=split is Split.TEST)
            yield batch._replace(weights={"kl": min(1.0, (epoch + 1) / self.kl_epochs)}) if training else batch

    def batch(self, spirals: "Spirals", chosen: Tensor, *, whole: bool) -> Batch:
        """The chosen spirals, at all times observed in any of them or, if `whole`, at all times of the grid."""
        indices = spirals.indices[chosen]
        values = torch.stack([spirals.noisy[chosen], spirals.clean[chosen]], dim=-1)  # (batch, time, 2, versions)
        seen = values.gather(1, indices[..., None, None].expand(-1, -1, 2, 2))
        times = self.ts[indices]
        known = torch.ones_like(times, dtype=torch.bool)
        inputs = torch.cat([seen[..., 0], times[..., None], known[..., None]], dim=-1)
        if whole:
            mask = torch.zeros(len(self.ts), len(chosen), dtype=torch.bool, device=self.device)
            return Batch(
                inputs, self.ts, values.transpose(0, 1), observed=mask.scatter(0, indices.T, True), part="whole"
            )
        ts, targets, mask = on_the_union(times, seen, known)
        return Batch(inputs, ts, targets, observed=mask)

    def loss(self, outputs: Outputs, batch: Batch) -> Scalar:
        """The negative log likelihood; the model adds the KL divergence as its term `kl`, for the negative ELBO."""
        return -self._likelihood(outputs, batch)

    def metrics(self, outputs: Outputs, batch: Batch) -> dict[str, Scalar]:
        values = _samples(outputs, batch).mean(dim=1)
        elbo = {"elbo": self._likelihood(outputs, batch)}
        if "kl" in outputs.terms:
            kl = outputs.terms["kl"].mean()
            elbo = {"elbo": elbo["elbo"] - kl, "kl": kl}
        noisy, clean = ((values - batch.targets[..., version]).square().sum(dim=-1) / 2 for version in (0, 1))
        if batch.part != "whole":
            return elbo | {"mse": noisy[batch.observed].mean()}
        window, beyond = slice(None, self.points), slice(self.points, None)
        return elbo | {
            "mse_window_clean": clean[window].mean(),
            "mse_window_noisy": noisy[window].mean(),
            "mse_beyond_clean": clean[beyond].mean(),
            "mse_beyond_noisy": noisy[beyond].mean(),
        }

    def reported(self, means: Mapping[str, float]) -> dict[str, float]:
        return with_roots(means)

    def figures(self, view: ModelView) -> Iterator[tuple[str, Figure]]:
        if view.history:
            yield "curves", draw_curves(view.history, quality="rmse")
        test = self.splits[Split.TEST]
        shown = torch.arange(min(8, self.test), device=self.device)
        batch = self.batch(test, shown, whole=True)
        forward = _samples_of(view.predict(batch.inputs, self.ts), len(shown)).mean(dim=1)
        backward = None
        if view.continuous:
            backward = _samples_of(view.predict(batch.inputs, -self.ts[: self.points]), len(shown)).mean(dim=1)
        yield "reconstructions", draw_reconstructions(batch, forward, backward, window=self.points, tested=self.test)
        encoding = view.encode(batch.inputs)
        if encoding.given:
            return  # the field depends on an observed spiral, so that a latent state alone defines none
        z0 = _samples_of(encoding.y0[None], len(shown)).mean(dim=1)[0]
        prior = torch.randn(12, z0.shape[1], generator=torch.Generator().manual_seed(self.seed)).to(z0)
        yield "prior_samples", draw_prior_samples(view.decode(Encoding(prior), self.ts))
        steps = torch.linspace(0, 1, 8, device=z0.device)[:, None].to(z0)
        walk = Encoding(z0[0] + steps * (z0[1] - z0[0]))
        yield "walk", draw_walk(view.decode(walk, self.ts))

    def _check(self) -> None:
        check_counts(2, train=self.train, validation=self.validation, test=self.test, points=self.points)
        check_counts(1, kl_epochs=self.kl_epochs)
        if self.points > GRID // 2:
            raise RefusedInput(
                f"task.points={self.points} reaches beyond the data: a window and as much after it must fit into "
                f"{GRID} points. Use {GRID // 2} at most."
            )
        if not 1 <= self.observed <= self.points:
            raise RefusedInput(f"task.observed must be from 1 to task.points={self.points}, not {self.observed}.")
        if not 0 < self.noise < math.inf:
            raise RefusedInput(f"task.noise must be positive, not {self.noise}: it is the width of the likelihood.")

    def _draw(self, count: int, length: int, generator: torch.Generator) -> "Spirals":
        clean = spirals(count, length, generator)
        noisy = clean + self.noise * torch.randn(clean.shape, generator=generator)
        lots = torch.rand(count, self.points, generator=generator)
        indices = lots.argsort(dim=1)[:, : self.observed].sort(dim=1).values
        return Spirals(*(x.to(self.device) for x in (clean, noisy, indices)))

    def _likelihood(self, outputs: Outputs, batch: Batch) -> Scalar:
        error = _samples(outputs, batch) - batch.targets[:, None, ..., 0]
        log_density = -0.5 * (error / self.noise).square() - math.log(self.noise) - 0.5 * math.log(math.tau)
        seen = log_density.sum(dim=-1) * _known(batch)[:, None]
        return seen.sum(dim=0).mean()


@dataclass(frozen=True)
class Spirals:
    """The spirals of one split."""

    clean: Tensor  # (spirals, time, 2), over the window; in the test split also over as much after it
    noisy: Tensor
    indices: Tensor  # (spirals, observed): increasing indices of the observed times of the window


def spirals(count: int, points: int, generator: torch.Generator) -> Tensor:
    """Segments (count, points, 2) of two spirals, alternately: one clockwise and outward, the other counter-clockwise.

    With phase phi from 0 to 6 pi: radius 15 / (6 pi + 1 - phi) at angle 6 pi + 1 - phi around (-5, 0), and radius 0.3
    phi at angle phi around (5, 0); the segments begin at random. (The spirals of torchdiffeq's latent_ode.py.)
    """
    whole = TURNS * math.tau
    phi = torch.linspace(0, whole, GRID)
    begin = torch.randint(GRID - points + 1, (count, 1), generator=generator)
    piece = phi[begin + torch.arange(points)]
    clockwise = (torch.arange(count) % 2 == 0)[:, None]
    angle = torch.where(clockwise, whole + 1 - piece, piece)
    radius = torch.where(clockwise, 15 / (whole + 1 - piece), 0.3 * piece)
    centre = torch.where(clockwise, -5.0, 5.0)
    return torch.stack([radius * angle.cos() + centre, radius * angle.sin()], dim=-1)


def _samples(outputs: Outputs, batch: Batch) -> Tensor:
    return _samples_of(outputs.values, len(batch.inputs))


def _samples_of(values: Tensor, batch: int) -> Tensor:
    """Reshapes (time, samples * batch, 2) to (time, samples, batch, 2)."""
    return values.unflatten(1, (-1, batch))


def _known(batch: Batch) -> Tensor:
    return torch.ones(batch.targets.shape[:2], device=batch.ts.device) if batch.observed is None else batch.observed
