"""Training on a GPU: nothing waits for it without need, and captured passes and steps are those of ordinary ones."""

import warnings
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ode_runner.batch import Split
from ode_runner.build import build_experiment, build_trainer
from ode_runner.compiling.cuda_graph import never_waiting
from ode_runner.errors import IncompatibleChoice
from ode_runner.experiment.signals import StopRequest
from ode_runner.gradients.adjoint import Adjoint
from ode_runner.gradients.backprop import Backprop
from ode_runner.gradients.checkpoint import Checkpoint
from ode_runner.gradients.seminorm import Seminorm
from ode_runner.integrator import Integrator
from ode_runner.models.generator import sample_noise
from ode_runner.recording.record import RunStatus
from ode_runner.recording.status import status_of
from ode_runner.solvers.explicit.dopri5 import Dopri5
from ode_runner.solvers.explicit.fehlberg2 import Fehlberg2
from ode_runner.tasks.sampled import SampledTask
from ode_runner.training.planned_pass import PlannedPasses
from ode_runner.training.prepare_compiled import compile_training
from ode_runner.training.trainer import Trainer
from tests.composition import Compose
from tests.helpers import TINY, latest, options, record_of, run_folder, typed
from tests.problems import GivenSpiral
from tests.resuming import check_resumed, check_resumed_exactly

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
DIGITS = ("task=digits", "trainer.device=cuda", "trainer.batch_size=50")
TEXTS = ("task.train=220", "task.validation=50", "task.test=50", "task.samples=50")
CELLS = {
    "rk4": ("solver=rk4", "solver.num_steps=3"),
    "rk4, checkpoint": ("solver=rk4", "solver.num_steps=3", "gradient=checkpoint"),
    "rk4, adjoint": ("solver=rk4", "solver.num_steps=3", "gradient=adjoint"),
    "leapfrog": ("solver=leapfrog", "network=separable"),
    "reversible_heun": ("solver=reversible_heun", "gradient=reversible"),
    "resnet": ("model=resnet",),
    "rknet": ("model=rknet", "solver=rk4"),
    "rk4, kinetic": ("solver=rk4", "solver.num_steps=3", "regularizer=kinetic"),
    "sde": ("task=ou", "model=sde", "solver=euler_maruyama", "solver.num_steps=5", "task.train=110"),
    "latent_sde": ("task=lorenz_sde", "model=latent_sde", "task.train=110", "task.validation=50", "task.test=50"),
    "attention": ("network=transformer", "solver=rk4", "solver.num_steps=3"),  # images in patches
    "ode_transformer": ("network=transformer", "model=ode_transformer", "model.block=rk4"),
    "masked_diffusion": (
        "task=markov_text",
        "model=masked_diffusion",
        "network=transformer",
        "network.width=16",
        *TEXTS,
    ),
}
ADAPTIVE = {
    "dopri5": ("solver=dopri5",),
    **{f"dopri5, {mode}": ("solver=dopri5", f"gradient={mode}") for mode in ("checkpoint", "adjoint", "seminorm")},
    "tokens": ("task=sequence_sort", "task.length=4", "task.symbols=5", *TEXTS[:-1], "network.width=8"),
}
INEXACT = ("gradient=adjoint", "gradient=seminorm")
GENERATION = ("task=digits_generation", "model=flow_matching", "network=unet", "network.width=8", "trainer.device=cuda")
SAMPLERS = {
    "heun": ("solver=heun", "solver.num_steps=4"),
    "dopri5": ("solver=dopri5",),
    "ddim": ("solver=ddim", "solver.num_steps=5"),
    "dpmpp_2m": ("solver=dpmpp_2m", "solver.num_steps=5"),
    "ddpm": ("solver=ddpm", "solver.num_steps=5"),
}


