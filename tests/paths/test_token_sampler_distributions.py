"""The distribution of the texts that samplers of tokens draw, by enumeration of all that may happen on the way."""

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import cache

import pytest
import torch
from scipy import stats
from torch import Tensor

from ode_runner.fields.ledger import Phase
from ode_runner.gradients.backprop import Backprop
from ode_runner.integrator import Integrator
from ode_runner.models.generator import sample_noise
from ode_runner.models.texts.token_generator import TokenGenerator
from ode_runner.paths.corruption import CorruptionName, corruption_named
from ode_runner.solvers.markov_chains.token_sampler import TokenSampler
from ode_runner.tasks.texts.token_distributions import TableDistribution, random_table
from tests.composition import Compose
from tests.problems import build

pytestmark = pytest.mark.usefixtures("float64")

COUNT = 20_000
GIVEN = math.inf  # the certainty of a token that nobody has drawn
Text = tuple[int, ...]
State = tuple[Text, tuple[float, ...]]  # a text, and the probability of each token when it was drawn
Outcomes = Iterator[tuple[State, float]]
CORRUPTED: dict[CorruptionName, Callable[[float], float]] = {
    "linear": lambda t: t,
    "cosine": lambda t: 1 - math.cos(math.pi * t / 2),
    "quadratic": lambda t: t**2,
}


def copied() -> Tensor:
    """The second of three tokens is that of the first, the third is on its own; all marginals are equal."""
    table = torch.zeros(2, 2, 2)
    table[[0, 1], [0, 1]] = 1 / 4
    return table


TABLES = {"random": random_table(3, 4, concentration=0.4, seed=3), "ties": copied()}


class Enumeration:
    """What a sampler does with the distribution of `table`, taken apart into outcomes and their probabilities."""

    def __init__(self, table: Tensor) -> None:
        self.table, self.length, self.tokens = table.double(), table.dim(), len(table)
        self.mask = self.tokens
        self.denoise = cache(self._denoise)

    def _denoise(self, text: Text) -> list[list[float]]:
        """p(token | text) of each position, by summing over the texts that agree; even where none does."""
        agrees = self.table.clone()
        for position, token in enumerate(text):
            if token != self.mask:
                others = [k for k in range(self.tokens) if k != token]
                agrees.index_fill_(position, torch.tensor(others), 0.0)
        found = []
        for position, token in enumerate(text):
            single = agrees.sum(dim=[other for other in range(self.length) if other != position])
            even = torch.eye(self.tokens)[token] if token != self.mask else torch.ones(self.tokens) / self.tokens
            found.append((single / single.sum() if single.sum() > 0 else even).tolist())
        return found

    def masked(self, text: Text) -> list[int]:
        return [position for position, token in enumerate(text) if token == self.mask]

    def drawn(self, text: Text, positions: list[int]) -> Iterator[tuple[Text, dict[int, float], float]]:
        """All tokens that these positions may get at once: the text, the probability of each and of all."""
        distribution = self.denoise(text)
        for tokens in itertools.product(range(self.tokens), repeat=len(positions)):
            each = {position: distribution[position][token] for position, token in zip(positions, tokens, strict=True)}
            if p := math.prod(each.values()):
                chosen = dict(zip(positions, tokens, strict=True))
                yield tuple(chosen.get(i, token) for i, token in enumerate(text)), each, p

    def after(self, name: str, state: State, left: int, *, ties: str) -> Outcomes:
        """The states after a step of a sampler, `left` tokens of which are masked still."""
        masked = self.masked(state[0])
        if name == "mask_predict":
            yield from self._masked_again(state, left) if masked else [(state, 1.0)]
        elif (due := len(masked) - left) <= 0:
            yield state, 1.0
        elif name == "confidence":
            yield from self._most_certain(state[0], due)
        else:
            for positions, chance in self._orders(name, state[0], due, ties):
                yield from (((text, ()), chance * p) for text, _, p in self.drawn(state[0], list(positions)))

    def _orders(self, name: str, text: Text, due: int, ties: str) -> Iterator[tuple[tuple[int, ...], float]]:
        masked = self.masked(text)
        if name == "left_to_right":
            yield tuple(masked[:due]), 1.0
            return
        distribution = self.denoise(text)
        entropy = {i: 0.0 if name == "random_order" else float(stats.entropy(distribution[i])) for i in masked}
        last = sorted(entropy.values())[due - 1]
        sooner = [i for i in masked if entropy[i] < last - 1e-9]
        equal = [i for i in masked if abs(entropy[i] - last) <= 1e-9]
        choices = list(itertools.combinations(equal, due - len(sooner)))
        choices = choices[:1] if ties == "position" else choices
        yield from ((tuple(sooner) + chosen, 1 / len(choices)) for chosen in choices)

    def _most_certain(self, text: Text, due: int) -> Outcomes:
        masked = self.masked(text)
        for drawn, each, p in self.drawn(text, masked):
            kept = sorted(masked, key=lambda i: (-round(each[i], 12), i))[:due]
            yield (tuple(drawn[i] if i in kept else token for i, token in enumerate(text)), ()), p

    def _masked_again(self, state: State, left: int) -> Outcomes:
        text, certainty = state
        for drawn, each, p in self.drawn(text, self.masked(text)):
            sure = tuple(round(each.get(i, was), 12) for i, was in enumerate(certainty))
            again = sorted(range(self.length), key=lambda i: (sure[i], i))[:left]
            yield (tuple(self.mask if i in again else token for i, token in enumerate(drawn)), sure), p

    def distributions(self, name: str, start: Text, left: list[int], *, ties: str = "random") -> list[Tensor]:
        """The distributions of the texts after each step, (state, ...), of which `left` tokens are masked."""
        now: dict[State, float] = {(start, (GIVEN,) * self.length): 1.0}
        found = []
        for count in left:
            later: dict[State, float] = defaultdict(float)
            for state, chance in now.items():
                for after, p in self.after(name, state, count, ties=ties):
                    later[after] += chance * p
            now, distribution = later, torch.zeros([self.tokens + 1] * self.length)
            for (text, _), chance in now.items():
                distribution[text] += chance
            found.append(distribution)
        return found


