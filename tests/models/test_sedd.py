"""Ratios of probabilities of texts: their conversions, the bound that they have, and the way back by them."""

from typing import Literal, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from ode_runner.batch import Batch, TaskSpec
from ode_runner.errors import IncompatibleChoice
from ode_runner.gradients.backprop import Backprop
from ode_runner.integrator import Integrator
from ode_runner.models.texts.replaced_text import kernel_noise
from ode_runner.models.texts.sedd import SEDD
from ode_runner.objectives.score_entropy import score_entropy
from ode_runner.paths.corruption import LinearCorruption
from ode_runner.paths.token_field import RatioField
from ode_runner.solvers.markov_chains.gillespie import Gillespie
from ode_runner.tasks.base import Task
from ode_runner.tasks.texts.token_distributions import MarkovDistribution, random_transition
from ode_runner.types import Time
from tests.composition import Compose
from tests.problems import build

Kernel = Literal["absorbing", "uniform"]
DISTRIBUTION = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
ENTROPY = -float((DISTRIBUTION * DISTRIBUTION.log()).sum())
KERNELS: tuple[Kernel, ...] = ("absorbing", "uniform")
TIMES = torch.tensor([0.05, 0.4, 0.9], dtype=torch.float64)


class KnownRatioField(RatioField):
    """The true ratios of texts of one token; `wrong` is added to their logarithm."""

    def __init__(self, kernel: Kernel, wrong: Tensor | None = None) -> None:
        super().__init__(kernel_noise(kernel, 3, masked=0.5), tokens=3, schedule=LinearCorruption())
        self.wrong = torch.zeros(3, dtype=torch.float64) if wrong is None else wrong

    def marginal(self, t: Tensor) -> Tensor:
        return (1 - t) * torch.cat([DISTRIBUTION, self.noise[3:] * 0]) + t * self.noise

    def logits(self, t: Time, x: Tensor, *given: Tensor) -> Tensor:
        distribution, (kept, gone) = self.marginal(t), self.shares(t)
        ratios = (distribution / distribution[x][..., None]).log()[..., :3]
        found = ratios - (kept / gone / 3).log() if len(self.noise) > 3 else ratios / kept
        return found + self.wrong


def states(field: RatioField) -> Tensor:
    return torch.arange(len(field.noise))[:, None]


def entropy_at(field: RatioField, t: Tensor) -> Tensor:
    """The mean of the score entropy over texts and what noise makes of them."""
    x, total = states(field), torch.zeros((), dtype=torch.float64)
    log_ratios = field.log_ratios(t, x, field.logits(t, x))
    for token in range(3):
        likely = (1 - t) * (x[:, 0] == token) + t * field.noise
        each = score_entropy(field, t, x, torch.full_like(x, token), log_ratios)
        total = total + DISTRIBUTION[token] * torch.where(likely > 0, likely * each, 0.0).sum()
    return total


def bound(field: RatioField) -> float:
    """The integral over time, by t = u^2."""
    places, weights = np.polynomial.legendre.leggauss(80)
    middle = zip((places + 1) / 2, weights, strict=True)
    return float(sum(weight * u * float(entropy_at(field, torch.tensor(u * u).double())) for u, weight in middle))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("t", TIMES)
def test_the_true_ratios_are_those_of_the_marginals_and_of_the_true_denoiser(kernel: Kernel, t: Tensor) -> None:
    field = KnownRatioField(kernel)
    x, distribution = states(field), field.marginal(t)
    likelihood = field.likelihood(t, x)[:, 0]
    posterior = DISTRIBUTION * likelihood / (DISTRIBUTION * likelihood).sum(dim=1, keepdim=True)
    torch.testing.assert_close(field.denoise(t, x)[:, 0], posterior)
    jumping = field.noise > 0  # where noise draws what stands
    expected = distribution / distribution[:, None]
    torch.testing.assert_close(field.ratios_of(t, x, posterior[:, None])[jumping, 0], expected[jumping])
    found = field.log_ratios(t, x, field.logits(t, x)).exp()
    torch.testing.assert_close(found[jumping, 0], expected[jumping])


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_step_back_is_that_of_staggered_ratios(kernel: Kernel) -> None:
    """Lou et al.: (ratios exp(-noise of the step))(y) times q(x | y), of any ratios that are of some distribution."""
    field, [u, t, _] = KnownRatioField(kernel), TIMES
    x, kept = states(field), (1 - TIMES[1]) / (1 - TIMES[0])
    ratios = field.log_ratios(t, x, field.logits(t, x)).exp()[:, 0]
    staggered = (ratios - (1 - kept) * field.noise * ratios.sum(dim=1, keepdim=True)) / kept
    onward = kept * torch.eye(len(field.noise)) + (1 - kept) * field.noise[:, None]
    distribution = field.reverse_transition(t, u, x, field.denoise(t, x))[:, 0]
    jumping = field.noise > 0
    torch.testing.assert_close(distribution[jumping], (staggered * onward)[jumping])


