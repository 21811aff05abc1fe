"""Diagnostics of models of layers: right where the layers are known, and without influence on the experiment."""

import math

import pytest
import torch
from torch import nn

from ode_runner.analysis.depth import DepthDiagnostics
from ode_runner.build import build_experiment
from ode_runner.errors import RefusedInput
from ode_runner.experiment.experiment import Experiment
from ode_runner.fields.ledger import Phase
from ode_runner.models.depth.ode_transformer import ODETransformer
from tests.helpers import TINY
from tests.models.test_ode_transformer import Known
from tests.problems import Compose

LOOK = DepthDiagnostics(every=2, samples=4, products=6)
DIGITS = ("task=digits_tokens", "model=ode_transformer", "network.width=8", "trainer.epochs=5")


def experiment_of(composed: Compose, *overrides: str) -> Experiment:
    cfg = composed("trainer.device=cpu", *overrides)
    return build_experiment(cfg, cfg.hydra.runtime.choices)


def test_of_layers_that_stretch_by_known_factors(composed: Compose) -> None:
    """F(x) = x / 4: three layers are on one line, of lengths 1/4, 5/16 and 25/64 of the first state."""
    experiment = experiment_of(composed, *DIGITS, "model.depth=3", "trainer.precision=fp64")
    assert isinstance(experiment.model, ODETransformer)
    for piece in experiment.model.pieces:
        piece.layer.transform = Known(lambda x: x / 4)
        for p in piece.layer.attend.inner.write.parameters():
            nn.init.zeros_(p)
    found = LOOK.look(experiment)
    assert found is not None
    torch.testing.assert_close(found.moved[1:] / found.moved[:-1], torch.full((2, 4), 1.25, dtype=torch.float64))
    scalars = LOOK.measure(experiment, epoch=1)
    assert scalars["diagnostics/path_straightness"] == pytest.approx(1)
    for k in (1, 2, 3):
        assert scalars[f"diagnostics/increment_radius_{k}"] == pytest.approx(0.25)
        assert scalars[f"diagnostics/increment_real_{k}"] == pytest.approx(0.25)


def test_of_sweeps_that_move_by_a_known_factor(composed: Compose) -> None:
    """F(x) = x / 4: the second sweep moves 1 + 1/4 + 1/16 + 1/64 by 1/64."""
    iterated = ("model.block=iiet", "model.sweeps=2", "trainer.precision=fp64")
    experiment = experiment_of(composed, *DIGITS, *iterated)
    assert isinstance(experiment.model, ODETransformer)
    for piece in experiment.model.pieces:
        piece.layer.transform = Known(lambda x: x / 4)
        for p in piece.layer.attend.inner.write.parameters():
            nn.init.zeros_(p)
    scalars = LOOK.measure(experiment, epoch=1)
    for k in (1, 2):
        assert scalars[f"diagnostics/sweep_residual_{k}"] == pytest.approx((1 / 64) / (1 + 1 / 4 + 1 / 16 + 1 / 64))


@pytest.mark.parametrize("overrides", [(*DIGITS, "model.block=rk2"), (*TINY, "model=resnet", "model.blocks=3")])
def test_a_look_leaves_no_trace(composed: Compose, overrides: tuple[str, ...]) -> None:
    experiment = experiment_of(composed, *overrides)
    random = torch.get_rng_state()
    scalars = LOOK.measure(experiment, epoch=1)
    assert scalars
    assert all(math.isfinite(value) for value in scalars.values())
    assert 0 < scalars["diagnostics/path_straightness"] <= 1
    assert torch.equal(torch.get_rng_state(), random)
    assert all(p.grad is None for p in experiment.parameters())
    assert {p for p, tally in experiment.integrator.ledger.totals.items() if tally.evaluations} <= {Phase.DIAGNOSTICS}
    assert [name for name, _ in LOOK.figures(experiment)] == ["layers"]


def test_it_looks_at_models_of_layers_when_it_is_due(composed: Compose) -> None:
    assert LOOK.measure(experiment_of(composed, *TINY), epoch=1) == {}
    experiment = experiment_of(composed, *DIGITS, "model.shared=true")
    due = [epoch for epoch in range(1, 8) if LOOK.measure_if_due(experiment, epoch=epoch, last=epoch == 7)]
    assert due == [1, 2, 4, 6, 7]
    assert LOOK.measure(experiment, epoch=1)["diagnostics/layer_distance"] == 0


@pytest.mark.parametrize("option", ["every", "samples", "products"])
def test_an_impossible_option_is_refused(option: str) -> None:
    with pytest.raises(RefusedInput, match=f"diagnostics.{option} must be at least 1, not 0"):
        DepthDiagnostics(**{"every": 1, "samples": 1, "products": 1, option: 0})
