"""The task of generating texts so short that a table holds all their probabilities."""

from typing import final

import torch

from ode_runner.errors import RefusedInput
from ode_runner.tasks.sizes import check_counts, split_sizes
from ode_runner.tasks.texts.table_task import TableTask
from ode_runner.tasks.texts.token_distributions import TableDistribution, random_table
from ode_runner.tasks.texts.token_task import split_texts

LETTERS = "abcdefghijklmnopqrstuvwxyz"
LARGEST = 1 << 16  # entries of a table
LEAST_CONCENTRATION = 0.001  # with less, gamma variates underflow, and all are equal


@final
class TinyTable(TableTask):
    """All texts of a few letters, with probabilities from a Dirichlet distribution: none is 0, most are small.

    Args:
        letters: number of letters.
        length: letters of a text.
        concentration: of the Dirichlet distribution.
        table_seed: seed of the probabilities, which do not depend on the seed of a run.
    """

    def __init__(
        self,
        *,
        letters: int,
        length: int,
        concentration: float,
        table_seed: int,
        train: int,
        validation: int,
        test: int,
        samples: int,
        seed: int,
        device: torch.device,
    ) -> None:
        check_counts(2, letters=letters, length=length)
        if letters > len(LETTERS) or letters**length > LARGEST:
            raise RefusedInput(
                f"task.letters={letters} task.length={length} make a table of {letters}^{length} probabilities, and "
                f"{LARGEST:,} are the most. Use task.letters=4 task.length=4."
            )
        if concentration < LEAST_CONCENTRATION:
            raise RefusedInput(f"task.concentration must be at least {LEAST_CONCENTRATION}, not {concentration}.")
        distribution = TableDistribution(random_table(letters, length, concentration=concentration, seed=table_seed))
        texts = split_texts(distribution, split_sizes(train=train, validation=validation, test=test), seed)
        super().__init__(
            texts, words=LETTERS[:letters], distribution=distribution, samples=samples, seed=seed, device=device
        )