@pytest.mark.parametrize("kernel", KERNELS)
def test_rates_turn_the_noise_round(kernel: Kernel) -> None:
    """dp/d(-t) = p R, in steps of the midpoint rule."""
    field, steps = KnownRatioField(kernel), 400
    distribution, x, dt = field.marginal(torch.tensor(0.95).double()), states(field), (0.95 - 0.1) / steps
    for i in range(steps):
        rates = field.rates(torch.tensor(0.95 - (i + 0.5) * dt).double(), x)[:, 0].clone()
        rates.fill_diagonal_(0.0)
        generator = rates - rates.sum(dim=1).diag()
        distribution = distribution @ torch.linalg.matrix_exp(dt * generator)
    torch.testing.assert_close(distribution, field.marginal(torch.tensor(0.1).double()), atol=1e-4, rtol=0)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_bound_of_the_true_ratios_is_the_entropy_and_every_other_is_more(kernel: Kernel) -> None:
    assert bound(KnownRatioField(kernel)) == pytest.approx(ENTROPY, abs=1e-5)
    wrong = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64)
    above, below = (bound(KnownRatioField(kernel, sign * 0.2 * wrong)) - ENTROPY for sign in (1, -1))
    assert min(above, below) > 2e-4
    assert above == pytest.approx(below, rel=0.2)  # a minimum: no slope


def made(composed: Compose, kernel: Kernel, *, known: bool = False) -> SEDD:
    torch.manual_seed(0)
    distribution = MarkovDistribution(random_transition(8, scale=2.0, seed=3), length=16) if known else None
    spec = TaskSpec(input_shape=(16,), output_shape=(16, 8), tokens=8, field=distribution)
    return SEDD(build(composed, "network", "transformer", spec, width=8, heads=2, positions="relative"), kernel=kernel)


def loss_of(model: SEDD, text: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    integrate = Integrator(solver=Gillespie(num_steps=1, step_size=None), gradient=Backprop())
    batch = Batch(text, torch.tensor([0.0, 1.0]), text)
    loss = SEDD.objective.loss(model, cast(Task, None), batch, integrate)
    assert integrate.ledger.tally.evaluations == 1
    return loss.total, dict(loss.scalars())


@pytest.mark.parametrize("kernel", KERNELS)
def test_ratios_of_equally_likely_texts_have_the_logarithm_of_their_number(composed: Compose, kernel: Kernel) -> None:
    model = made(composed, kernel)
    for parameter in model.field.inner.last.parameters():  # type: ignore[union-attr]
        torch.nn.init.zeros_(parameter)
    total, _ = loss_of(model, torch.randint(8, (4000, 16)))
    assert float(total.detach()) == pytest.approx(33.27, abs=0.8)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_floor_is_the_entropy_and_gradients_are_finite(composed: Compose, kernel: Kernel) -> None:
    model = made(composed, kernel, known=True)
    assert model.known is not None
    text = cast(MarkovDistribution, model.known).draw(600, torch.Generator().manual_seed(0))
    total, _ = loss_of(model, text)
    total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
        assert float(parameter.grad.abs().sum()) > 0, name
    _, numbers = loss_of(model.eval(), text)
    assert float(numbers["nelbo_floor"]) == pytest.approx(-float(model.known.log_density(text).mean()), abs=0.8)
    assert float(numbers["nelbo"]) > float(numbers["nelbo_floor"])


def test_a_causal_network_is_refused(composed: Compose) -> None:
    spec = TaskSpec(input_shape=(4,), output_shape=(4, 3), tokens=3)
    network = build(composed, "network", "transformer", spec, causal=True)
    with pytest.raises(IncompatibleChoice, match=r"model=sedd predicts .* Use network.causal=false"):
        SEDD(network, kernel="uniform")
