"""The task `digits_density`: units, noise within a level, known distributions."""

import math
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from ode_runner.batch import Outputs, Split
from ode_runner.building.instantiate import construct
from ode_runner.errors import RefusedInput
from ode_runner.models.density import normal_log_density
from ode_runner.tasks.images.digits_density import DigitsDensity
from ode_runner.tasks.images.pixel_scale import Standardised, pixel_scale
from tests.helpers import record_of, typed
from tests.problems import Compose


@pytest.fixture
def task(composed: Compose) -> DigitsDensity:
    made = made_of(composed, passes=1)
    assert isinstance(made, DigitsDensity)
    return made


def made_of(composed: Compose, **changed: Any) -> Any:
    cfg = composed("task=digits_density")
    cfg.task.update(changed)
    return construct(cfg, "task", seed=0, device=torch.device("cpu"))


def images(task: DigitsDensity, inputs: Tensor) -> Tensor:
    """With noise, from 0 to 17."""
    return task.own_units(inputs)


def test_a_uniform_law_has_the_logarithm_of_its_levels_whatever_the_scale_of_inputs(task: DigitsDensity) -> None:
    """log p of the inputs is that of the images plus the log of the volume of a pixel's level, summed over pixels."""
    batch = next(task.batches(Split.TEST, batch_size=50, epoch=0))
    assert isinstance(task.scale, Standardised)
    uniform = -64 * math.log(17) + float(task.scale.std.log().sum())
    found = task.metrics(Outputs(torch.full((50,), uniform)), batch)
    assert float(found["nll"]) == pytest.approx(64 * math.log(17), rel=1e-6)
    assert float(found["bits_per_dim"]) == pytest.approx(4.0875, abs=1e-4)
    assert float(task.loss(Outputs(torch.full((50,), uniform)), batch)) == pytest.approx(float(found["nll"]))


