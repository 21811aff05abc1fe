"""Models of texts that know their likelihood: that it is one, what a position sees, and what a sample costs."""

import itertools

import pytest
import torch
from torch import Tensor

from ode_runner.batch import TaskSpec
from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.gradients.backprop import Backprop
from ode_runner.integrator import Integrator
from ode_runner.models.generator import sample_noise
from ode_runner.models.texts.autoregressive import Autoregressive
from ode_runner.models.texts.one_shot import OneShot
from ode_runner.models.texts.pass_model import PassModel
from ode_runner.solvers.markov_chains.gillespie import Gillespie
from tests.composition import Compose
from tests.problems import build

TOKENS, LENGTH = 3, 4


def made(composed: Compose, kind: type[PassModel], *, causal: bool) -> PassModel:
    torch.manual_seed(0)
    spec = TaskSpec(input_shape=(LENGTH,), output_shape=(LENGTH, TOKENS), tokens=TOKENS)
    network = build(composed, "network", "transformer", spec, width=8, heads=2, causal=causal, time=False)
    return kind(network).double().eval()


def integrator() -> Integrator:
    return Integrator(solver=Gillespie(num_steps=1, step_size=None), gradient=Backprop())


def every_text() -> Tensor:
    return torch.tensor(list(itertools.product(range(TOKENS), repeat=LENGTH)))


@pytest.mark.parametrize(("kind", "passes"), [(Autoregressive, LENGTH), (OneShot, 1)])
@torch.no_grad()
def test_samples_follow_the_likelihood_which_sums_to_one(composed: Compose, kind: type[PassModel], passes: int) -> None:
    model, along, texts = made(composed, kind, causal=kind is Autoregressive), integrator(), every_text()
    distribution = model.log_likelihood(texts, along).exp()
    assert along.ledger.tally.evaluations == 1
    assert float(distribution.sum()) == pytest.approx(1, abs=1e-12)
    generator = model.generator()
    assert generator is not None
    path = generator.generate(sample_noise(0, torch.arange(20000)), along, times=LENGTH + 1, dtype=torch.float64)
    assert along.ledger.tally.evaluations == 1 + passes
    assert bool((path[0] == TOKENS).all())
    places = path[-1] @ TOKENS ** torch.arange(LENGTH - 1, -1, -1)
    found = torch.bincount(places, minlength=len(texts)) / len(places)
    assert float((found - distribution).abs().sum() / 2) < 0.04  # of 81 texts, by chance 0.02


@torch.no_grad()
def test_beginnings_are_completed_and_other_blanks_are_refused(composed: Compose) -> None:
    model, along = made(composed, Autoregressive, causal=True), integrator()
    generator, noise = model.generator(), sample_noise(0, torch.arange(5000))
    begun = torch.tensor([1, 2, TOKENS, TOKENS])
    [_, found] = generator.completing(begun).generate(noise, along, times=2, dtype=torch.float64)
    assert bool((found[:, :2] == begun[:2]).all())
    texts = every_text()
    distribution = model.log_likelihood(texts, along).exp() * (texts[:, :2] == begun[:2]).all(dim=1)
    shares = torch.bincount(found @ TOKENS ** torch.arange(LENGTH - 1, -1, -1), minlength=len(texts)) / len(found)
    assert float((shares - distribution / distribution.sum()).abs().sum() / 2) < 0.04
    with pytest.raises(RefusedInput, match="all blanks must be at the end"):
        generator.completing(begun.flip(0))


@torch.no_grad()
def test_a_token_is_said_by_those_before_it_and_no_other(composed: Compose) -> None:
    model, text = made(composed, Autoregressive, causal=True), torch.zeros(1, LENGTH, dtype=torch.int64)
    before = model.field.logits(torch.zeros(()), text)
    for i in range(LENGTH):
        other = text.clone()
        other[0, i] = 1
        changed = (model.field.logits(torch.zeros(()), other) - before).abs().amax(dim=2)[0]
        assert float(changed[: i + 1].sum()) == 0
        assert all(float(later) > 0 for later in changed[i + 1 :])


def test_positions_that_see_later_ones_are_refused(composed: Compose) -> None:
    with pytest.raises(IncompatibleChoice, match=r"network.causal=false lets .* Use network.causal=true"):
        made(composed, Autoregressive, causal=False)
