"""Base classes of models that represent tokens by points of a vector space, with a Gaussian path from noise."""

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self, final

import torch
from torch import Tensor

from ode_runner.errors import RefusedInput
from ode_runner.models.texts.text_generator import TextGenerator
from ode_runner.models.texts.text_model import TextModel
from ode_runner.networks.base import Network
from ode_runner.noise.brownian_path import Noise
from ode_runner.objectives.base import Objective
from ode_runner.objectives.coded_text import CodedLikelihood, CodeLearner
from ode_runner.paths.denoising_field import DenoisingField
from ode_runner.problem import Integrate
from ode_runner.types import State, Time, Trajectory


class CodedField(DenoisingField):
    """The field of a path between noise and points that represent tokens, (batch, position, number).

    The denoised state is the mean of the points with the probabilities of `logits`.
    """

    call_weights: ClassVar[Mapping[str, float]] = {**DenoisingField.call_weights, "logits": 1}

    def codes(self) -> Tensor:
        """The points, (token, number), all with the same norm."""
        raise NotImplementedError(f"{type(self).__name__} does not say what stands for tokens: define codes(self)")

    @abc.abstractmethod
    def logits(self, t: Time, x: State, *given: Tensor) -> Tensor:
        """Logits of the token at each position, (batch, position, tokens)."""

    def denoise(self, t: Time, x: State, *given: Tensor) -> State:
        return self.logits(t, x, *given).softmax(dim=-1) @ self.codes()


class CodedText(TextModel, CodeLearner):
    """Learns to predict tokens from noisy points; samples are rounded to the nearest token.

    Args:
        end_time: the last time of sampling, at which samples are rounded.
    """

    objective: ClassVar[Objective[CodeLearner]] = CodedLikelihood()
    field: CodedField

    def __init__(self, network: Network, *, end_time: float, regression: float) -> None:
        if not 0 < end_time < 1:
            raise RefusedInput(
                f"samples end at model.end_time={end_time:g}, where they are rounded to tokens: it must be between 0 "
                "and 1. Use model.end_time=0.1."
            )
        if regression < 0:
            raise RefusedInput(f"model.regression must be 0 or more, not {regression:g}.")
        super().__init__(network)
        self.end_time, self.regression = end_time, regression

    def codes(self) -> Tensor:
        return self.field.codes()

    def logits(self, t: Tensor, x: Tensor, integrate: Integrate) -> Tensor:
        return integrate.evaluate(self.field, t, x, call="logits")

    def generator(self) -> TextGenerator:
        codes = self.codes()
        shape = (*self.shape, codes.shape[1])
        return RoundedGenerator(field=self.field, codes=codes, shape=shape, start=1.0, end=self.end_time)


@final
@dataclass(frozen=True, kw_only=True)
class RoundedGenerator(TextGenerator):
    """A generator of texts: at every time, the tokens are those with the nearest points, or the given ones.

    `codes` are the points, (token, number).
    """

    field: DenoisingField
    codes: Tensor
    rounded: ClassVar[bool] = True

    def completing(self, text: Tensor) -> Self:
        return replace(self, field=ClampedCodes(self.field, codes=self.codes, text=text), text=text)

    def finished(self, path: Trajectory, noise: Noise, integrate: Integrate, given: Sequence[Tensor]) -> Tensor:
        del noise, integrate, given
        found = nearest(path, self.codes)
        return found if self.text is None else torch.where(self.text < len(self.codes), self.text, found)


@final
class ClampedCodes(DenoisingField):
    """A field with given tokens, which are without noise at all times.

    In training, all positions have the same noise level. Given tokens without noise are out of this distribution, so
    that blanks are not drawn exactly from their conditional distribution. Given tokens with noise would be worse,
    because early in the solve almost nothing would be given.

    Args:
        codes: the points that represent tokens, (token, number).
        text: (position,), the tokens; the number after the last token is a blank.
    """

    points: Tensor
    known: Tensor

    def __init__(self, inner: DenoisingField, *, codes: Tensor, text: Tensor) -> None:
        super().__init__()
        self.inner, self.path, self.batched_time = inner, inner.path, inner.batched_time
        self.register_buffer("known", (text < len(codes))[:, None], persistent=False)
        self.register_buffer("points", codes[text.clamp(max=len(codes) - 1)], persistent=False)

    def denoise(self, t: Time, x: State, *given: Tensor) -> State:
        points = self.points.to(x.dtype)
        denoised = self.inner.denoise(t, torch.where(self.known, points, x), *given)
        return torch.where(self.known, points, denoised)


def nearest(x: Tensor, codes: Tensor) -> Tensor:
    """The index (*any) of the code nearest in direction to each point (*any, number); codes are (token, number)."""
    return (x @ codes.to(x.dtype).T).argmax(dim=-1)