def test_noise_stays_within_the_level_of_a_pixel_and_is_new_in_every_epoch_of_training(task: DigitsDensity) -> None:
    first, second = (next(task.batches(Split.TRAIN, batch_size=1150, epoch=epoch)) for epoch in (0, 1))
    levels = images(task, first.targets)
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-4)
    noise = images(task, first.inputs) - levels
    assert float(noise.min()) >= -1e-4
    assert float(noise.max()) <= 1 + 1e-4
    assert float(noise.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(noise.var()) == pytest.approx(1 / 12, rel=0.02)
    other = images(task, second.inputs) - images(task, second.targets)
    assert abs(float(torch.corrcoef(torch.stack([noise.flatten(), other.flatten()]))[0, 1])) < 0.02
    test = images(task, next(task.batches(Split.TEST, batch_size=360, epoch=0)).inputs)
    assert float(test.min()) + 1e-4 >= 0
    assert float(test.max()) <= 17 + 1e-4
    assert float((test - test.floor()).std()) == pytest.approx(12**-0.5, rel=0.02)  # fixed, but there


def test_an_image_comes_as_often_as_there_are_passes_each_time_with_other_noise(composed: Compose) -> None:
    task = made_of(composed, passes=3)
    assert task.size(Split.TRAIN) == 3 * 1150
    [batch] = task.batches(Split.TRAIN, batch_size=3 * 1150, epoch=0)
    images, times = batch.targets.flatten(1).unique(dim=0, return_counts=True)
    assert len(images) == 1150  # no two digits are alike
    assert times.tolist() == [3] * 1150
    assert len(batch.inputs.flatten(1).unique(dim=0)) == 3 * 1150


def test_inputs_are_standardised_by_the_training_split(task: DigitsDensity) -> None:
    inputs = next(task.batches(Split.TRAIN, batch_size=1150, epoch=0)).inputs
    assert float(inputs.mean(dim=0).abs().max()) < 0.05
    torch.testing.assert_close(inputs.std(dim=0), torch.ones(1, 8, 8), rtol=0, atol=0.1)


@pytest.mark.parametrize("kind", ["standard", "logit"])
def test_a_scale_of_pixels_leads_back_and_its_log_determinant_is_that_of_its_jacobian(
    kind: Literal["standard", "logit"],
) -> None:
    levels = torch.randint(0, 17, (50, 1, 2, 3)).double()
    scale = pixel_scale(kind, levels, levels=17)
    images = levels[:4] + torch.rand(4, 1, 2, 3, dtype=torch.float64)
    inputs = scale.inputs(images)
    torch.testing.assert_close(scale.images(inputs), images)
    jacobian = torch.autograd.functional.jacobian(lambda x: scale.inputs(x[None])[0], images[0]).reshape(6, 6)
    assert float(scale.log_determinant(inputs)[0]) == pytest.approx(float(jacobian.slogdet().logabsdet), rel=1e-9)


def test_by_logits_too_a_uniform_law_has_the_logarithm_of_its_levels(composed: Compose) -> None:
    task = made_of(composed, passes=1, scale="logit")
    for pixel in (-1.0, 18.0):
        with pytest.raises(RefusedInput, match=rf"pixels are between -0.944 and 17.9, and {pixel:g} is among them"):
            task.as_inputs(torch.full((1, 1, 8, 8), pixel))
    batch = next(task.batches(Split.TEST, batch_size=50, epoch=0))
    uniform = -64 * math.log(17) - task.log_determinant(batch.inputs)
    assert float(task.metrics(Outputs(uniform), batch)["bits_per_dim"]) == pytest.approx(4.0875, abs=1e-4)
    train = next(task.batches(Split.TRAIN, batch_size=1150, epoch=0))
    noise = images(task, train.inputs) - images(task, train.targets)
    assert float(noise.min()) >= -1e-3
    assert float(noise.max()) <= 1 + 1e-3
    assert float(noise.mean()) == pytest.approx(0.5, abs=0.01)


def test_the_standard_normal_law_has_the_nll_of_a_normal_law_with_these_moments(task: DigitsDensity) -> None:
    batch = next(task.batches(Split.TEST, batch_size=360, epoch=0))
    assert isinstance(task.scale, Standardised)
    distribution = torch.distributions.Normal(task.scale.mean, task.scale.std)
    expected = -float(distribution.log_prob(images(task, batch.inputs)).flatten(1).sum(dim=1).mean())
    found = task.metrics(Outputs(normal_log_density(batch.inputs)), batch)
    assert float(found["nll"]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "options", [{"test": 1}, {"validation": 1}, {"test": 1600}, {"validation": 1797}, {"passes": 0}]
)
def test_splits_that_leave_nothing_are_refused(composed: Compose, options: dict[str, int]) -> None:
    with pytest.raises(RefusedInput, match="task.(test|validation|passes)"):
        made_of(composed, **options)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("model=odenet",), "task=digits_density asks for a log density, and model=odenet gives values only"),
        (("network=conv",), "moves the data themselves, 64 numbers each"),
        (("network=mlp", "network.width=63"), "moves the data themselves, 64 numbers each"),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, tuple) else "",
)
def test_what_has_no_density_is_refused_in_a_sentence(words: tuple[str, ...], sentence: str, tmp_path: Path) -> None:
    ended = typed("task=digits_density", "logger=none", *words, cwd=tmp_path)
    assert ended.returncode == 2
    assert sentence in ended.stderr


@pytest.mark.parametrize("network", ["concatsquash", pytest.param("conv_flat", marks=pytest.mark.slow)])
def test_a_run_reports_bits_and_draws_samples(network: str, tmp_path: Path) -> None:
    ended = typed(
        "task=digits_density", f"network={network}", "network.width=4", "model.trace=hutchinson", "solver=rk4",
        "solver.num_steps=1", "task.test=20", "task.validation=20", "trainer.max_steps=2", "logger=none", cwd=tmp_path,
        pictures=True,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    metrics = record_of(tmp_path)["metrics"]
    assert metrics["test/bits_per_dim"] == pytest.approx(metrics["test/nll"] / (64 * math.log(2)))
    assert metrics["test/bits_per_dim_fine"] == pytest.approx(metrics["test/bits_per_dim"], rel=0.01)
    drawn = {path.name for path in tmp_path.rglob("plots/*")}
    assert drawn == {"curves.png", "samples.png", "samples_on_the_way.png"}


def test_a_model_of_samples_alone_is_judged_by_them(tmp_path: Path) -> None:
    ended = typed(
        "task=digits_density", "model=consistency", "network.width=4", "task.test=20", "task.validation=20",
        "trainer.max_steps=2", "logger=none", cwd=tmp_path,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    metrics = record_of(tmp_path)["metrics"]
    assert {"test/sw2", "test/sw2_floor"} <= metrics.keys()
    assert not {name for name in metrics if "bits" in name}
