"""The base of tasks whose data are texts: sequences of tokens."""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from ode_runner.batch import LEARNER, Answer, Batch, Drawn, Learner, Outputs, Split, TaskSpec
from ode_runner.errors import RefusedInput, as_typed
from ode_runner.plots.animation import Picture
from ode_runner.plots.curves import draw_curves
from ode_runner.plots.figure_types import Figure
from ode_runner.plots.texts import draw_unmasking
from ode_runner.tasks.base import ModelView, Table
from ode_runner.tasks.batches import in_batches, shuffler
from ode_runner.tasks.sampled import SampledTask
from ode_runner.tasks.set_metrics import SetMetric, with_floors
from ode_runner.tasks.sizes import check_counts
from ode_runner.tasks.texts.token_distributions import TextDistribution
from ode_runner.tasks.texts.token_metrics import bigram_frequencies, bigram_variation, unigram_loss
from ode_runner.types import Scalar, Trajectory

SHOWN, TIMES = 16, 17  # texts in a picture, and times on their way
PRINTED, EVERY = 4, 2  # printed texts; the first one is printed at every so many of these times
NO_DEPENDENCE = 0.97  # a loss above this share of the unigram loss shows no dependence between tokens
FEW = 12  # words in a message
CERTAIN = 3  # standard errors
APART = 1 << 32  # keeps the data's seeds apart from those of true texts for comparison


