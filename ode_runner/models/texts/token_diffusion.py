"""The base class of models whose samples follow a Markov chain from noise to text."""

from ode_runner.models.texts.text_model import TextModel
from ode_runner.models.texts.token_generator import TokenGenerator
from ode_runner.paths.token_field import TokenField


class TokenDiffusion(TextModel):
    """A model of texts whose field is a Markov chain from noise, at t = 1, to text, at t = 0."""

    field: TokenField

    def generator(self) -> TokenGenerator:
        return TokenGenerator(field=self.field, shape=self.shape, start=1.0, end=0.0)
