"""Tasks whose trained models can be asked about data that were not there in training."""

import abc
from pathlib import Path
from typing import Self

from ode_runner.tasks.base import Task


class OwnDataTask(Task):
    """A task of files of one's own, other files of which can be put to a trained model."""

    @abc.abstractmethod
    def with_data(self, path: Path) -> Self:
        """This task on other data, in units and columns of its own training data; all of them are the test split.

        Raises:
            RefusedInput: the data cannot be read, or are of another form than those of training.
        """
