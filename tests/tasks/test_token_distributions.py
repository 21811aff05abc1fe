"""Distributions of texts: their sums, against enumeration; their denoisers, bounds and samples."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from ode_runner.batch import Split
from ode_runner.fields.ledger import Phase
from ode_runner.gradients.backprop import Backprop
from ode_runner.integrator import Integrator
from ode_runner.models.generator import sample_noise
from ode_runner.models.texts.token_generator import TokenGenerator
from ode_runner.paths.corruption import CorruptionName, corruption_named
from ode_runner.solvers.base import Solver
from ode_runner.solvers.markov_chains.gillespie import Gillespie
from ode_runner.solvers.markov_chains.token_sampler import highest
from ode_runner.tasks.texts.dyck import Dyck
from ode_runner.tasks.texts.token_distributions import (
    BracketDistribution,
    MarkovDistribution,
    TableDistribution,
    TextDistribution,
    pairs_table,
    random_table,
    random_transition,
)
from ode_runner.tasks.texts.token_metrics import bigram_variation, frequencies, unigram_loss
from ode_runner.tasks.variation import expected_variation, total_variation
from tests.composition import Compose
from tests.problems import build

pytestmark = pytest.mark.usefixtures("float64")

TIME = torch.tensor(0.5)


def markov(length: int = 4, letters: int = 3) -> MarkovDistribution:
    return MarkovDistribution(random_transition(letters, scale=2.0, seed=3).double(), length=length)


DISTRIBUTIONS = {
    "markov": lambda: markov(),
    "table": lambda: TableDistribution(random_table(3, 3, concentration=0.3, seed=1)),
    "pairs": lambda: TableDistribution(pairs_table([(0, 1), (2, 3)], 4)),
    "brackets": lambda: BracketDistribution(kinds=2, length=4),
}


def every_text(distribution: TextDistribution) -> Tensor:
    return torch.tensor(list(itertools.product(range(distribution.tokens), repeat=distribution.length)))


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_law_sums_to_one_and_has_the_entropy_that_it_says(name: str) -> None:
    distribution = DISTRIBUTIONS[name]()
    p = distribution.log_density(every_text(distribution)).exp()
    assert float(p.sum()) == pytest.approx(1, abs=1e-12)
    assert -float(torch.special.xlogy(p, p).sum()) == pytest.approx(distribution.entropy, abs=1e-12)
    by_hand = torch.zeros(distribution.tokens, distribution.tokens)
    for i in range(distribution.length - 1):
        index = distribution.tokens * every_text(distribution)[:, i] + every_text(distribution)[:, i + 1]
        by_hand.view(-1).index_add_(0, index, p / (distribution.length - 1))
    torch.testing.assert_close(distribution.bigrams(), by_hand, rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", [15, 18, 33])
def test_a_chain_that_hardly_moves_has_a_law_too(seed: int) -> None:
    """Whose start has probabilities of 1e-20, which a linear system takes for 0 or less."""
    distribution = MarkovDistribution(random_transition(2, scale=30.0, seed=seed), length=4)
    assert float(distribution.start.min()) > 0
    torch.testing.assert_close(distribution.start @ distribution.transition, distribution.start, rtol=1e-14, atol=0)
    assert 0 <= distribution.entropy < math.log(2)
    distribution.draw(5, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_what_masks_may_be_is_known_from_the_table_of_all_texts(name: str) -> None:
    distribution = DISTRIBUTIONS[name]()
    texts = every_text(distribution)
    p = distribution.log_density(texts).exp()
    x = texts[p > 0][1].clone()
    x[[0, -1]] = distribution.mask
    agrees = (texts == x)[:, x != distribution.mask].all(dim=1)
    posterior = p * agrees / (p * agrees).sum()
    wanted = torch.stack([torch.bincount(column, posterior, minlength=distribution.tokens) for column in texts.T])
    torch.testing.assert_close(distribution.denoise(TIME, x[None])[0], wanted, rtol=0, atol=1e-12)


def test_masks_of_what_is_no_text_may_be_anything() -> None:
    distribution = BracketDistribution(kinds=1, length=4)
    impossible = torch.tensor([[1, distribution.mask, distribution.mask, 0]])
    found = distribution.denoise(TIME, impossible)[0]
    torch.testing.assert_close(found, torch.tensor([[0.0, 1], [0.5, 0.5], [0.5, 0.5], [1, 0]]))


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_texts_are_drawn_of_the_law(name: str) -> None:
    distribution = DISTRIBUTIONS[name]()
    texts = distribution.draw(20_000, torch.Generator().manual_seed(0))
    p = distribution.log_density(every_text(distribution)).exp()
    floor = float((2 * p * (1 - p) / (math.pi * len(texts))).sqrt().sum() / 2)
    assert float(total_variation(frequencies(texts, distribution.tokens).flatten(), p)) < 3 * floor
    assert bool(distribution.valid(texts).double().mean() > 0.7)


def test_the_chain_of_the_page() -> None:
    distribution = MarkovDistribution(random_transition(8, scale=2.0, seed=3), length=16)
    unigram = -float((distribution.start * distribution.start.log()).sum())
    assert (round(distribution.entropy, 2), round(unigram, 3)) == (22.49, 1.870)
    texts = distribution.draw(4000, torch.Generator().manual_seed(1))
    assert bigram_variation(texts, distribution.bigrams()) == pytest.approx(0.009, abs=0.003)
    assert float(distribution.valid(texts).double().mean()) == pytest.approx(0.876, abs=0.02)
    shares = torch.bincount(texts.flatten(), minlength=8).double() / texts.numel()
    entropy = -float((shares * shares.log()).sum())
    assert entropy == pytest.approx(unigram, abs=0.01)
    assert unigram_loss(texts, texts, 8) == pytest.approx(16 * entropy, rel=1e-3)
    assert BracketDistribution(kinds=2, length=16).count == 1430 * 2**8


@pytest.mark.parametrize("name", ["linear", "cosine", "quadratic"])
def test_the_pace_of_a_schedule_is_minus_the_slope_of_the_logarithm_of_what_is_corrupted(name: CorruptionName) -> None:
    schedule, t, h = corruption_named(name), torch.tensor([0.01, 0.3, 0.99]), 1e-6
    ends = schedule.corrupted(torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(ends, torch.tensor([0.0, 1.0]), rtol=0, atol=1e-15)
    slope = (schedule.corrupted(t + h).log() - schedule.corrupted(t - h).log()) / (2 * h)
    torch.testing.assert_close(schedule.pace(t), slope, rtol=1e-6, atol=0)
    assert bool((schedule.pace(t) > 0).all())


def test_an_ancestral_step_unmasks_with_the_probability_of_the_schedule() -> None:
    """Of four even steps along the linear one a quarter, a third, a half and all."""
    distribution, x = markov(), torch.full((1, 4), 3)
    grid = torch.linspace(1, 0, 5)
    shares = [
        distribution.reverse_transition(t, u, x, distribution.denoise(t, x))[0, 0, :3].sum()
        for t, u in itertools.pairwise(grid)
    ]
    torch.testing.assert_close(torch.stack(shares), torch.tensor([0.25, 1 / 3, 0.5, 1.0]))
    known = torch.tensor([[0, 3, 1, 2]])
    standing = distribution.reverse_transition(grid[1], grid[2], known, distribution.denoise(TIME, known))[
        0, [0, 2, 3], [0, 1, 2]
    ]
    torch.testing.assert_close(standing, torch.ones(3))


def drawn(
    distribution: TextDistribution, solver: Solver, count: int, *, times: int = 2, first: int = 0
) -> tuple[Tensor, float]:
    generator = TokenGenerator(field=distribution, shape=(distribution.length,), start=1.0, end=0.0)
    integrate = Integrator(solver=solver, gradient=Backprop())
    noise = sample_noise(0, torch.arange(first, first + count))
    with integrate.ledger.phase(Phase.SAMPLING) as tally:
        path = generator.generate(noise, integrate, times=times, dtype=torch.float64)
    return path, tally.evaluations


@pytest.mark.parametrize("name", ["random_order", "entropy", "left_to_right", "gillespie"])
def test_one_token_a_step_is_exact(name: str, composed: Compose) -> None:
    distribution = TableDistribution(random_table(3, 3, concentration=0.5, seed=1))
    path, evaluations = drawn(distribution, build(composed, "solver", name, num_steps=3), 20_000)
    floor = float((2 * distribution.table * (1 - distribution.table) / (math.pi * 20_000)).sqrt().sum() / 2)
    assert float(total_variation(frequencies(path[-1], 3), distribution.table)) < 2 * floor
    assert evaluations == 3


def test_words_drawn_at_once_hit_a_pair_by_chance_and_one_after_the_other_always(composed: Compose) -> None:
    distribution = TableDistribution(pairs_table([(2 * k, 2 * k + 1) for k in range(4)], 8))
    at_once, _ = drawn(distribution, build(composed, "solver", "ancestral", num_steps=1), 4000)
    in_turn, _ = drawn(distribution, build(composed, "solver", "random_order", num_steps=2), 4000)
    assert float(distribution.valid(at_once[-1]).double().mean()) == pytest.approx(0.25, abs=0.02)
    assert bool(distribution.valid(in_turn[-1]).all())


@pytest.mark.parametrize("name", ["confidence", "mask_predict"])
def test_samplers_by_confidence_draw_of_another_law(name: str, composed: Compose) -> None:
    distribution = TableDistribution(random_table(3, 3, concentration=0.5, seed=1))
    path, _ = drawn(distribution, build(composed, "solver", name, num_steps=3), 5000)
    assert float(total_variation(frequencies(path[-1], 3), distribution.table)) > 0.1
    assert -float(distribution.log_density(path[-1]).mean()) < distribution.entropy - 0.1


def test_several_tokens_a_step_are_nearest_to_the_law_where_they_are_spread_out(composed: Compose) -> None:
    """Half of a text in each of two steps: neighbours, or random places; and all of it in one."""
    distribution, apart = markov(length=6), {}
    for name, steps in (("random_order", 1), ("left_to_right", 2), ("random_order", 2)):
        path, _ = drawn(distribution, build(composed, "solver", name, num_steps=steps), 4000)
        apart[name, steps] = bigram_variation(path[-1], distribution.bigrams())
    assert apart["random_order", 2] < 0.8 * apart["left_to_right", 2] < 0.8 * apart["random_order", 1]


def test_equal_entropies_are_in_a_random_order_or_by_position(composed: Compose) -> None:
    """Half of a text of masks, whose entropies are equal, is drawn in the first of two steps."""
    distribution = markov(length=6)
    stands = {}
    for ties in ("random", "position"):
        path, _ = drawn(distribution, build(composed, "solver", "entropy", num_steps=2, ties=ties), 200, times=3)
        stands[ties] = (path[1] < distribution.tokens).double()
        assert bool((stands[ties].sum(dim=1) == 3).all())
    assert bool((stands["position"][:, :3] == 1).all())
    assert stands["random"].mean(dim=0).tolist() == pytest.approx([0.5] * 6, abs=0.12)


SAMPLERS = ["ancestral", "random_order", "confidence", "entropy", "left_to_right", "mask_predict", "tau_leap"]


@pytest.mark.parametrize("name", [*SAMPLERS, "gillespie"])
def test_a_text_depends_on_its_number_alone_and_no_mask_is_left(name: str, composed: Compose) -> None:
    distribution, solver = markov(), build(composed, "solver", name, num_steps=3)
    whole, evaluations = drawn(distribution, solver, 50)
    part, _ = drawn(distribution, solver, 10, first=20)
    assert torch.equal(whole[-1, 20:30], part[-1])
    assert bool((whole[0] == distribution.mask).all())
    assert bool((whole[-1] < distribution.tokens).all())
    assert evaluations == (4 if name == "gillespie" else 3)
    if name != "tau_leap":  # whose steps end on the times that are asked for
        along, _ = drawn(distribution, solver, 50, times=9)
        assert torch.equal(along[-1], whole[-1])
        stands = along[:-1] < distribution.tokens
        assert name == "mask_predict" or torch.equal(along[:-1][stands], along[1:][stands])


@pytest.mark.parametrize("name", SAMPLERS)
def test_given_tokens_come_back_unchanged(name: str, composed: Compose) -> None:
    distribution, solver = markov(length=6), build(composed, "solver", name, num_steps=2)
    x0 = torch.tensor([[2, 3, 3, 3, 3, 0]]).expand(40, -1)
    noise, integrate = sample_noise(0, torch.arange(40)), Integrator(solver=solver, gradient=Backprop())
    end = integrate(distribution, x0, torch.tensor([1.0, 0.0]), noise=noise).ys[-1]
    assert torch.equal(end[:, [0, 5]], x0[:, [0, 5]])
    assert bool((end < 3).all())


def test_ancestral_sampling_is_of_order_one(composed: Compose) -> None:
    """The distribution of its samples by enumeration, without drawing: half the step, half the distance."""
    distribution = TableDistribution(random_table(2, 3, concentration=0.5, seed=1))
    states = torch.cartesian_prod(*[torch.arange(3)] * 3)

    def off(steps: int) -> float:
        p = torch.zeros(27)
        p[-1] = 1
        for t, u in itertools.pairwise(torch.linspace(1, 0, steps + 1)):
            each = distribution.reverse_transition(t, u, states, distribution.denoise(t, states))
            p = p @ torch.einsum("sa,sb,sc->sabc", *each.unbind(dim=1)).flatten(1)
        return float(total_variation(p.view(3, 3, 3)[:2, :2, :2], distribution.table))

    errors = [off(steps) for steps in (32, 64, 128)]
    assert [a / b for a, b in itertools.pairwise(errors)] == pytest.approx([2, 2], rel=0.03)


def test_gillespies_texts_on_their_way_are_those_that_come_out() -> None:
    distribution = markov(length=6)
    path, evaluations = drawn(distribution, Gillespie(num_steps=1, step_size=None), 30, times=7)
    assert evaluations == 6
    masked = (path == distribution.mask).double().mean(dim=(1, 2))
    assert masked.tolist() == pytest.approx([1 - k / 6 for k in range(7)], abs=0.1)  # mask survival is t


def test_the_highest_of_equals_are_the_first() -> None:
    found = highest(torch.tensor([[1.0, 2, 2, 0], [0, 0, 0, 0]]), torch.tensor([2, 1]))
    assert found.tolist() == [[False, True, True, False], [True, False, False, False]]


def test_true_brackets_are_valid_and_hardly_any_comes_twice() -> None:
    task = Dyck(
        kinds=2, length=16, train=10, validation=2, test=4, samples=500, seed=0, device=torch.device("cpu")
    )  # fmt: skip
    found = task.sample_metrics(task.distribution.draw(500, torch.Generator().manual_seed(3)))
    assert found["valid_rate"] == (1.0, 1.0)
    assert found["distinct"].value > 0.99
    assert task.written([0, 1, 2, 4]) == "()[_"
    assert task.size(Split.TEST) == 4


def test_what_is_drawn_between_given_tokens_has_the_law_under_them(composed: Compose) -> None:
    distribution = MarkovDistribution(random_transition(8, scale=2.0, seed=3), length=16)
    x0 = torch.full((1, 16), distribution.mask)
    x0[0, [0, 1, 2, 3, 12, 13, 14, 15]] = torch.tensor([0, 1, 4, 6, 1, 6, 4, 4])
    noise, integrate = (
        sample_noise(0, torch.arange(4000)),
        Integrator(solver=Gillespie(num_steps=1, step_size=None), gradient=Backprop()),
    )
    generator = TokenGenerator(field=distribution, shape=(16,), start=1.0, end=0.0).completing(x0[0])
    end = generator.generate(noise, integrate, times=2, dtype=torch.float64)[-1]
    given = x0[0] != distribution.mask
    assert bool((end[:, given] == x0[0, given]).all())
    wanted = distribution.denoise(TIME, x0)[0]
    found = torch.stack([torch.bincount(column, minlength=8) / 4000.0 for column in end.T])
    assert float((found - wanted).abs().sum(dim=1).max() / 2) < 0.03
    pair = wanted[7, :, None] * distribution.denoise(TIME, _known(x0, 7, 8))[:, 8]
    assert float(total_variation(frequencies(end[:, 7:9], 8), pair)) < 1.5 * expected_variation(pair, 4000)


def _known(x: Tensor, position: int, tokens: int) -> Tensor:
    every = x.repeat(tokens, 1)
    every[:, position] = torch.arange(tokens)
    return every
