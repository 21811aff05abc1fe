"""Masked diffusion of texts: its bound, its denoiser, and what is refused."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from ode_runner.batch import Batch, TaskSpec
from ode_runner.errors import IncompatibleChoice
from ode_runner.gradients.backprop import Backprop
from ode_runner.integrator import Integrator
from ode_runner.models.texts.masked_diffusion import MaskedDiffusion
from ode_runner.objectives.masked_likelihood import BOUND, COPIES, MaskedLikelihood, masks
from ode_runner.solvers.markov_chains.gillespie import Gillespie
from ode_runner.tasks.texts.markov_text import MarkovText
from ode_runner.tasks.texts.token_distributions import MarkovDistribution, random_transition
from tests.composition import Compose
from tests.problems import build

DISTRIBUTION = MarkovDistribution(random_transition(8, scale=2.0, seed=3), length=16)


def model(composed: Compose, *, known: bool = True, **options: Any) -> MaskedDiffusion:
    spec = TaskSpec(input_shape=(16,), output_shape=(16, 8), tokens=8, field=DISTRIBUTION if known else None)
    network = build(composed, "network", "transformer", spec, width=16, heads=2, positions="relative", time=False)
    every = {"schedule": "linear", "weighting": "elbo"} | options
    return MaskedDiffusion(network, **every)


def bound_of(made: MaskedDiffusion, text: Tensor) -> Any:
    integrate = Integrator(solver=Gillespie(num_steps=1, step_size=None), gradient=Backprop())
    task = MarkovText.__new__(MarkovText)
    loss = MaskedLikelihood().loss(made, task, Batch(text, torch.tensor([0.0, 1.0]), text), integrate)
    return loss, integrate.ledger.tally.evaluations


@pytest.mark.parametrize("schedule", ["linear", "cosine", "quadratic"])
def test_equal_guesses_are_bounded_by_the_logarithm_of_all_texts(schedule: str, composed: Compose) -> None:
    made = model(composed, schedule=schedule)
    for parameter in made.field.inner.last.parameters():  # type: ignore[union-attr]
        torch.nn.init.zeros_(parameter)
    for made_in in (made.train(), made.eval()):
        loss, evaluations = bound_of(made_in, torch.randint(8, (40, 16)))
        assert float(loss.total.detach()) == pytest.approx(16 * math.log(8), rel=1e-6)
        assert float(loss.reported[BOUND].detach()) == pytest.approx(33.2711, abs=1e-3)
    assert evaluations == 1


def test_the_true_fields_bound_is_the_entropy_and_only_masked_tokens_count(composed: Compose) -> None:
    text = DISTRIBUTION.draw(4000, torch.Generator().manual_seed(1))
    made = model(composed).eval()
    loss, _ = bound_of(made, text)
    assert float(loss.reported["nelbo_floor"]) == pytest.approx(-float(DISTRIBUTION.log_density(text).mean()), abs=0.12)
    assert loss.scalars().keys() == {"loss", "nelbo", "nelbo_floor", "loss_floor"}
    assert float(loss.reported[BOUND].detach()) > float(loss.reported["nelbo_floor"])
    by_token, _ = bound_of(model(composed, weighting="mean").eval(), text)
    assert float(by_token.reported["loss_floor"]) == pytest.approx(float(loss.reported["nelbo_floor"]) / 16, rel=1e-6)


def test_numbers_of_masks_are_spread_evenly_and_the_same_outside_training() -> None:
    text = torch.zeros(32, 16, dtype=torch.int64)
    count = masks(text, training=True).sum(dim=1)
    assert count.tolist() == sorted(k for k in range(1, 17) for _ in range(2))
    assert torch.equal(masks(text, training=False), masks(text, training=False))
    assert not torch.equal(masks(text, training=True), masks(text, training=True))
    assert COPIES * len(text) == 128


def test_what_stands_is_taken_for_itself_whatever_the_time(composed: Compose) -> None:
    made = model(composed).eval()
    x = torch.full((3, 16), 8)
    x[:, 4:9] = torch.arange(5)
    with torch.no_grad():
        early, late = (made.field.denoise(torch.tensor(t), x) for t in (0.1, 0.9))
    assert torch.equal(early, late)
    assert torch.equal(early[:, 4:9].argmax(dim=2), x[:, 4:9])
    assert bool((early[:, 4:9].amax(dim=2) == 1).all())
    torch.testing.assert_close(early.sum(dim=2), torch.ones(3, 16, dtype=torch.float64))


def test_gradients_reach_every_parameter(composed: Compose) -> None:
    made = model(composed).train()
    loss, _ = bound_of(made, torch.randint(8, (8, 16)))
    loss.total.backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in made.parameters())


@torch.no_grad()
def test_lower_precision_leaves_logits_numbers(composed: Compose) -> None:
    made, text = model(composed).eval(), torch.full((3, 16), 8)
    solver = Gillespie(num_steps=1, step_size=None)
    full, lower = (Integrator(solver=solver, gradient=Backprop(), field_dtype=x) for x in (None, torch.bfloat16))
    found = made.logits(text, lower)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, made.logits(text, full), atol=0.05, rtol=0.05)


def test_a_causal_network_is_refused(composed: Compose) -> None:
    spec = TaskSpec(input_shape=(16,), output_shape=(16, 8), tokens=8)
    network = build(composed, "network", "transformer", spec, causal=True)
    with pytest.raises(IncompatibleChoice, match="no position see a later one. Use network.causal=false"):
        MaskedDiffusion(network, schedule="linear", weighting="elbo")
