"""The task of modelling a text by characters or bytes."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from ode_runner.batch import Split
from ode_runner.errors import RefusedInput, as_typed
from ode_runner.tasks.base import ModelView
from ode_runner.tasks.sizes import check_counts
from ode_runner.tasks.texts.ngrams import NGrams
from ode_runner.tasks.texts.text_file import SHOWN, UNKNOWN, Unit, Vocabulary, content_of_text, read_text
from ode_runner.tasks.texts.token_task import TokenTask
from ode_runner.types import Scalar

# Orders of the n-gram models for comparison. On Python's help, the fifth is the best; a sixth has too few counts.
ORDERS = {"unigram": 1, "bigram": 2, "trigram": 3, "fourgram": 4, "fivegram": 5}


@final
class CharText(TokenTask):
    """Pieces of one text, each of `length` characters or bytes; the text is Python's own help, or a file.

    The text is split into three parts: training first, then validation, and the test at the end. Each part is cut into
    pieces; those of training overlap by half. Units that do not occur in the training part are unknown.

    `bits_per_char` is the loss per unit; `unigram_bits` to `fivegram_bits` are those of n-gram models (`NGrams`), which
    see as much of a piece as the model does.

    Args:
        file: its path, or `python_help`.
        unit: `characters`, for a file in UTF-8, or `bytes`.
        length: units of a piece.
        unknown: `map`: all unknown units are one token; `refuse`: they are an error.
        validation: share of the text.
        test: share of the text.
        samples: number of samples by which a model is judged.
    """

    has_true_field: ClassVar[bool] = False
    blank = "░"  # underscores occur in texts

    def __init__(
        self, *, file: str, unit: Unit, length: int, unknown: str, validation: float, test: float, samples: int,
        seed: int, device: torch.device,
    ) -> None:  # fmt: skip
        check_counts(2, length=length)
        _check(unit=unit, unknown=unknown, validation=validation, test=test)
        text = read_text(file, unit)
        ends = [round((1 - validation - test) * len(text)), round((1 - test) * len(text))]
        parts = dict(zip((Split.TRAIN, Split.VALIDATION, Split.TEST), _cut(text, ends), strict=True))
        if short := [split for split, part in parts.items() if len(part) < 2 * length]:
            raise RefusedInput(
                f"task.file={as_typed(file)} has {len(text):,} {unit}, of which {len(parts[short[0]]):,} are for "
                f"{short[0]}: too few for two pieces of task.length={length}. Use a smaller task.length, or a longer "
                "text."
            )
        missing = sorted(set(parts[Split.VALIDATION] + parts[Split.TEST]) - set(parts[Split.TRAIN]))
        if missing and unknown == "refuse":
            raise RefusedInput(
                f"task.unknown=refuse, and {len(missing)} of the {unit} of task.file={as_typed(file)} do not occur in "
                f"its training part: {', '.join(map(repr, missing[:SHOWN]))}. Use task.unknown=map."
            )
        self.unit, self.missing = unit, missing
        vocabulary = Vocabulary.of(parts[Split.TRAIN], unknown=bool(missing))
        if len(vocabulary.words()) < 2:
            raise RefusedInput(
                f"task.file={as_typed(file)} is one character again and again: there is nothing to learn."
            )
        tokens = {split: torch.tensor(vocabulary.tokens(part)) for split, part in parts.items()}
        self.unseen = sum(part.count(one) for part in parts.values() for one in missing)
        pieces = {split: _pieces(part, length, length) for split, part in tokens.items()}
        pieces[Split.TRAIN] = _shuffled(_pieces(tokens[Split.TRAIN], length, max(length // 2, 1)), seed)
        super().__init__(pieces, words=vocabulary.words(), distribution=None, samples=samples, seed=seed, device=device)

    @classmethod
    def contents(cls, options: Mapping[str, Any]) -> dict[str, str | None]:
        return {"file": content_of_text(str(options.get("file")))}

    def of_bound(self, bound: Scalar) -> dict[str, Scalar]:
        return {"bits_per_char": bound / (self.spec.input_shape[0] * math.log(2))}

    def introduction(self) -> Iterator[str]:
        yield from super().introduction()
        yield f"a vocabulary of {len(self.words)} {self.unit}, those of the training part"
        if self.missing:
            yield (
                f"{self.unseen:,} {self.unit} of the other parts, {len(self.missing)} different ones, do not occur "
                f"there, and become {UNKNOWN}"
            )

    def model_metrics(self, view: ModelView) -> dict[str, float]:
        return super().model_metrics(view) | self.baselines()

    def baselines(self) -> dict[str, float]:
        """Bits per unit of the test split by n-gram models, by name."""
        test, learned = self.texts[Split.TEST].cpu(), self.texts[Split.TRAIN].cpu()
        counted = NGrams(learned, tokens=len(self.words), order=max(ORDERS.values()))
        return {f"{name}_bits": counted.bits(test, order=order) for name, order in ORDERS.items()}


def _check(*, unit: str, unknown: str, validation: float, test: float) -> None:
    if unit not in {"characters", "bytes"}:
        raise RefusedInput(f"task.unit must be characters or bytes, not {as_typed(unit)}.")
    if unknown not in {"map", "refuse"}:
        raise RefusedInput(f"task.unknown must be map or refuse, not {as_typed(unknown)}.")
    if not (validation > 0 and test > 0 and validation + test < 1):
        raise RefusedInput(
            f"task.validation={validation:g} and task.test={test:g} are shares of the text, each more than 0, and must "
            "leave some of it for training."
        )


def _cut(text: str, ends: list[int]) -> list[str]:
    return [text[begin:end] for begin, end in zip([0, *ends], [*ends, len(text)], strict=True)]


def _pieces(tokens: Tensor, length: int, apart: int) -> Tensor:
    """Pieces (piece, position), which begin `apart` tokens after each other."""
    return tokens.unfold(0, length, apart)


def _shuffled(pieces: Tensor, seed: int) -> Tensor:
    """Shuffles pieces, so that the first ones are from anywhere in the text."""
    return pieces[torch.randperm(len(pieces), generator=torch.Generator().manual_seed(seed))]
