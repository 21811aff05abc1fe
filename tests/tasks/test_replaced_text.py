"""Texts whose tokens noise has replaced: distributions one step before, bounds, and what is learned."""

from typing import Any, cast

import pytest
import torch
from torch import Tensor

from ode_runner.batch import Batch, TaskSpec
from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.gradients.backprop import Backprop
from ode_runner.integrator import Integrator
from ode_runner.models.generator import sample_noise
from ode_runner.models.texts.d3pm import D3PM
from ode_runner.models.texts.discrete_flow_matching import DiscreteFlowMatching
from ode_runner.models.texts.replaced_text import Kernel, kernel_noise
from ode_runner.models.texts.token_generator import TokenGenerator
from ode_runner.objectives.text_denoising import DenoisingCrossEntropy, StepLikelihood, step_divergence
from ode_runner.paths.corruption import CorruptionName, corruption_named
from ode_runner.paths.token_field import ReplacementField
from ode_runner.solvers.markov_chains.ancestral import Ancestral
from ode_runner.solvers.markov_chains.gillespie import Gillespie
from ode_runner.solvers.markov_chains.tau_leap import TauLeap
from ode_runner.tasks.base import Task
from ode_runner.tasks.texts.token_distributions import MarkovDistribution, random_transition
from ode_runner.tasks.texts.token_metrics import frequencies
from ode_runner.tasks.variation import total_variation
from ode_runner.types import Time
from tests.composition import Compose
from tests.problems import build

DISTRIBUTION = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
KERNELS: tuple[Kernel, ...] = ("absorbing", "uniform", "hybrid")


class KnownToken(ReplacementField):
    """The true field of texts of one token, by Bayes' rule."""

    def __init__(self, kernel: Kernel, schedule: CorruptionName = "linear") -> None:
        noise = kernel_noise(kernel, len(DISTRIBUTION), masked=0.4)
        super().__init__(noise, tokens=len(DISTRIBUTION), schedule=corruption_named(schedule))

    def logits(self, t: Time, x: Tensor, *given: Tensor) -> Tensor:
        gone = self.schedule.corrupted(t.double()).view(-1, 1, 1)
        here = (1 - gone) * self._states(x)[..., :3] + gone * self.noise[x][..., None]
        return (DISTRIBUTION * here).log()


class KnownTexts(ReplacementField):
    """The true field of a distribution of texts, by Bayes' rule."""

    def __init__(self, distribution: MarkovDistribution, kernel: Kernel) -> None:
        noise = kernel_noise(kernel, distribution.tokens, masked=0.4)
        super().__init__(noise, tokens=distribution.tokens, schedule=corruption_named("linear"))
        self.distribution = distribution

    def logits(self, t: Time, x: Tensor, *given: Tensor) -> Tensor:
        gone = self.schedule.corrupted(t.double()).view(-1, 1, 1)
        evidence = (1 - gone) * self._states(x)[..., : self.tokens] + gone * self.noise[x][..., None]
        return self.distribution.posterior(evidence).log()


def states(field: ReplacementField) -> Tensor:
    return torch.arange(len(field.noise))[:, None]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_steps_back_by_the_true_field_lead_from_noise_to_the_distribution(
    kernel: Kernel, schedule: CorruptionName
) -> None:
    field = KnownToken(kernel, schedule)
    distribution, times = field.noise, torch.linspace(1, 0, 6, dtype=torch.float64)
    for t, u in zip(times[:-1], times[1:], strict=True):
        x = states(field)
        back = field.reverse_transition(t, u, x, field.denoise(t, x))[:, 0]
        likely = distribution > 0
        torch.testing.assert_close(back.sum(dim=1)[likely], torch.ones(int(likely.sum()), dtype=torch.float64))
        distribution = distribution @ torch.where(likely[:, None], back, 0.0)
        gone = float(field.schedule.corrupted(u))
        torch.testing.assert_close(distribution[:3], (1 - gone) * DISTRIBUTION + gone * field.noise[:3])
    torch.testing.assert_close(distribution[:3], DISTRIBUTION)


@pytest.mark.parametrize("kernel", KERNELS)
def test_rates_carry_the_same_laws(kernel: Kernel) -> None:
    field = KnownToken(kernel)
    distribution, x = 0.01 * torch.cat([DISTRIBUTION, field.noise[3:] * 0]) + 0.99 * field.noise, states(field)

    def change(t: float, distribution: torch.Tensor) -> torch.Tensor:
        rates = field.rates(torch.tensor(t, dtype=torch.float64), x)[:, 0].nan_to_num(0.0).clone()
        rates.fill_diagonal_(0.0)
        return distribution @ rates - distribution * rates.sum(dim=1)

    dt = (0.99 - 0.5) / 200
    for i in range(200):  # the midpoint rule
        t = 0.99 - i * dt
        distribution = distribution + dt * change(t - dt / 2, distribution + dt / 2 * change(t, distribution))
    torch.testing.assert_close(
        distribution, 0.5 * torch.cat([DISTRIBUTION, field.noise[3:] * 0]) + 0.5 * field.noise, atol=2e-4, rtol=0
    )


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("steps", [1, 5])
def test_the_bound_of_the_true_field_is_the_entropy(kernel: Kernel, steps: int) -> None:
    """Of a single token nothing is lost by steps in which positions are independent."""
    field, bound = KnownToken(kernel), torch.zeros((), dtype=torch.float64)
    for step in range(steps):
        u, t = (torch.tensor([(step + i) / steps], dtype=torch.float64) for i in (0, 1))
        for token in range(3):
            text = torch.tensor([[token]])
            for state in range(len(field.noise)):
                x = torch.tensor([[state]])
                likely = (1 - t) * (state == token) + t * field.noise[state]
                if float(likely) > 0:
                    apart = step_divergence(field, t, u, x, text, field.logits(t, x))
                    bound += (DISTRIBUTION[token] * likely * apart).squeeze()
    assert float(bound) == pytest.approx(-float((DISTRIBUTION * DISTRIBUTION.log()).sum()), rel=1e-9)


