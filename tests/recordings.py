"""Substitutes for recordings on a GPU, to test without one: they call the function again instead of replaying."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ode_runner.fields.ledger import Ledger
from ode_runner.training.planned_pass import _Backward


class Called:
    """Substitutes a CapturedFunction: calls the function again, but with fixed memory for outputs."""

    def __init__(
        self, function: Callable[..., Any], examples: Any, leaves: Any, *, facts: int, fusing: Any = ()
    ) -> None:
        self.function, self.leaves, self.facts = function, leaves, facts
        self.inputs = [x.detach().clone().requires_grad_(x.requires_grad) for x in examples]
        self.outputs: list[Tensor] = []

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        self.inputs = [
            x.detach().clone().requires_grad_(old.requires_grad) for x, old in zip(inputs, self.inputs, strict=True)
        ]
        with torch.enable_grad():
            self.graph = self.function(*self.inputs)
        if not self.outputs:
            self.outputs = [y.detach().clone() for y in self.graph]
        for old, new in zip(self.outputs, self.graph, strict=True):
            old.copy_(new.detach())
        return [y.detach() for y in self.outputs]

    def pull_back(self, *cotangents: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        moving = [x for x in self.inputs if x.requires_grad]
        assert len(cotangents) <= len(self.graph) - self.facts
        found = torch.autograd.grad(
            self.graph[: len(cotangents)],
            [*moving, *self.leaves],
            cotangents,
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        return list(found[: len(moving)]), list(found[len(moving) :])


class Halves:
    """Substitutes the CUDA graph of either half of a pass: a replay repeats it, without counting evaluations."""

    ledger: Ledger
    replays = 0

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function, self.found = function, function()

    def replay(self) -> None:
        type(self).replays += 1
        totals = {phase: replace(tally) for phase, tally in self.ledger.totals.items()}
        again = self.function()
        for phase, total in totals.items():
            self.ledger.put_back(phase, total)
        with torch.no_grad():
            for old, new in zip(self._tensors(self.found), self._tensors(again), strict=True):
                old.copy_(new)

    @staticmethod
    def _tensors(found: Any) -> list[Tensor]:
        both = found.gradients if isinstance(found, _Backward) else [found.numbers.values, found.noted]
        return [one for one in both if one is not None]


class Moment:
    """Substitutes torch.cuda.Event."""

    def record(self) -> None: ...

    def synchronize(self) -> None: ...


class MeanOfAll(nn.Module):
    """Replaces its buffer by another tensor at every call."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
        return x - self.mean
