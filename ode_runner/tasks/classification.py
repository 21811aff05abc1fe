"""The base of classification tasks: samples in memory, cross-entropy and accuracy."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from ode_runner.batch import LEARNER, Batch, Learner, Outputs, Split
from ode_runner.errors import RefusedInput
from ode_runner.tasks.base import Task
from ode_runner.tasks.batches import in_batches, shuffler
from ode_runner.types import Scalar

UNKNOWN = -1
CERTAIN = 3  # standard errors within which an accuracy may be due to chance


@dataclass(frozen=True)
class Samples:
    """Inputs and class numbers of one split, on the training device."""

    inputs: Tensor  # (samples, *input_shape), as stored, before `prepare`
    targets: Tensor  # (samples,) or (samples, positions), int64; UNKNOWN if the class is not known (new data)

    def to(self, device: torch.device) -> "Samples":
        return Samples(self.inputs.to(device), self.targets.to(device))


def _check_samples(samples: Samples | None, split: str) -> None:
    """Raises RefusedInput unless there are samples, each with an input and a whole number."""
    if samples is None:
        raise RefusedInput(f"{split} is missing: a task gives Samples(inputs, targets) for each of {', '.join(Split)}.")
    for name, x in vars(samples).items():
        if not isinstance(x, Tensor):
            raise RefusedInput(f"{split}: {name} are a {type(x).__name__}. Make a tensor of it by torch.as_tensor.")
    inputs, targets = samples.inputs, samples.targets
    if len(inputs) != len(targets):
        raise RefusedInput(f"{split} has {len(inputs)} inputs and {len(targets)} targets, and each has one.")
    if targets.dtype != torch.int64:
        raise RefusedInput(f"{split}: targets are {targets.dtype}, and numbers of classes int64: targets.long().")


def _check_finite(inputs: Tensor, where: str) -> None:
    finite = torch.isfinite(inputs).flatten(1).all(dim=1)
    if not bool(finite.all()):
        raise RefusedInput(
            f"{where}: inputs have NaN or infinity in {int((~finite).sum())} of {len(finite)} samples, the first of "
            f"them number {int(finite.int().argmin())} (from 0)."
        )


def _check_classes(targets: Tensor, answers: Sequence[int], where: str) -> None:
    """Raises RefusedInput unless there is a class for each answer of a sample, of shape (*positions, classes)."""
    *positions, classes = answers
    if list(targets.shape[1:]) != positions:
        raise RefusedInput(
            f"{where}: targets are of shape {tuple(targets.shape)}, and a class of each sample is "
            f"{(len(targets), *positions)}: targets.squeeze(1), or targets.argmax(dim=1) if they are one-hot."
        )
    low, high = (int(end) for end in targets.aminmax()) if targets.numel() else (0, 0)
    if low < 0 or high >= classes:
        raise RefusedInput(
            f"{where}: targets go from {low} to {high}, and the {classes} classes of spec.output_shape = "
            f"{tuple(answers)} are numbered from 0 to {classes - 1}."
        )


class Classification(Task):
    """Samples of a few classes, classified by the output at the end of the time span [0, 1]."""

    objective: ClassVar[str] = "accuracy"
    higher_is_better: ClassVar[bool] = True

    def __init__(self, splits: dict[Split, Samples], *, seed: int, device: torch.device) -> None:
        for split in Split:
            _check_samples(splits.get(split), f"the {split} split of {type(self).__name__}")
        self.splits = {split: samples.to(device) for split, samples in splits.items()}
        self.seed = seed
        self.ts = torch.tensor([0.0, 1.0], device=device)

    def check_data(self) -> None:
        """Raises RefusedInput unless inputs are finite, and targets numbers of classes from 0, one for each answer."""
        for split, samples in self.splits.items():
            where = f"the {split} split of {type(self).__name__}"
            if samples.inputs.is_floating_point() and not self.spec.blanks:
                _check_finite(samples.inputs, where)
            _check_classes(samples.targets, self.spec.output_shape, where)

    def prepare(self, inputs: Tensor, generator: torch.Generator | None) -> Tensor:
        """Converts stored inputs to model inputs, with random augmentation if there is a generator. Default: no change.

        Takes (batch, *stored shape) and returns (batch, *input_shape).
        """
        del generator
        return inputs

    @property
    def class_names(self) -> Sequence[str]:
        """Names of the classes, in the order of their numbers."""
        return [str(number) for number in range(self.spec.output_shape[-1])]

    @property
    def sample_names(self) -> Sequence[str]:
        """Names of the samples of the test split, in its order."""
        return [str(number) for number in range(self.size(Split.TEST))]

    def size(self, split: Split) -> int:
        return len(self.splits[split].targets)

    def batches(self, split: Split, *, batch_size: int, epoch: int) -> Iterator[Batch]:
        samples, generator = self.splits[split], shuffler(split, seed=self.seed, epoch=epoch)
        for chosen in in_batches(self.size(split), batch_size, generator, device=samples.targets.device):
            yield Batch(self.prepare(samples.inputs[chosen], generator), self.ts, samples.targets[chosen])

    def loss(self, outputs: Outputs, batch: Batch) -> Scalar:
        return F.cross_entropy(outputs.values, batch.targets)

    def metrics(self, outputs: Outputs, batch: Batch) -> dict[str, Scalar]:
        return {"accuracy": (outputs.values.argmax(dim=1) == batch.targets).float().mean()}

    def remarks(self, metrics: Mapping[str, float], *, learner: Learner = LEARNER) -> Iterator[str]:
        del learner
        share, accuracy = self._constant_share(), metrics.get("test/accuracy", 1.0)
        if share < 1 and accuracy <= share + self._margin(share):
            yield (
                f"the test accuracy of {accuracy:.1%} is, up to chance, no better than the {share:.1%} of always "
                "giving the same answer. Train it longer, or with another optimizer.lr, network or model."
            )

    def _constant_share(self) -> float:
        """The accuracy of always predicting the most frequent training class, at each position if there are several."""
        frequent = self.splits[Split.TRAIN].targets.mode(dim=0).values
        return float((self.splits[Split.TEST].targets == frequent).double().mean())

    def _margin(self, share: float) -> float:
        """The margin that chance adds to an accuracy; at most half of the distance to 1, as for small test splits."""
        deviation = (share * (1 - share) / self.splits[Split.TEST].targets.numel()) ** 0.5
        return min(CERTAIN * deviation, (1 - share) / 2)


def shuffled_splits(samples: Samples, sizes: dict[Split, int], seed: int) -> dict[Split, Samples]:
    """Disjoint splits of the given sizes, drawn by `seed`."""
    order = torch.randperm(len(samples.targets), generator=torch.Generator().manual_seed(seed))
    parts = order[: sum(sizes.values())].split(list(sizes.values()))
    return {
        split: Samples(samples.inputs[part], samples.targets[part]) for split, part in zip(sizes, parts, strict=True)
    }
