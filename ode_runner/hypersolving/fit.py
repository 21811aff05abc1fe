"""Fits a correction to residuals."""

import torch
from torch import Tensor

from ode_runner.hypersolving.corrections import StateCorrection
from ode_runner.hypersolving.residuals import Residuals

LEARNING_RATE = 1e-2  # at first, of AdamW with a cosine schedule
BATCH = 512  # steps of samples


def fitted(data: Residuals, *, width: int, steps: int, seed: int) -> StateCorrection:
    """A correction fitted by `steps` steps of AdamW to the mean distance from the residuals, in single precision.

    Poli, Massaroli, Yamashita, Asama, Park. Hypersolvers: Toward Fast Continuous-Depth Models. NeurIPS 2020, section 3.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        correction = StateCorrection.for_residuals(data, width=width).to(data.y.device)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(correction.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    with torch.enable_grad():
        for _ in range(steps):
            chosen = data.chosen(torch.randint(len(data.t), (BATCH,), generator=generator).to(data.t.device))
            loss = _left(correction, chosen).mean() / correction.size
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return correction.requires_grad_(False)


@torch.no_grad()
def share_left(correction: StateCorrection, data: Residuals) -> float:
    """The share of the residuals that the correction leaves: their mean distance from it by their mean size."""
    parts = [data.chosen(places) for places in torch.arange(len(data.t), device=data.t.device).split(BATCH)]
    left = sum(float(_left(correction, part).sum()) for part in parts)
    return left / sum(float(part.error.flatten(1).norm(dim=1).sum()) for part in parts)


def _left(correction: StateCorrection, data: Residuals) -> Tensor:
    """The distance of each residual from its correction."""
    return (correction(data.t, data.dt, data.y, data.dy, *data.given) - data.error).flatten(1).norm(dim=1)
