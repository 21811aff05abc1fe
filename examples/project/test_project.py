"""`pytest` in this folder: the pieces are what they say, and train together."""

import pytest
import torch
from my_solver import Heun3
from my_task import BrusselatorField

import ode_runner as ode


def test_the_solver_has_its_order():
    y0, ts = torch.tensor([[1.0, 1.0]], dtype=torch.float64), torch.tensor([0.0, 2.0], dtype=torch.float64)
    field = BrusselatorField(a=1.0, b=2.5)
    exact = ode.integrate(field, y0, ts, rtol=1e-12, atol=1e-12).ys[-1]
    errors = [(Heun3(num_steps=steps, step_size=None).solve(field, y0, ts).ys[-1] - exact).norm() for steps in (16, 32)]
    assert (errors[0] / errors[1]).log2() == pytest.approx(3, abs=0.3)


def test_the_pieces_train_together(tmp_path):
    run = ode.train(
        "task=brusselator", "model=paced", "solver=heun3", "solver.num_steps=4", "trainer.epochs=2", "logger=none",
        f"output_dir={tmp_path}", config_dirs=["conf"],
    )  # fmt: skip
    losses = run.metrics["train/loss"].dropna()
    assert losses.iloc[-1] < losses.iloc[0]
