"""Texts as points of a space: their true field, the bound of their likelihood, rounding, and what is refused."""

import itertools
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from ode_runner.batch import Batch, TaskSpec
from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.gradients.backprop import Backprop
from ode_runner.integrator import Integrator
from ode_runner.models.generator import sample_noise
from ode_runner.models.texts.coded_text import CodedField, CodedText, RoundedGenerator, nearest
from ode_runner.models.texts.diffusion_lm import DiffusionLM
from ode_runner.models.texts.logit_flow import LogitFlow, logit_codes
from ode_runner.objectives.coded_text import CodedLikelihood, CodeLearner, evidence
from ode_runner.paths.linear import Linear
from ode_runner.solvers.explicit.heun import Heun
from ode_runner.solvers.samplers.ddpm import Ddpm
from ode_runner.tasks.base import Task
from ode_runner.tasks.texts.token_distributions import (
    MarkovDistribution,
    TableDistribution,
    TextDistribution,
    random_table,
    random_transition,
)
from ode_runner.types import State, Time
from tests.composition import Compose
from tests.problems import build

TABLE = TableDistribution(random_table(3, 2, concentration=0.5, seed=1))
TEXTS = torch.tensor(list(itertools.product(range(3), repeat=2)))


class KnownCodes(CodedField):
    """The true field of a distribution of texts."""

    batched_time = True

    def __init__(self, distribution: TextDistribution, *, scale: float) -> None:
        super().__init__()
        self.distribution, self.points, self.path = (
            distribution,
            logit_codes(distribution.tokens, scale).double(),
            Linear(),
        )

    def codes(self) -> Tensor:
        return self.points

    def logits(self, t: Time, x: State, *given: Tensor) -> Tensor:
        return self.distribution.posterior(evidence(self.path, self.points, t, x).softmax(dim=-1)).log()


class KnownLearner(CodeLearner):
    """A model that knows the true distribution."""

    def __init__(self, distribution: TextDistribution) -> None:
        super().__init__()
        self.field, self.known, self.end_time, self.regression = (
            KnownCodes(distribution, scale=3.0),
            distribution,
            0.2,
            1.0,
        )

    def codes(self) -> Tensor:
        return self.field.codes()

    def logits(self, t: Tensor, x: Tensor, integrate: Integrator) -> Tensor:  # type: ignore[override]
        return integrate.evaluate(self.field, t, x, call="logits")


def integrator(steps: int = 1) -> Integrator:
    return Integrator(solver=Heun(num_steps=steps, step_size=None), gradient=Backprop())


