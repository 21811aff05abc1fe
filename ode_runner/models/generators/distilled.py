"""The base class of models that learn from a teacher, such as a trained model."""

import abc

from ode_runner.models.base import Model
from ode_runner.models.generator import Generator
from ode_runner.networks.base import Network
from ode_runner.paths.denoising_field import DenoisingField

EXACT = "exact"  # in place of a folder: the task's true field


class DistilledModel(Model):
    """A model with a teacher, or without one.

    Args:
        teacher: `exact`, or a run folder; the caller passes the teacher's generator to `learn_from`. None: no teacher.
    """

    teacher: DenoisingField | None

    def __init__(self, network: Network, *, teacher: str | None) -> None:
        super().__init__(network)
        self.teacher_option, self.teacher = teacher, None

    @abc.abstractmethod
    def learn_from(self, generator: Generator) -> None:
        """Learn from the generator of a teacher's samples.

        Raises:
            IncompatibleChoice: the model cannot learn from this teacher.
        """
