"""The base of tasks that map a sequence of tokens to another of the same length."""

import abc
from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from ode_runner.batch import Batch, Outputs, Split, TaskSpec
from ode_runner.plots.animation import Picture
from ode_runner.plots.positions import draw_accuracy_by_position
from ode_runner.tasks.base import ModelView
from ode_runner.tasks.classification import Classification, Samples
from ode_runner.tasks.sizes import check_counts
from ode_runner.types import Scalar

AT_ONCE = 1000


class TokenSequences(Classification, abc.ABC):
    """Sequences of `length` tokens drawn uniformly from `symbols`; outputs are logits of a token at each position.

    `accuracy` is that of tokens, `sequence_accuracy` that of whole sequences.
    """

    gives_tokens: ClassVar[bool] = True
    objective: ClassVar[str] = "sequence_accuracy"
    test_only: ClassVar[frozenset[str]] = frozenset({"test"})  # it is drawn last by the generator

    def __init__(
        self, *, length: int, symbols: int, train: int, validation: int, test: int, seed: int, device: torch.device
    ) -> None:
        check_counts(1, train=train, validation=validation, test=test)
        check_counts(2, length=length, symbols=symbols)
        generator = torch.Generator().manual_seed(seed)
        sizes = {Split.TRAIN: train, Split.VALIDATION: validation, Split.TEST: test}
        drawn = {split: torch.randint(symbols, (size, length), generator=generator) for split, size in sizes.items()}
        splits = {split: Samples(tokens, self.answer(tokens)) for split, tokens in drawn.items()}
        super().__init__(splits, seed=seed, device=device)
        self.spec = TaskSpec(input_shape=(length,), output_shape=(length, symbols), tokens=symbols)

    @abc.abstractmethod
    def answer(self, tokens: Tensor) -> Tensor:
        """The targets for sequences (sequences, length), in the same shape."""

    def loss(self, outputs: Outputs, batch: Batch) -> Scalar:
        return F.cross_entropy(outputs.values.flatten(0, 1), batch.targets.flatten())

    def metrics(self, outputs: Outputs, batch: Batch) -> dict[str, Scalar]:
        right = outputs.values.argmax(dim=2) == batch.targets
        return {"accuracy": right.float().mean(), "sequence_accuracy": right.all(dim=1).float().mean()}

    def figures(self, view: ModelView) -> Iterator[tuple[str, Picture]]:
        yield from super().figures(view)  # first, since they do not need the model
        test = self.splits[Split.TEST]
        answers = [view.predict(part, None).argmax(dim=2) for part in test.inputs.split(AT_ONCE)]
        yield "positions", draw_accuracy_by_position((torch.cat(answers) == test.targets).double().mean(dim=0))