def made(composed: Compose, *overrides: str) -> Trainer:
    cfg = composed(*latest([*DIGITS, *overrides]))
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
@pytest.mark.parametrize("precision", ["fp64", "bf16", "fp16"])
def test_captured_training_is_training(name: str, precision: str, composed: Compose) -> None:
    if precision == "fp16" and CELLS.get(name, ADAPTIVE.get(name, ()))[-1] in INEXACT:
        pytest.skip("a scaled loss has another adjoint within tolerance, and is refused")
    if precision == "fp16" and name == "latent_sde":
        pytest.skip("its gradient overflows, and capturing says so")
    found, ledgers = [], []
    for compiled in (False, True):
        how = f"trainer.compile={'on' if compiled else 'off'}"
        trainer = made(composed, *(CELLS | ADAPTIVE)[name], f"trainer.precision={precision}", how)
        found.append(steps_of(trainer, compiled=compiled))
        layers = trainer.compiled.layers
        assert (layers is not None and len(layers.captured) == 2) == (compiled and name in ADAPTIVE)
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


@pytest.mark.parametrize("precision", ["fp64", "tf32", "bf16", "fp16"])
def test_planned_training_is_training(precision: str, composed: Compose) -> None:
    """Three epochs: by the end most passes are planned, whose only wait is for what the solve has noted."""
    found: list[list[dict[str, float]]] = []
    for how in ("off", "on"):
        trainer = made(composed, "solver=dopri5", f"trainer.precision={precision}", f"trainer.compile={how}")
        said: list[str] = []
        if how == "on":
            trainer.compiled = compile_training(trainer.forward, steps=1, processes=1, say=said.append)
        steps = []
        for epoch in range(3):
            for batch in trainer.task.batches(Split.TRAIN, batch_size=50, epoch=epoch):
                steps.append(trainer.train_step(batch, measure_memory=False))
                trainer.step += 1
        assert not said
        found.append([{name: float(value) for name, value in step.items()} for step in steps])
    passes = trainer.compiled.passes
    assert isinstance(passes, PlannedPasses)
    assert passes._passes
    replays = Counter[int]()
    for planned in passes._passes.values():
        for half in (planned._forward_graph, planned._backward_graph):
            half.replay = partial(_counted, half.replay, replays)  # type: ignore[method-assign]
    batch = next(trainer.task.batches(Split.TRAIN, batch_size=50, epoch=3))
    for _ in range(20):
        trainer.train_step(batch, measure_memory=False)
    assert replays[0] >= 20, "half of the passes at least are planned"
    exact = precision == "fp64"
    for eager, captured in zip(*found, strict=True):
        assert captured["train/loss"] == pytest.approx(eager["train/loss"], rel=1e-4 if exact else 0.2, abs=0.02)
        if exact:
            assert captured["nfe/forward"] == eager["nfe/forward"]
            assert captured["solver/smallest_step"] == pytest.approx(eager["solver/smallest_step"], rel=1e-3)


def _counted(replay: Callable[[], None], replays: Counter[int]) -> None:
    replays[0] += 1
    replay()


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    "mode",
    [Backprop(), Checkpoint(), Adjoint(rtol=None, atol=None), Seminorm(rtol=None, atol=None)],
    ids=["backprop", "checkpoint", "adjoint", "seminorm"],
)
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


@pytest.mark.parametrize("solver", ["dopri5", "rk4"])
@pytest.mark.parametrize("precision", ["fp64", "bf16"])
def test_recorded_evaluations_are_evaluations(solver: str, precision: str, composed: Compose) -> None:
    found = []
    for how in ("off", "on"):
        words = (f"solver={solver}", f"trainer.precision={precision}", f"trainer.compile={how}")
        experiment = made(composed, *words, "trainer.eval_batch_size=100").experiment
        results = []
        for scale in (1.0, 1.25):
            with torch.no_grad():
                for p in experiment.model.parameters():
                    p.mul_(scale)
            results += [experiment.evaluate(Split.VALIDATION, StopRequest()) for _ in range(3)]
        found.append(results)
        kept = [recorded for recorded in experiment.integrator._recorded._solves.values() if recorded is not None]
        assert bool(kept) == (how == "on"), experiment.integrator._recorded._solves
    for eager, recorded in zip(*found, strict=True):
        for name, value in eager.items():
            assert recorded[name] == pytest.approx(value, rel=1e-6 if precision == "fp64" else 0.02)