class TokenTask(SampledTask):
    """Texts of equal length, integers (text, position), for models that generate texts.

    A model's outputs are log likelihoods of texts, or lower bounds of these, in nats, (batch,). `nelbo` is their
    negative mean: the negative log likelihood, or an upper bound of it, whose expectation is at least the entropy for
    every model. `unigram_nll` is that of the frequencies of single tokens in the training split.

    Metrics of `samples` texts that a model draws:

    - `bigram_tv`: the total variation distance between the frequencies of adjacent pairs and their distribution, or
    those of the test split if this is not known; its floor is that of as many true texts.
    - `valid_rate`: the share of valid texts, if there are invalid ones; its floor is that of true texts. It is no
    objective: a mode-seeking sampler has more valid texts than the true distribution.
    - `nll`: if every text is possible, the mean of -log p under the true distribution, which should be its entropy and
    not less; its floor is that of true texts.

    Args:
        texts: (text, position) of each split.
        words: the printed form of each token.
        distribution: the distribution of the texts, if it is known.
        samples: number of samples by which a model is judged.
    """

    gives_tokens: ClassVar[bool] = True
    has_true_field: ClassVar[bool] = True
    needs: ClassVar[frozenset[Answer]] = frozenset({Answer.TOKENS})
    test_only: ClassVar[frozenset[str]] = frozenset({"samples"})
    objective: ClassVar[str] = "nelbo"
    higher_is_better: ClassVar[bool] = False
    drawn_times: ClassVar[int] = TIMES
    separator: ClassVar[str] = ""  # printed between two tokens
    blank: ClassVar[str] = "_"  # printed for a masked token

    def __init__(
        self,
        texts: Mapping[Split, Tensor],
        *,
        words: Sequence[str],
        distribution: TextDistribution | None,
        samples: int,
        seed: int,
        device: torch.device,
    ) -> None:
        check_counts(2, samples=samples, **{split.value: len(part) for split, part in texts.items()})
        self.texts = {split: part.to(device) for split, part in texts.items()}
        self.words, self.samples, self.seed = words, samples, seed
        self.distribution = None if distribution is None else distribution.to(device)
        self.ts = torch.tensor([0.0, 1.0], device=device)
        length = self.texts[Split.TRAIN].shape[1]
        self.spec = TaskSpec(
            input_shape=(length,),
            output_shape=(length, len(words)),
            tokens=len(words),
            field=self.distribution,
            sampled=None if distribution is None else (1.0, 0.0),
        )

    def size(self, split: Split) -> int:
        return len(self.texts[split])

    def batches(self, split: Split, *, batch_size: int, epoch: int) -> Iterator[Batch]:
        texts, order = self.texts[split], shuffler(split, seed=self.seed, epoch=epoch)
        for chosen in in_batches(len(texts), batch_size, order, device=texts.device):
            yield Batch(texts[chosen], self.ts, texts[chosen])

    def loss(self, outputs: Outputs, batch: Batch) -> Scalar:
        return -outputs.values.mean()

    def metrics(self, outputs: Outputs, batch: Batch) -> dict[str, Scalar]:
        return {"nelbo": self.loss(outputs, batch)}

    def of_bound(self, bound: Scalar) -> dict[str, Scalar]:
        """The bound of the loss of a text, given in nats, in other units, by name."""
        del bound
        return {}

    def sampled_conditions(self) -> Tensor:
        return torch.zeros(self.samples, 0, device=self.ts.device)

    def introduction(self) -> Iterator[str]:
        known = "" if self.distribution is None else f", and the entropy is {self.distribution.entropy:.2f}"
        yield f"by the shares of single tokens, the test split has {self._unigram():.2f} nats a text{known}"

    def model_metrics(self, view: ModelView) -> dict[str, float]:
        return {"unigram_nll": self._unigram()} | with_floors(self.sample_metrics(self.drawn(view).path[-1]))

    def sample_metrics(self, texts: Tensor) -> dict[str, SetMetric]:
        """Metrics of texts that a model has drawn, with those of as many true texts as floors."""
        true, found = self._true(len(texts)), dict[str, SetMetric]()
        bigrams = self._bigrams()
        found["bigram_tv"] = SetMetric(bigram_variation(texts, bigrams), bigram_variation(true, bigrams))
        if self.distribution is None:
            return found
        if self.distribution.has_invalid:
            found["valid_rate"] = SetMetric(
                *(float(self.distribution.valid(part).double().mean()) for part in (texts, true))
            )
        if self.distribution.always_possible:
            found["nll"] = SetMetric(*(-float(self.distribution.log_density(part).mean()) for part in (texts, true)))
        return found

    def remarks(self, metrics: Mapping[str, float], *, learner: Learner = LEARNER) -> Iterator[str]:
        nelbo, unigram = metrics.get("test/nelbo"), metrics["test/unigram_nll"]
        dependent = self.distribution is None or self.distribution.entropy < NO_DEPENDENCE * unigram
        if nelbo is not None and nelbo >= NO_DEPENDENCE * unigram and dependent and learner.learns:
            yet = "the model has learned no dependence between tokens yet. Train it longer."
            never = "the model predicts each token by itself, however long it is trained. Use another model for texts."
            yield (
                f"the loss of {nelbo:.2f} nats a text is hardly below that of single tokens, {unigram:.2f}, or above "
                f"it: {yet if learner.joins_tokens else never}"
            )
        nll = metrics.get("test/nll")
        if nll is not None and self.distribution is not None and nll < self.distribution.entropy - self._margin():
            yield (
                f"the sampler seeks modes: its texts have a loss of {nll:.2f} nats under the true distribution, less "
                f"than the entropy, {self.distribution.entropy:.2f}. A high valid rate then says nothing."
            )

    def conclusion(self, view: ModelView) -> Iterator[str]:
        """The generation of a text step by step, and a few more texts."""
        assert view.sample is not None
        yield from self.printed(view.sample(SHOWN, TIMES, []).path[:, :PRINTED])

    def printed(self, path: Trajectory) -> Iterator[str]:
        """The first of the texts (time, text, position) at several times, and the others at the end."""
        others = ", and others at the end" if path.shape[1] > 1 else ""
        yield f"a text on its way from noise, at t = 1{others}:"
        for i in range(0, len(path), EVERY):
            yield f"  {1 - i / (len(path) - 1):5.3f}  {self.written(path[i, 0].tolist())}"
        for text in path[-1, 1:].tolist():
            yield f"         {self.written(text)}"

    def written(self, text: Sequence[int]) -> str:
        """A text as printed, with masks as `blank`."""
        return self.separator.join(self.words[token] if token < len(self.words) else self.blank for token in text)

    def with_blanks(self, text: str) -> Tensor:
        """The tokens (position,) of a typed text with blanks: the inverse of `written`.

        Raises:
            RefusedInput: it has the wrong length, or a word that is not a token.
        """
        words, [length] = text.split(self.separator) if self.separator else list(text), self.spec.input_shape
        numbers = {word: token for token, word in enumerate([*self.words, self.blank])}
        if unknown := [word for word in words if word not in numbers]:
            raise RefusedInput(
                f"inputs={as_typed(text)}: no token of this task is {as_typed(unknown[0])}. Use "
                f"{', '.join(map(as_typed, self.words[:FEW]))}{', ...' if len(self.words) > FEW else ''}, or "
                f"{self.blank} for a blank."
            )
        if len(words) != length:
            first = next((word for word in self.words if word.isalnum()), self.words[0])
            example = self.separator.join([first, *[self.blank] * (length - 1)])
            typed = f"inputs={as_typed(example)}" if example.isascii() else f"'inputs=\"{example}\"'"
            raise RefusedInput(
                f"inputs={as_typed(text)} has {len(words)} tokens, and a text of this task {length}. Type {typed}, say."
            )
        return torch.tensor([numbers[word] for word in words])

    def tables(self, view: ModelView) -> Iterator[tuple[str, Table]]:
        yield from self.sample_tables(self.drawn(view))

    def sample_tables(self, drawn: Drawn) -> Iterator[tuple[str, Table]]:
        yield "samples", Table(["text"], [[self.written(text)] for text in drawn.path[-1].tolist()])

    def figures(self, view: ModelView) -> Iterator[tuple[str, Picture]]:
        if view.history:
            yield "curves", draw_curves(view.history, quality=self.objective, levels=self._levels())
        assert view.sample is not None
        yield from self.sample_figures(view.sample(SHOWN, TIMES, []))

    def sample_figures(self, drawn: Drawn) -> Iterator[tuple[str, Figure]]:
        yield "unmasking", draw_unmasking(drawn.path[:, :SHOWN], words=self.words, samples=drawn.path.shape[1])

    def _levels(self) -> dict[str, float]:
        """Levels for comparison with a bound: the loss of single tokens and, if known, the entropy."""
        known = {} if self.distribution is None else {"entropy of the texts": self.distribution.entropy}
        return {"loss of single tokens": self._unigram()} | known

    def _unigram(self) -> float:
        return unigram_loss(self.texts[Split.TEST], self.texts[Split.TRAIN], self.spec.tokens)

    def _bigrams(self) -> Tensor:
        if self.distribution is not None:
            return self.distribution.bigrams()
        return bigram_frequencies(self.texts[Split.TEST], self.spec.tokens)

    def _true(self, count: int) -> Tensor:
        """`count` true texts: from the distribution, or else from the training split."""
        if self.distribution is None:
            return self.texts[Split.TRAIN][:count]
        return self.distribution.draw(count, torch.Generator().manual_seed(self.seed)).to(self.ts.device)

    def _margin(self) -> float:
        """The margin of chance in the mean loss of `samples` samples of the true distribution."""
        assert self.distribution is not None
        return CERTAIN * float(self.distribution.log_density(self.texts[Split.TEST]).std()) / self.samples**0.5


def split_texts(distribution: TextDistribution, sizes: Mapping[Split, int], seed: int) -> dict[Split, Tensor]:
    """Texts drawn from a distribution, for each split."""
    drawn = distribution.draw(sum(sizes.values()), torch.Generator().manual_seed(seed + APART))
    return dict(zip(sizes, drawn.split(list(sizes.values())), strict=True))
