"""Training on a GPU: nothing waits for it without need, and captured passes and steps are those of ordinary ones."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ode_runner.batch import Split
from ode_runner.build import build_experiment, build_trainer
from ode_runner.compiling.cuda_graph import never_waiting
from ode_runner.errors import IncompatibleChoice
from ode_runner.gradients.backprop import Backprop
from ode_runner.gradients.checkpoint import Checkpoint
from ode_runner.integrator import Integrator
from ode_runner.solvers.dopri5 import Dopri5
from ode_runner.solvers.fehlberg2 import Fehlberg2
from ode_runner.training.prepare_compiled import compile_training
from ode_runner.training.trainer import Trainer
from tests.helpers import TINY, check_resumed, record_of, run_folder, typed
from tests.problems import Compose, GivenSpiral

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
DIGITS = ("task=digits", "trainer.device=cuda", "trainer.batch_size=50")
CELLS = {
    "rk4": ("solver=rk4", "solver.num_steps=3"),
    "rk4, checkpoint": ("solver=rk4", "solver.num_steps=3", "gradient=checkpoint"),
    "rk4, adjoint": ("solver=rk4", "solver.num_steps=3", "gradient=adjoint"),
    "leapfrog": ("solver=leapfrog", "network=separable"),
    "reversible_heun": ("solver=reversible_heun", "gradient=reversible"),
    "resnet": ("model=resnet",),
    "rknet": ("model=rknet", "solver=rk4"),
}
ADAPTIVE = {"dopri5": ("solver=dopri5",), "dopri5, checkpoint": ("solver=dopri5", "gradient=checkpoint")}


def made(composed: Compose, *overrides: str) -> Trainer:
    cfg = composed(*DIGITS, *overrides)
    trainer = build_trainer(cfg, cfg.hydra.runtime.choices, build_experiment(cfg, cfg.hydra.runtime.choices))
    assert trainer is not None
    return trainer


def steps_of(trainer: Trainer, *, compiled: bool) -> list[dict[str, float]]:
    """An epoch, whose last batch is smaller."""
    said: list[str] = []
    if compiled:
        trainer.compiled = compile_training(trainer.forward, steps=1, processes=1, say=said.append)
        assert trainer.compiled.seconds is not None, said
    batches = trainer.task.batches(Split.TRAIN, batch_size=50, epoch=0)
    found = [trainer.train_step(batch, measure_memory=False) for batch in batches]
    assert not said
    return [{name: float(value) for name, value in step.items()} for step in found]


@pytest.mark.parametrize("name", [name for name in CELLS if name != "leapfrog"])
def test_a_training_step_without_step_control_never_waits(name: str, composed: Compose) -> None:
    trainer = made(composed, *CELLS[name])
    batches = list(trainer.task.batches(Split.TRAIN, batch_size=50, epoch=0))[:4]
    trainer.train_step(batches[0], measure_memory=False)
    with never_waiting():
        for batch in batches:
            trainer.train_step(batch, measure_memory=False)


@pytest.mark.parametrize("name", [*CELLS, *ADAPTIVE])
@pytest.mark.parametrize("precision", ["fp64", "bf16"])
def test_captured_training_is_training(name: str, precision: str, composed: Compose) -> None:
    found, ledgers = [], []
    for compiled in (False, True):
        how = f"trainer.compile={'on' if compiled else 'off'}"
        trainer = made(composed, *(CELLS | ADAPTIVE)[name], f"trainer.precision={precision}", how)
        found.append(steps_of(trainer, compiled=compiled))
        ledgers.append(trainer.integrator.ledger.state_dict())
    for eager, captured in zip(*found, strict=True):
        assert captured["train/loss"] == pytest.approx(eager["train/loss"], rel=1e-6 if precision == "fp64" else 0.1)
        if precision == "fp64":
            assert captured["optim/grad_norm"] == pytest.approx(eager["optim/grad_norm"], rel=1e-4)
    if precision == "fp64":
        for phase, tally in ledgers[0].items():
            other = ledgers[1][phase]
            assert {k: v for k, v in other.items() if k != "smallest_step"} == {
                k: v for k, v in tally.items() if k != "smallest_step"
            }


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("mode", [Backprop(), Checkpoint()], ids=["backprop", "checkpoint"])
@pytest.mark.parametrize("method", [Dopri5, Fehlberg2])
def test_captured_solves_are_solves(mode: Any, method: Any) -> None:
    """Several at a time, with outputs within steps, after weights have changed, and one that nobody differentiates."""
    torch.manual_seed(0)
    field, ts = GivenSpiral().cuda(), torch.tensor([0.0, 0.3, 0.31, 1.0, 2.5], device="cuda")
    y0, z, w = (torch.randn(4, 3, device="cuda") for _ in range(3))
    y0.requires_grad_()
    z.requires_grad_()
    found = []
    for captured in (False, True):
        integrate = Integrator(solver=method(rtol=1e-4, atol=1e-4, max_steps=1000), gradient=mode)
        if captured:
            integrate.compile(field, y0, given=[z, w])
        results = []
        for scale in (1.0, 1.5):
            with torch.no_grad():
                field.layer.weight.mul_(scale)
            first = integrate(field, y0, ts, given=[z, w]).ys
            integrate(field, y0 * 2, ts, given=[z, w])
            second = integrate(field, 0.5 * y0, ts, given=[z * 2, w]).ys
            loss = first.square().mean() + second.sin().mean()
            results += [first, second, *torch.autograd.grad(loss, [y0, z, *field.parameters()])]
        with torch.no_grad():
            field.layer.weight.div_(1.5)
        found.append(results)
    for eager, captured in zip(*found, strict=True):
        torch.testing.assert_close(captured, eager, rtol=1e-8, atol=1e-10)


def test_a_captured_adaptive_step_waits_once_an_attempt_and_once_to_begin(composed: Compose) -> None:
    trainer = made(composed, "solver=dopri5", "trainer.compile=on", "tolerance=1e-4")
    trainer.compiled = compile_training(trainer.forward, steps=1, processes=1, say=print)
    batch = next(trainer.task.batches(Split.TRAIN, batch_size=50, epoch=0))
    trainer.train_step(batch, measure_memory=False)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = trainer.train_step(batch, measure_memory=False)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert "memory/saved_bytes" not in trainer.train_step(batch, measure_memory=True), "recordings keep it unseen"
    waits = sum("synchroniz" in str(one.message) for one in caught)
    assert waits <= 1 + float(found["solver/accepted"]) + float(found["solver/rejected"])


def test_dropout_draws_other_numbers_in_every_captured_pass(composed: Compose) -> None:
    trainer = made(composed, "model=resnet", "trainer.compile=on", "optimizer=sgd", "optimizer.lr=0")
    trainer.model.head = nn.Sequential(nn.Dropout(0.5), trainer.model.head)
    trainer.compiled = compile_training(trainer.forward, steps=1, processes=1, say=print)
    batch = next(trainer.task.batches(Split.TRAIN, batch_size=50, epoch=0))
    losses = {float(trainer.train_step(batch, measure_memory=False)["train/loss"]) for _ in range(4)}
    assert len(losses) == 4


def test_what_cannot_be_captured_is_refused_or_said_in_a_line(composed: Compose) -> None:
    trainer, said = made(composed, "solver=lsoda", "gradient=adjoint", "trainer.compile=auto"), list[str]()
    assert compile_training(trainer.forward, steps=10**4, processes=1, say=said.append).seconds is None
    assert said[-1].startswith("not captured: ")
    trainer = made(composed, "solver=dopri5", "gradient=adjoint", "trainer.compile=on")
    with pytest.raises(IncompatibleChoice, match=r"trainer\.compile=on: .* Use trainer\.compile=off\."):
        compile_training(trainer.forward, steps=1, processes=1, say=print)


@pytest.mark.parametrize("choices", [("solver=rk4",), ("solver=dopri5",)])
def test_a_captured_run_is_resumed_bit_for_bit(
    choices: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = (*TINY, *choices, "trainer.device=cuda", "trainer.compile=on", "trainer.log_every=1")
    command = (*command, "trainer.batch_size=16", "trainer.epochs=3", "logger=none")
    check_resumed(command, tmp_path, monkeypatch)
    assert record_of(tmp_path / "whole")["cost"]["compile_seconds"] > 0


def test_a_loss_that_is_not_finite_is_found_later_and_named_by_its_step(tmp_path: Path) -> None:
    command = ("task=digits", "model=resnet", "optimizer=sgd", "optimizer.lr=1e38", "trainer.device=cuda")
    ended = typed(*command, "trainer.log_every=7", "logger=none", cwd=tmp_path)
    assert ended.returncode == 1
    reason = record_of(tmp_path)["reason"]
    assert "at step 2 (epoch 1)" in reason
    again = typed(f"replay={run_folder(tmp_path)}", cwd=tmp_path)
    assert "at step 2 (epoch 1)" in again.stdout + again.stderr
    assert again.returncode == 1