@pytest.mark.parametrize(
    ("kernel", "solver", "steps"), [("absorbing", TauLeap, 60), ("uniform", Ancestral, 20), ("hybrid", Gillespie, 6)]
)
@torch.no_grad()
def test_given_tokens_stand_and_draw_the_blanks_towards_their_distribution(
    kernel: Kernel, solver: Any, steps: int
) -> None:
    """Masks are drawn by the distribution given these tokens; under other noise two thirds of the way, or more."""
    distribution, text, count = (
        MarkovDistribution(random_transition(3, scale=2.0, seed=1), length=4),
        torch.tensor([0, 3, 3, 0]),
        4000,
    )
    integrate = Integrator(solver=solver(num_steps=steps, step_size=None), gradient=Backprop())
    generator = TokenGenerator(field=KnownTexts(distribution, kernel), shape=(4,), start=1.0, end=0.0).completing(text)
    path = generator.generate(sample_noise(0, torch.arange(count)), integrate, times=3, dtype=torch.float64)
    assert bool((path[:, :, [0, 3]] == 0).all())
    assert int(path[-1].max()) < 3
    blanks = distribution.evidence(torch.tensor([[0, 3, 3, 0]]))
    texts = torch.cartesian_prod(torch.tensor([0]), torch.arange(3), torch.arange(3), torch.tensor([0]))
    true = (distribution.log_density(texts).exp() / distribution.likelihood(blanks)).view(3, 3)
    unconditional = frequencies(distribution.draw(count, torch.Generator().manual_seed(0))[:, 1:3], 3)
    apart = float(total_variation(frequencies(path[-1][:, 1:3], 3), true))
    assert apart < (0.03 if kernel == "absorbing" else float(total_variation(unconditional, true)) / 3)


def denoiser(composed: Compose, kind: Any, **options: Any) -> Any:
    torch.manual_seed(0)
    spec = TaskSpec(input_shape=(5,), output_shape=(5, 3), tokens=3)
    network = build(composed, "network", "transformer", spec, width=8, heads=2, **options.pop("network", {}))
    usual = {"kernel": "uniform", "masked": 0.5, "steps": 4, "cross_entropy": 0.01, "schedule": "linear"}
    names = usual if kind is D3PM else {"kernel": "uniform", "schedule": "linear"}
    return kind(network, **{**names, **options})


@pytest.mark.parametrize(("kind", "kernel"), [*((D3PM, kernel) for kernel in KERNELS), (DiscreteFlowMatching, "mask")])
def test_every_parameter_gets_a_finite_gradient(composed: Compose, kind: Any, kernel: str) -> None:
    model, text = denoiser(composed, kind, kernel=kernel), torch.randint(3, (40, 5))
    integrate = Integrator(solver=Gillespie(num_steps=1, step_size=None), gradient=Backprop())
    loss = kind.objective.loss(model, cast(Task, None), Batch(text, torch.tensor([0.0, 1.0]), text), integrate)
    assert integrate.ledger.tally.evaluations == 1
    loss.total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name
        assert float(parameter.grad.abs().sum()) > 0, name


def test_what_is_certain_costs_nothing(composed: Compose) -> None:
    """Of equal guesses, the cross-entropy of masked tokens alone: half of them, in the mean."""
    model = denoiser(composed, DiscreteFlowMatching, kernel="mask").eval()
    for parameter in model.field.inner.last.parameters():
        torch.nn.init.zeros_(parameter)
    text = torch.randint(3, (2000, 5))
    integrate = Integrator(solver=Gillespie(num_steps=1, step_size=None), gradient=Backprop())
    batch = Batch(text, torch.tensor([0.0, 1.0]), text)
    loss = DenoisingCrossEntropy().loss(model, cast(Task, None), batch, integrate)
    assert float(loss.total.detach()) == pytest.approx(2.5 * 1.0986, rel=0.02)


def test_losses_with_something_else_in_the_place_of_tokens_are_other_quantities(composed: Compose) -> None:
    masks, tokens = (denoiser(composed, DiscreteFlowMatching, kernel=kernel) for kernel in ("mask", "uniform"))
    measures = DenoisingCrossEntropy().measures
    assert measures(masks).endswith("given a text with a mask for some")
    assert measures(tokens).endswith("given a text with any token for some")
    assert "with a mask (0.5) or any token for some" in StepLikelihood().measures(
        denoiser(composed, D3PM, kernel="hybrid")
    )


def test_senseless_choices_are_refused(composed: Compose) -> None:
    with pytest.raises(RefusedInput, match=r"model.masked must be between 0 and 1, not 1. Use model.kernel=absorbing"):
        denoiser(composed, D3PM, masked=1.0)
    with pytest.raises(RefusedInput, match=r"model.steps"):
        denoiser(composed, D3PM, steps=0)
    with pytest.raises(RefusedInput, match=r"model.cross_entropy must be 0 or more"):
        denoiser(composed, D3PM, cross_entropy=-1.0)
    with pytest.raises(IncompatibleChoice, match=r"model=discrete_flow predicts .* Use network.causal=false"):
        denoiser(composed, DiscreteFlowMatching, network={"causal": True})
