"""Devices and precisions that are not there, by their reason; steps too small for a GPU; losses scaled for fp16."""

import warnings
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.optim import SGD

from ode_runner.batch import Split
from ode_runner.build import build_experiment
from ode_runner.building import device as devices
from ode_runner.building.device import find_device
from ode_runner.errors import Diverged, IncompatibleChoice, RefusedInput
from ode_runner.experiment.loss_scaling import LEAST, LossScaling, check_loss_scaling, check_scale
from ode_runner.experiment.lower_precision import sentence_on_precision
from ode_runner.experiment.operation_work import BORDER, flops_per_operation, is_launch_bound
from ode_runner.gradients.adjoint import Adjoint
from ode_runner.gradients.backprop import Backprop
from tests.problems import Compose

TOO_OLD = (
    "CUDA initialization: The NVIDIA driver on your system is too old (found version 11040). Please update your GPU "
    "driver by downloading and installing a new version. (Triggered internally at ../c10/cuda/CUDAFunctions.cpp:109.)"
)


@pytest.fixture
def no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    def told() -> bool:
        warnings.warn(TOO_OLD, stacklevel=1)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", told)
    devices._gpus.cache_clear()
    monkeypatch.setattr(torch.version, "cuda", "13.0")


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_gpus", lambda: (2, ""))
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)


@pytest.mark.usefixtures("no_gpus")
def test_a_driver_that_is_too_old_is_the_reason() -> None:
    with pytest.raises(RefusedInput) as refused:
        find_device("cuda", precision="fp32")
    assert str(refused.value) == (
        "trainer.device=cuda is not available here: the NVIDIA driver on your system is too old (found version 11040). "
        "Use trainer.device=auto."
    )
    assert find_device("auto", precision="fp32").type != "cuda"
    devices._gpus.cache_clear()


@pytest.mark.usefixtures("no_gpus")
@pytest.mark.parametrize(("precision", "instead"), [("tf32", "fp32"), ("fp16", "bf16")])
def test_a_run_of_a_gpu_is_told_all_that_a_machine_without_one_needs(precision: str, instead: str) -> None:
    with pytest.raises(RefusedInput, match=rf"Use trainer\.device=auto trainer\.precision={instead}\.$"):
        find_device("cuda", precision=precision)
    devices._gpus.cache_clear()


@pytest.mark.usefixtures("two_gpus")
def test_one_gpu_of_several() -> None:
    assert find_device("cuda:1", precision="fp32") == torch.device("cuda:1")
    with pytest.raises(RefusedInput, match="there are 2 GPUs here, cuda:0 to cuda:1"):
        find_device("cuda:3", precision="fp32")


def test_the_work_of_an_operation_is_told_without_a_trace(composed: Compose) -> None:
    cfg = composed("task=half_moons", "trainer.device=cpu")
    experiment = build_experiment(cfg, cfg.hydra.runtime.choices)
    model = experiment.model.eval()
    model.register_buffer("drawn", torch.zeros(1))
    model.register_forward_pre_hook(lambda called, given: called.drawn.copy_(torch.rand(1)) and None)
    before, random = experiment.integrator.ledger.state_dict(), torch.get_rng_state()
    work = flops_per_operation(experiment)
    assert is_launch_bound(experiment) == (work < BORDER)
    assert experiment.integrator.ledger.state_dict() == before
    assert torch.equal(torch.get_rng_state(), random)
    assert (model.drawn.item(), model.training) == (0, False)
    wider = composed("task=half_moons", "trainer.device=cpu", "network.width=256", "trainer.batch_size=1000")
    assert flops_per_operation(build_experiment(wider, wider.hydra.runtime.choices)) > 50 * work
    assert experiment.task.size(Split.TRAIN) == 1000


@pytest.mark.parametrize("task", ["bouncing_ball", "thermostat"])
def test_the_work_of_a_model_that_differentiates_on_the_way_is_told(task: str, composed: Compose) -> None:
    """By trainer.device=auto it is asked for on every machine with a GPU."""
    cfg = composed(f"task={task}", "task.points=6", "trainer.device=cpu")
    assert is_launch_bound(build_experiment(cfg, cfg.hydra.runtime.choices))


def test_what_fails_where_the_work_is_asked_for_is_left_to_the_run(
    composed: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = composed("trainer.device=cpu")
    experiment = build_experiment(cfg, cfg.hydra.runtime.choices)
    monkeypatch.setattr(type(experiment), "loss", lambda *_: 1 // 0)
    assert flops_per_operation(experiment) == float("inf")


def test_a_scaled_loss_has_the_gradient_of_the_loss_and_leaves_out_steps_that_overflow() -> None:
    layer, x = nn.Linear(3, 1, bias=False), torch.tensor([[1.0, 2.0, 3.0]])
    scaling, optimizer = LossScaling(torch.device("cpu")), SGD(layer.parameters(), lr=0.1)
    [expected] = torch.autograd.grad(layer(x).square().sum(), [layer.weight])
    for factor, skipped in ((1.0, 0.0), (float("inf"), 1.0)):
        weights = layer.weight.detach().clone()
        optimizer.zero_grad()
        scaling.scaled(factor * layer(x).square().sum()).backward()
        scaling.unscale(optimizer)
        assert layer.weight.grad is not None
        found = scaling.step(optimizer, layer.weight.grad.norm())
        assert found["optim/skipped"] == skipped
        assert torch.equal(layer.weight, weights) == bool(skipped)
        if not skipped:
            torch.testing.assert_close(weights - layer.weight, 0.1 * expected)
    assert found["optim/loss_scale"] == 2.0**11
    again = LossScaling(torch.device("cpu"))
    again.load_state_dict(scaling.state_dict())
    assert again.state_dict() == scaling.state_dict()
    with pytest.raises(Diverged, match="at any scale"):
        check_scale({"optim/loss_scale": LEAST / 2}, "at step 9")


def test_half_precision_is_for_exact_gradients_of_one_process(composed: Compose) -> None:
    options = composed("trainer.precision=fp16").trainer
    check_loss_scaling(options, Backprop(), processes=1)
    with pytest.raises(IncompatibleChoice, match=r"gradient=adjoint goes by its size\. Use trainer\.precision=bf16"):
        check_loss_scaling(options, Adjoint(rtol=None, atol=None), processes=1)
    with pytest.raises(IncompatibleChoice, match="takes processes=1"):
        check_loss_scaling(options, Backprop(), processes=2)


@pytest.mark.parametrize(
    ("words", "lowered"),
    [
        (("task=gbm", "model=exact"), False),
        (("task=half_moons", "task.train=4"), True),
    ],
)
def test_a_precision_in_which_nothing_is_computed_is_told(
    words: tuple[str, ...], lowered: bool, composed: Compose
) -> None:
    cfg = composed(*words, "trainer.precision=bf16", "trainer.device=cpu")
    experiment = build_experiment(cfg, cfg.hydra.runtime.choices)
    sentence = sentence_on_precision(experiment)
    assert lowered != sentence.startswith("nothing is computed in trainer.precision=bf16")
    in_full = replace(experiment, options=replace(experiment.options, precision="fp32"))
    assert not sentence_on_precision(in_full)