@pytest.mark.parametrize("name", SAMPLERS)
def test_recorded_samples_are_samples(name: str, composed: Compose) -> None:
    drawn = []
    for how in ("off", "on"):
        cfg = composed(*GENERATION, *SAMPLERS[name], f"trainer.compile={how}", "trainer.precision=fp64")
        experiment = build_experiment(cfg, cfg.hydra.runtime.choices)
        experiment.model.eval()
        assert isinstance(experiment.task, SampledTask)
        given = [experiment.task.sampled_conditions()[:8]]
        with torch.no_grad():
            paths = [experiment.generate(torch.arange(8) + 8 * turn, given=given) for turn in range(5)]
        drawn.append(torch.cat(paths, dim=1))
        solves = experiment.integrator._recorded._solves
        assert bool([one for one in solves.values() if one is not None]) == (how == "on" and name != "ddpm"), solves
    torch.testing.assert_close(drawn[1], drawn[0], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "dopri5"])
def test_a_sampler_never_waits(name: str, composed: Compose) -> None:
    cfg = composed(*GENERATION, *SAMPLERS[name], "trainer.compile=off")
    experiment = build_experiment(cfg, cfg.hydra.runtime.choices)
    experiment.model.eval()
    assert isinstance(experiment.task, SampledTask)
    given, ts = [experiment.task.sampled_conditions()[:8].float()], torch.tensor([1.0, 0.0], device="cuda")
    generator = experiment.model.generator()
    assert generator is not None
    ts = torch.linspace(generator.start, generator.end, 2, device="cuda")
    noise = sample_noise(0, torch.arange(8, device="cuda"))
    y0 = generator.begin(noise, dtype=torch.float32)
    with torch.no_grad():
        experiment.integrator(generator.field, y0, ts, given=given, noise=noise)
        with never_waiting():
            experiment.integrator(generator.field, y0, ts, given=given, noise=noise)


@pytest.mark.parametrize("regularizer", sorted({*options("regularizer")} - {"smooth_parameters"}))  # of other models
def test_what_a_regularizer_costs_is_evaluated_as_on_a_cpu(regularizer: str, composed: Compose) -> None:
    found = []
    for device in ("cpu", "cuda"):
        words = ("solver=rk4", f"regularizer={regularizer}", f"trainer.device={device}", "trainer.precision=fp64")
        found.append(made(composed, *words, "trainer.compile=off").experiment.evaluate(Split.VALIDATION, StopRequest()))
    assert found[1] == pytest.approx(found[0], rel=1e-6)


def test_training_without_a_solve_is_captured(composed: Compose) -> None:
    cfg = composed(*GENERATION, "trainer.compile=on", "trainer.batch_size=50", "trainer.precision=bf16")
    trainer = build_trainer(cfg, cfg.hydra.runtime.choices, build_experiment(cfg, cfg.hydra.runtime.choices))
    assert trainer is not None
    said: list[str] = []
    trainer.compiled = compile_training(trainer.forward, steps=1, processes=1, say=said.append)
    batches = trainer.task.batches(Split.TRAIN, batch_size=50, epoch=0)
    losses = [float(trainer.train_step(batch, measure_memory=False)["train/loss"]) for batch in batches]
    assert not said
    assert sum(losses[-5:]) < sum(losses[:5])


def test_what_does_not_fit_on_the_gpu_is_out_of_memory(composed: Compose) -> None:
    torch.cuda.set_per_process_memory_fraction(0.01)
    try:
        trainer = made(composed, "network.width=512", "trainer.batch_size=1150")
        batch = next(trainer.task.batches(Split.TRAIN, batch_size=1150, epoch=0))
        with pytest.raises(torch.OutOfMemoryError) as caught:
            trainer.train_step(batch, measure_memory=False)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
    status, reason = status_of(caught.value)
    assert status is RunStatus.OUT_OF_MEMORY
    assert "trainer.batch_size" in reason


