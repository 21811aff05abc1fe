"""The task of generating names of two words that belong together."""

from typing import final

import torch

from ode_runner.errors import RefusedInput
from ode_runner.tasks.sizes import check_counts, split_sizes
from ode_runner.tasks.texts.table_task import TableTask
from ode_runner.tasks.texts.token_distributions import TableDistribution, pairs_table
from ode_runner.tasks.texts.token_task import split_texts

CITIES = (
    ("New", "York"),
    ("Los", "Angeles"),
    ("San", "Francisco"),
    ("Hong", "Kong"),
    ("Buenos", "Aires"),
    ("Cape", "Town"),
    ("Tel", "Aviv"),
    ("Kuala", "Lumpur"),
)


@final
class Pairs(TableTask):
    """Names of cities, equally likely; no two of them share a word.

    A model that draws both words independently hits a name with probability 1 / `pairs`; one that draws the second word
    after the first always does.

    Gu, Bradbury, Xiong, Li, Socher. Non-Autoregressive Neural Machine Translation. ICLR 2018, for the problem.
    """

    separator = " "

    def __init__(
        self, *, pairs: int, train: int, validation: int, test: int, samples: int, seed: int, device: torch.device
    ) -> None:
        check_counts(2, pairs=pairs)
        if pairs > len(CITIES):
            raise RefusedInput(f"task.pairs must be at most {len(CITIES)}, not {pairs}.")
        words = [word for city in CITIES[:pairs] for word in city]
        distribution = TableDistribution(pairs_table([(2 * k, 2 * k + 1) for k in range(pairs)], len(words)))
        texts = split_texts(distribution, split_sizes(train=train, validation=validation, test=test), seed)
        super().__init__(texts, words=words, distribution=distribution, samples=samples, seed=seed, device=device)
