"""The other side of `make bench-peers`: the training loop of torchcfm's documentation, in an environment of its own.

Imports nothing of this project. Prints the seconds of CPU that its steps take and the number of parameters, as JSON.
Source of the loop: the README of atong01/conditional-flow-matching.
"""

import json
import sys
import time

import torch
from torch import Tensor, nn
from torchcfm.conditional_flow_matching import ConditionalFlowMatcher, ExactOptimalTransportConditionalFlowMatcher

BATCH, WIDTH, RATE = 256, 128, 5e-3


def main() -> None:
    coupling, steps = sys.argv[1], int(sys.argv[2])
    torch.set_num_threads(1)
    torch.manual_seed(0)
    train(coupling, steps // 10)  # warms up
    begun = time.process_time()
    model = train(coupling, steps)
    seconds = time.process_time() - begun
    print(json.dumps({"seconds": seconds, "parameters": sum(p.numel() for p in model.parameters())}))


def train(coupling: str, steps: int) -> nn.Module:
    """So many steps on eight narrow Gaussians."""
    matchers = {"independent": ConditionalFlowMatcher, "minibatch_ot": ExactOptimalTransportConditionalFlowMatcher}
    matcher = matchers[coupling](sigma=0.0)
    hidden = [layer for _ in range(2) for layer in (nn.Linear(WIDTH, WIDTH), nn.Tanh())]
    model = nn.Sequential(nn.Linear(3, WIDTH), nn.Tanh(), *hidden, nn.Linear(WIDTH, 2))
    optimizer, points = torch.optim.Adam(model.parameters(), lr=RATE), eight_gaussians(51_200)
    for step in range(steps):
        optimizer.zero_grad()
        begin = BATCH * step % len(points)
        x1 = points[begin : begin + BATCH]
        x0 = torch.randn_like(x1)
        t, x, target = matcher.sample_location_and_conditional_flow(x0, x1)
        predicted = model(torch.cat([x, t[:, None]], dim=-1))
        loss = torch.mean((predicted - target) ** 2)
        loss.backward()
        optimizer.step()
    return model


def eight_gaussians(count: int) -> Tensor:
    angles = torch.arange(8) * torch.pi / 4
    centres = 2**0.5 * torch.stack([angles.cos(), angles.sin()], dim=1)
    return centres[torch.randint(8, (count,))] + 0.1 * torch.randn(count, 2)


if __name__ == "__main__":
    main()
