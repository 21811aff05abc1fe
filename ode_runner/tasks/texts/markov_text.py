"""The task of generating texts of a Markov chain."""

from typing import final

import torch

from ode_runner.errors import RefusedInput
from ode_runner.tasks.sizes import check_counts, split_sizes
from ode_runner.tasks.texts.token_distributions import MarkovDistribution, random_transition
from ode_runner.tasks.texts.token_task import TokenTask, split_texts

LETTERS = "abcdefghijklmnopqrstuvwxyz"
MOST_SCALE = 50  # for normal numbers 10 apart, the probability is 1e-217: not yet 0, whose logarithm is infinite


@final
class MarkovText(TokenTask):
    """Letters, each of which depends on the one before; transition probabilities are a softmax of normal numbers.

    A text is valid if none of its transitions has a probability of 0.01 or less; most true texts are valid.

    Args:
        letters: number of letters, up to 26.
        length: letters of a text.
        scale: of the normal numbers; the larger it is, the better a letter predicts the next.
        chain_seed: seed of the transitions, which do not depend on the seed of a run.
    """

    def __init__(
        self,
        *,
        letters: int,
        length: int,
        scale: float,
        chain_seed: int,
        train: int,
        validation: int,
        test: int,
        samples: int,
        seed: int,
        device: torch.device,
    ) -> None:
        check_counts(2, letters=letters, length=length)
        if letters > len(LETTERS):
            raise RefusedInput(f"task.letters must be at most {len(LETTERS)}, not {letters}.")
        if not 0 <= scale <= MOST_SCALE:
            raise RefusedInput(f"task.scale must be from 0 to {MOST_SCALE}, not {scale}.")
        distribution = MarkovDistribution(random_transition(letters, scale=scale, seed=chain_seed), length=length)
        texts = split_texts(distribution, split_sizes(train=train, validation=validation, test=test), seed)
        super().__init__(
            texts, words=LETTERS[:letters], distribution=distribution, samples=samples, seed=seed, device=device
        )
