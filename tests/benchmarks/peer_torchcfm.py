"""The other side of `make bench-peers`: the training loop of torchcfm's documentation. Imports nothing of this project.

Source of the loop: the README of atong01/conditional-flow-matching.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torchcfm.conditional_flow_matching import ConditionalFlowMatcher, ExactOptimalTransportConditionalFlowMatcher

BATCH, WIDTH, RATE = 256, 128, 5e-3
MATCHERS = {"independent": ConditionalFlowMatcher, "minibatch_ot": ExactOptimalTransportConditionalFlowMatcher}


class TorchCFM:
    """A model, its optimizer, and points in the plane (samples, 2) that it learns."""

    def __init__(self, coupling: str, points: Tensor) -> None:
        self.matcher: Any = MATCHERS[coupling](sigma=0.0)
        hidden = [layer for _ in range(2) for layer in (nn.Linear(WIDTH, WIDTH), nn.Tanh())]
        self.model = nn.Sequential(nn.Linear(3, WIDTH), nn.Tanh(), *hidden, nn.Linear(WIDTH, 2))
        self.optimizer, self.points, self.step = torch.optim.Adam(self.model.parameters(), lr=RATE), points, 0

    def train(self, steps: int) -> None:
        """So many steps."""
        for _ in range(steps):
            self.optimizer.zero_grad()
            begin = BATCH * self.step % len(self.points)
            x1 = self.points[begin : begin + BATCH]
            x0 = torch.randn_like(x1)
            t, x, target = self.matcher.sample_location_and_conditional_flow(x0, x1)
            predicted = self.model(torch.cat([x, t[:, None]], dim=-1))
            loss = torch.mean((predicted - target) ** 2)
            loss.backward()
            self.optimizer.step()
            self.step += 1