ENUMERATIONS = {name: Enumeration(table) for name, table in TABLES.items()}


def p_value(texts: Tensor, distribution: Tensor) -> float:
    """Of the chi-squared test of texts (sample, position); 0 where there is one that cannot be."""
    index = torch.zeros(len(texts), dtype=torch.int64)
    for column in texts.T:
        index = len(distribution) * index + column
    counts, expected = torch.bincount(index, minlength=distribution.numel()), len(texts) * distribution.flatten()
    if bool((counts[expected == 0] > 0).any()):
        return 0.0
    often = expected > 8
    observed, wanted = (torch.cat([of[often], of[~often].sum()[None]]) for of in (counts.double(), expected))
    observed, wanted = (
        of if wanted[-1] > 8 else torch.cat([of[:-2], of[-2:].sum()[None]]) for of in (observed, wanted)
    )
    return float(stats.chi2.sf(float(((observed - wanted).square() / wanted).sum()), len(wanted) - 1))


def check_law(solver: TokenSampler, name: str, table: str, schedule: CorruptionName, start: Text, *, ties: str) -> None:
    """The texts after every step have the enumerated distribution, and the last ones no mask."""
    enumeration, field, steps = ENUMERATIONS[table], TableDistribution(TABLES[table]), solver.num_steps
    assert steps is not None
    field.schedule = corruption_named(schedule)
    generator = TokenGenerator(field=field, shape=(len(start),), start=1.0, end=0.0).completing(torch.tensor(start))
    noise, integrate = sample_noise(0, torch.arange(COUNT)), Integrator(solver=solver, gradient=Backprop())
    with integrate.ledger.phase(Phase.SAMPLING) as tally:
        path = generator.generate(noise, integrate, times=steps + 1, dtype=torch.float64)
    assert (tally.accepted, tally.rejected) == (steps, 0)
    shares = [CORRUPTED[schedule](1 - k / steps) for k in range(1, steps + 1)]
    left = [math.floor(start.count(enumeration.mask) * share + 1e-9) for share in shares]
    for texts, distribution in zip(path[1:], enumeration.distributions(name, start, left, ties=ties), strict=True):
        assert float(distribution.sum()) == pytest.approx(1, abs=1e-12)
        assert p_value(texts, distribution) > 1e-4, (schedule, start)
    assert bool((path[-1] < enumeration.mask).all())


NAMES = ["confidence", "mask_predict", "entropy", "left_to_right", "random_order"]
CASES: list[tuple[int, CorruptionName, Text]] = [
    (2, "quadratic", (3, 3, 3, 3)),  # after the first step exactly one token is masked
    (3, "cosine", (3, 1, 3, 3)),
]
MORE: list[tuple[int, CorruptionName, Text]] = [
    (1, "linear", (3, 3, 3, 3)),
    (2, "cosine", (3, 3, 3, 0)),
    (3, "linear", (3, 3, 3, 3)),
    (7, "linear", (3, 3, 3, 3)),
]


@pytest.mark.parametrize(
    ("steps", "schedule", "start"), [*CASES, *(pytest.param(*case, marks=pytest.mark.slow) for case in MORE)]
)
@pytest.mark.parametrize("name", NAMES)
def test_texts_have_the_law_of_all_paths_that_lead_to_them(
    composed: Compose, name: str, steps: int, schedule: CorruptionName, start: Text
) -> None:
    check_law(build(composed, "solver", name, num_steps=steps), name, "random", schedule, start, ties="random")


@pytest.mark.parametrize("name", NAMES)
def test_of_equal_scores_the_first_are_drawn_or_any(composed: Compose, name: str) -> None:
    """In the first of two steps two of three tokens are drawn: two that have to be equal, or not."""
    check_law(build(composed, "solver", name, num_steps=2), name, "ties", "linear", (2, 2, 2), ties="random")
    if name == "entropy":
        solver = build(composed, "solver", name, num_steps=2, ties="position")
        check_law(solver, name, "ties", "linear", (2, 2, 2), ties="position")


def test_the_order_of_equals_is_seen_in_the_law() -> None:
    """How many texts break the copy, where the two that have to be equal are drawn at once with this probability."""
    enumeration = Enumeration(copied())
    valid = copied() > 0
    for name, ties, broken in (
        ("confidence", "random", 1 / 2),
        ("mask_predict", "random", 0.0),
        ("entropy", "random", 1 / 6),
        ("entropy", "position", 1 / 2),
        ("random_order", "random", 1 / 6),
        ("left_to_right", "random", 1 / 2),
    ):
        distribution = enumeration.distributions(name, (2, 2, 2), [1, 0], ties=ties)[-1][:2, :2, :2]
        assert float(distribution[~valid].sum()) == pytest.approx(broken, abs=1e-12), (name, ties)
