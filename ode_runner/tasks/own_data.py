"""The interface of tasks whose trained models can be evaluated on new data."""

import abc
from pathlib import Path
from typing import Self

from ode_runner.tasks.base import Task


class OwnDataTask(Task):
    """A task with data from the user's files; a trained model can be evaluated on other files of the same form."""

    @abc.abstractmethod
    def with_data(self, path: Path) -> Self:
        """A copy of this task with other data, scaled as its training data; all of them are in the test split.

        Raises:
            RefusedInput: the data cannot be read, or are not of the same form as the training data.
        """