def loss_of(model: Any, text: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    integrate = integrator()
    loss = CodedLikelihood().loss(model, cast(Task, None), Batch(text, torch.tensor([0.0, 1.0]), text), integrate)
    assert integrate.ledger.tally.evaluations == 1
    return loss.total, dict(loss.scalars())


def test_the_true_field_is_the_mean_over_all_texts() -> None:
    field, x, t = KnownCodes(TABLE, scale=2.0), torch.randn(5, 2, 3).double(), torch.tensor(0.6, dtype=torch.float64)
    clean = field.points[TEXTS]
    squares = (x[:, None] - 0.4 * clean).square().sum(dim=(2, 3))
    weights = (TABLE.log_density(TEXTS) - squares / (2 * 0.36)).softmax(dim=1)
    expected = torch.einsum("bk,kpv->bpv", weights, clean)
    torch.testing.assert_close(field.denoise(t, x), expected)
    torch.testing.assert_close(field(t, x), (x - expected) / 0.6)


def test_the_bound_of_the_true_law_is_its_entropy() -> None:
    distribution = MarkovDistribution(random_transition(8, scale=2.0, seed=3), length=16)
    text = distribution.draw(1000, torch.Generator().manual_seed(0))
    _, numbers = loss_of(KnownLearner(distribution).double().eval(), text)
    assert float(numbers["nelbo"]) == pytest.approx(-float(distribution.log_density(text).mean()), abs=0.25)
    assert float(numbers["nelbo_floor"]) == pytest.approx(float(numbers["nelbo"]), rel=1e-9)
    assert float(numbers["loss_floor"]) == pytest.approx(float(numbers["loss"]), rel=1e-9)


@torch.no_grad()
def test_a_solve_of_the_true_field_draws_texts_of_the_law() -> None:
    field = KnownCodes(TABLE, scale=3.0)
    generator = RoundedGenerator(field=field, codes=field.codes(), shape=(2, 3), start=1.0, end=0.2)
    along = integrator(40)
    path = generator.generate(sample_noise(0, torch.arange(4000)), along, times=3, dtype=torch.float64)
    assert path.shape == (3, 4000, 2)
    assert not path.is_floating_point()
    first, last = (torch.bincount(part @ torch.tensor([3, 1]), minlength=9) / 4000 for part in (path[0], path[-1]))
    assert float((last - TABLE.table.flatten()).abs().sum() / 2) < 0.03  # by chance 0.012
    assert float((first - 1 / 9).abs().max()) < 0.02


@torch.no_grad()
def test_given_tokens_stand_and_draw_the_blanks_towards_their_law() -> None:
    """Half the way to it, or more, by a solver of ordinary equations and by a sampler that draws noise."""
    field, count, text = KnownCodes(TABLE, scale=3.0), 2000, torch.tensor([1, 3])
    generator = RoundedGenerator(field=field, codes=field.codes(), shape=(2, 3), start=1.0, end=0.2)
    true = TABLE.table[1] / TABLE.table[1].sum()
    unconditional = float((TABLE.table.sum(dim=0) - true).abs().sum() / 2)
    assert unconditional > 0.3
    for solver in (Heun(num_steps=20, step_size=None), Ddpm(num_steps=40, step_size=None, grid=None, eta=1.0)):
        along = Integrator(solver=solver, gradient=Backprop())
        noise = sample_noise(0, torch.arange(count))
        path = generator.completing(text).generate(noise, along, times=3, dtype=torch.float64)
        assert bool((path[:, :, 0] == 1).all())
        assert float((torch.bincount(path[-1, :, 1], minlength=3) / count - true).abs().sum() / 2) < unconditional / 2


def made(composed: Compose, kind: Any, network: Any = None, **options: Any) -> CodedText:
    torch.manual_seed(0)
    spec = TaskSpec(input_shape=(5,), output_shape=(5, 3), tokens=3)
    layers = build(composed, "network", "transformer", spec, width=8, heads=2, **(network or {}))
    usual = {"scale": 3.0} if kind is LogitFlow else {"dimension": 4, "regression": 1.0}
    return cast(CodedText, kind(layers, **{"end_time": 0.1, **usual, **options}))


@pytest.mark.parametrize("kind", [LogitFlow, DiffusionLM])
def test_every_parameter_gets_a_finite_gradient_and_codes_have_one_length(composed: Compose, kind: Any) -> None:
    model = made(composed, kind)
    total, numbers = loss_of(model, torch.randint(3, (40, 5)))
    assert float(numbers["nelbo"]) > 0
    total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
        assert float(parameter.grad.abs().sum()) > 0, name
    lengths = model.codes().norm(dim=1)
    torch.testing.assert_close(lengths, lengths[:1].expand(3))


@pytest.mark.parametrize("kind", [LogitFlow, DiffusionLM])
def test_points_near_those_of_tokens_are_rounded_to_them(composed: Compose, kind: Any) -> None:
    model, text = made(composed, kind, **({"dimension": 16} if kind is DiffusionLM else {})), torch.randint(3, (100, 5))
    codes = model.codes().detach()
    t = torch.tensor(0.1)
    assert torch.equal(
        nearest(model.field.path.noised(t, codes[text], torch.randn(100, 5, codes.shape[1])), codes), text
    )


def test_losses_of_other_codes_or_ends_are_other_quantities(composed: Compose) -> None:
    models = [made(composed, LogitFlow), made(composed, LogitFlow, end_time=0.2), made(composed, LogitFlow, scale=5.0)]
    models += [made(composed, DiffusionLM), made(composed, DiffusionLM, dimension=7)]
    assert len({CodedLikelihood().measures(model) for model in models}) == len(models)


def test_the_network_of_logits_sees_probabilities(composed: Compose) -> None:
    """A constant that is added to all logits of a position changes nothing."""
    field, x, t = made(composed, LogitFlow).field, torch.randn(2, 5, 3), torch.tensor(0.5)
    torch.testing.assert_close(field.logits(t, x + torch.randn(2, 5, 1)), field.logits(t, x))


def test_senseless_choices_are_refused(composed: Compose) -> None:
    with pytest.raises(RefusedInput, match=r"model.end_time=0, where they are rounded .* must be between 0 and 1"):
        made(composed, LogitFlow, end_time=0.0)
    with pytest.raises(RefusedInput, match=r"model.scale must be above 0, not -1"):
        made(composed, LogitFlow, scale=-1.0)
    with pytest.raises(RefusedInput, match=r"model.regression must be 0 or more, not -1"):
        made(composed, DiffusionLM, regression=-1.0)
    with pytest.raises(RefusedInput, match=r"model.dimension must be at least 1"):
        made(composed, DiffusionLM, dimension=0)
    with pytest.raises(IncompatibleChoice, match=r"model=diffusion_lm predicts .* Use network.causal=false"):
        made(composed, DiffusionLM, {"causal": True})
