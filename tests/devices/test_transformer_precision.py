"""Transformers in bf16 on the CPU: every gradient is a number, and answers are those of fp32 to rounding."""

import pytest
import torch
from torch import Tensor

from ode_runner.batch import Batch, Split
from ode_runner.build import build_experiment
from ode_runner.experiment.experiment import Experiment
from ode_runner.models.texts.masked_diffusion import MaskedDiffusion
from tests.composition import Compose

SMALL = ("network.width=16", "network.heads=2", "trainer.device=cpu")
CELLS = {
    "odenet": ("task=digits_tokens", "model=odenet", "solver=rk4", "solver.num_steps=2"),
    "ode_transformer": ("task=digits_tokens", "model=ode_transformer", "model.block=rk4"),
    "masked_diffusion": (
        *("task=markov_text", "model=masked_diffusion", "task.train=40", "task.validation=20", "task.test=20"),
        "task.samples=2",
    ),
}
ROUNDING = 2**-8  # of a number in bf16, relative
TIMES = 4  # as much, of what a few layers round one after another


@pytest.mark.parametrize("cell", CELLS)
def test_in_bf16_gradients_are_finite_and_logits_those_of_fp32_to_rounding(cell: str, composed: Compose) -> None:
    lower, full = (made(composed, cell, precision) for precision in ("bf16", "fp32"))
    lower.model.load_state_dict(full.model.state_dict())
    batch = next(full.task.batches(Split.TRAIN, batch_size=16, epoch=0))
    loss = lower.loss(batch).total
    assert loss.dtype == torch.float32
    loss.backward()
    for name, parameter in lower.model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.dtype == parameter.grad.dtype == torch.float32, name
    assert any(parameter.grad.abs().max() > 0 for parameter in lower.parameters() if parameter.grad is not None)
    expected, found = (logits(experiment, batch) for experiment in (full, lower))
    apart = float((found - expected).abs().max() / expected.abs().max())
    assert 0 < apart < TIMES * ROUNDING


def made(composed: Compose, cell: str, precision: str) -> Experiment:
    cfg = composed(*CELLS[cell], *SMALL)
    cfg.trainer.precision = precision  # to compose it again takes longer
    return build_experiment(cfg, cfg.hydra.runtime.choices)


@torch.no_grad()
def logits(experiment: Experiment, batch: Batch) -> Tensor:
    """Of classes, or of the tokens of a text that is half masked."""
    model = experiment.model.eval()
    if not isinstance(model, MaskedDiffusion):
        return experiment.outputs(batch).values
    text = torch.where(torch.arange(batch.inputs.shape[1]) % 2 == 0, model.field.mask, batch.inputs)
    with experiment.options.autocast(experiment.device):
        return model.logits(text, experiment.integrate(len(text))).float()
