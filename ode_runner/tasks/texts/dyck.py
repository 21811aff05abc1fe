"""The task of generating balanced brackets."""

from typing import final

import torch
from torch import Tensor

from ode_runner.errors import RefusedInput
from ode_runner.tasks.set_metrics import SetMetric
from ode_runner.tasks.sizes import check_counts, split_sizes
from ode_runner.tasks.texts.token_distributions import BracketDistribution
from ode_runner.tasks.texts.token_task import TokenTask, split_texts

BRACKETS = "()[]{}<>"
LONGEST = 64  # brackets: sums over spans take cubic time


@final
class Dyck(TokenTask):
    """Balanced brackets of several kinds; all texts of the given length are equally likely.

    `distinct` is the share of different texts among the samples; its floor is that of true texts.

    Args:
        kinds: number of kinds of brackets, up to 4.
        length: brackets in a text, an even number.
    """

    def __init__(
        self,
        *,
        kinds: int,
        length: int,
        train: int,
        validation: int,
        test: int,
        samples: int,
        seed: int,
        device: torch.device,
    ) -> None:
        check_counts(1, kinds=kinds)
        check_counts(2, length=length)
        if 2 * kinds > len(BRACKETS):
            raise RefusedInput(f"task.kinds must be at most {len(BRACKETS) // 2}, not {kinds}.")
        if length % 2 or length > LONGEST:
            raise RefusedInput(f"task.length must be even and at most {LONGEST}, not {length}.")
        distribution = BracketDistribution(kinds=kinds, length=length)
        texts = split_texts(distribution, split_sizes(train=train, validation=validation, test=test), seed)
        super().__init__(
            texts, words=BRACKETS[: 2 * kinds], distribution=distribution, samples=samples, seed=seed, device=device
        )

    def sample_metrics(self, texts: Tensor) -> dict[str, SetMetric]:
        both = (len(part.unique(dim=0)) / len(part) for part in (texts, self._true(len(texts))))
        return super().sample_metrics(texts) | {"distinct": SetMetric(*both)}