def test_a_gpu_by_its_number(tmp_path: Path) -> None:
    ended = typed("trainer.device=cuda:73", cwd=tmp_path)
    assert ended.returncode == 2
    assert "here, cuda:0" in ended.stderr
    ended = typed(*TINY, "trainer=quick", "trainer.device=cuda:0", "logger=none", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr


def test_small_steps_are_for_the_cpu(tmp_path: Path) -> None:
    ended = typed(*TINY, "trainer=quick", "logger=none", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "on the CPU" in ended.stdout
    assert record_of(tmp_path)["environment"]["device"] == "cpu"


def test_a_run_in_half_precision_is_resumed_bit_for_bit(tmp_path: Path) -> None:
    command = (*TINY, "solver=rk4", "trainer.device=cuda", "trainer.precision=fp16", "trainer.log_every=1")
    check_resumed((*command, "trainer.batch_size=16", "trainer.epochs=3", "logger=none"), tmp_path)


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
    trainer = made(composed, "solver=dopri5", "gradient=interpolated", "trainer.compile=on")
    with pytest.raises(IncompatibleChoice, match=r"trainer\.compile=on: .* Use trainer\.compile=off\."):
        compile_training(trainer.forward, steps=1, processes=1, say=print)


@pytest.mark.parametrize(
    ("solver", "part", "clause"),
    [
        ("rk4", "field.norms.0", "not captured any more: ODENet.field.norms.0.eps has changed from 1e-05 to 0.5"),
        (
            "dopri5",
            "field.norms.0",
            "solved without compiled steps: ConvField.norms.0.eps has changed from 1e-05 to 0.5",
        ),
        (
            "dopri5",
            "head.0",
            "Sequential before or after the solve is not captured any more: Sequential.0.eps has changed",
        ),
    ],
)
def test_training_goes_on_uncaptured_if_a_python_number_changes(
    solver: str, part: str, clause: str, composed: Compose
) -> None:
    found, said = [], list[str]()
    for how in ("off", "on"):
        trainer = made(composed, f"solver={solver}", "trainer.precision=fp64", f"trainer.compile={how}")
        if how == "on":
            trainer.compiled = compile_training(trainer.forward, steps=1, processes=1, say=said.append)
        batches = trainer.task.batches(Split.TRAIN, batch_size=50, epoch=0)
        losses = [float(trainer.train_step(next(batches), measure_memory=False)["train/loss"])]
        norm = trainer.model.get_submodule(part)
        assert isinstance(norm, nn.GroupNorm)
        norm.eps = 0.5
        losses += [float(trainer.train_step(next(batches), measure_memory=False)["train/loss"]) for _ in range(2)]
        found.append(losses)
        said += filter(None, [trainer.integrator.remark()])
    assert found[1] == pytest.approx(found[0], rel=1e-7)
    [sentence] = said
    assert clause in sentence


@pytest.mark.parametrize("solver", ["dopri5", "rk4"])
def test_evaluations_go_on_unrecorded_if_a_python_number_changes(solver: str, composed: Compose) -> None:
    found = []
    for how in ("off", "on"):
        experiment = made(composed, f"solver={solver}", "trainer.precision=fp64", f"trainer.compile={how}").experiment
        losses = [experiment.evaluate(Split.VALIDATION, StopRequest())["loss"] for _ in range(3)]
        norm = experiment.model.get_submodule("field.norms.0")
        assert isinstance(norm, nn.GroupNorm)
        norm.eps = 0.5
        found.append([*losses, experiment.evaluate(Split.VALIDATION, StopRequest())["loss"]])
    assert found[1] == pytest.approx(found[0], rel=1e-7)
    assert "ConvField.norms.0.eps has changed from 1e-05 to 0.5" in experiment.integrator._recorded.remark()


@pytest.mark.parametrize("choices", [("solver=rk4",), ("solver=dopri5",)])
def test_a_captured_run_is_resumed_bit_for_bit(choices: tuple[str, ...], tmp_path: Path) -> None:
    """The last passes of dopri5 are planned."""
    command = (*TINY, *choices, "trainer.device=cuda", "trainer.compile=on", "trainer.epochs=15", "logger=none")
    check_resumed_exactly(command, tmp_path, step=30)
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


def test_images_are_made_and_drawn_on_a_gpu(tmp_path: Path) -> None:
    words = ("task=digits_generation", "network.width=4", "trainer.epochs=2", "task.samples=100", "trainer.compile=on")
    ended = typed(*words, "trainer.device=cuda", "solver.num_steps=3", cwd=tmp_path, pictures=True)
    assert ended.returncode == 0, ended.stdout
    assert "not captured" not in ended.stdout + ended.stderr
    assert "not all pictures" not in ended.stdout + ended.stderr
    assert (run_folder(tmp_path) / "plots" / "samples.png").is_file()
