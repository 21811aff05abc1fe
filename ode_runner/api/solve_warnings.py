"""Warnings about the log densities of a trained run, if its solver's steps are too long for them."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from ode_runner.experiment.experiment import Experiment
from ode_runner.experiment.model_view import model_view
from ode_runner.experiment.signals import StopRequest
from ode_runner.tasks.base import ModelView


@dataclass(kw_only=True)
class SolveWarnings:
    """Compares the first log densities of a run with those of a fine solve: to compare all would cost a multiple."""

    experiment: Experiment
    compared: bool = False

    @torch.no_grad()
    def issue(self, remarks: Callable[[ModelView], Iterator[str]]) -> None:
        """Issues the task's remarks on log densities as warnings, at the first call only."""
        if self.compared:
            return
        self.compared = True
        for remark in remarks(model_view(self.experiment, [], StopRequest())):
            warnings.warn(remark, stacklevel=4)
