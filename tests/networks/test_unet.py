"""The U-Net: sizes that do not halve evenly, what time and conditions change, and what is refused."""

import pytest
import torch
from torch.nn import functional as F

from ode_runner.batch import TaskSpec
from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.models.generators.edm import Preconditioned
from ode_runner.networks.unet import SelfAttention, UNet
from ode_runner.paths.named import path_named


def network(
    shape: tuple[int, ...] = (1, 8, 8), *, attention: bool = False, multipliers: tuple[int, ...] = (1, 2)
) -> UNet:
    return UNet(TaskSpec(input_shape=shape, output_shape=()), width=4, multipliers=multipliers, attention=attention)


@pytest.mark.parametrize("attention", [False, True])
def test_images_of_any_size_come_back_in_their_own(attention: bool) -> None:
    images = torch.randn(3, 2, 7, 5)
    field = network((2, 7, 5), attention=attention, multipliers=(1, 2, 2)).field(given=4)
    condition = torch.eye(4)[:3]
    found = field(torch.rand(3), images, condition)
    assert found.shape == images.shape
    assert not torch.allclose(field(torch.rand(3), images, condition.roll(1, dims=0)), found)
    picture = condition[:, :, None, None].expand(3, 4, 7, 5)
    t = torch.tensor(0.3)
    torch.testing.assert_close(field(t, images, picture), field(t, images, condition)), "a constant image is a vector"


def test_each_sample_has_its_own_time() -> None:
    field, images, times = network().field(), torch.randn(3, 1, 8, 8), torch.tensor([0.0, 0.4, 1.0])
    each = torch.cat([field(t, image[None]) for t, image in zip(times, images, strict=True)])
    torch.testing.assert_close(field(times, images), each)
    assert not torch.allclose(each, field(times.flip(0), images))


def test_attention_is_that_of_torch_with_one_head() -> None:
    module, x = SelfAttention(6), torch.randn(2, 6, 3, 4)
    q, k, v = (part.mT for part in module.read(module.norm(x)).flatten(2).chunk(3, dim=1))
    expected = x + module.write(F.scaled_dot_product_attention(q, k, v).mT.unflatten(2, (3, 4)))
    torch.testing.assert_close(module(x), expected)


def test_a_last_layer_of_zeros_has_a_weighted_error_of_1_a_number() -> None:
    """EDM's weights and scalings are such that the network's target has unit variance at every level of noise."""
    path, std = path_named("ve", sigma_max=10.0), 0.5
    field = network().field()
    torch.nn.init.zeros_(field.last[-1].weight), torch.nn.init.zeros_(field.last[-1].bias)
    generator = torch.Generator().manual_seed(0)
    data, noise = torch.randn(2, 4000, 1, 8, 8, generator=generator)
    for t in (0.1, 0.9):
        time = torch.tensor(t)
        rho = path.rho(time)
        with torch.no_grad():
            found = Preconditioned(field, path=path, data_std=std)(time, std * data + rho * noise)
        weight = (rho**2 + std**2) / (rho * std) ** 2
        assert float(weight * (found - std * data).square().mean()) == pytest.approx(1, abs=0.02)


def test_what_is_too_small_is_refused() -> None:
    with pytest.raises(IncompatibleChoice, match="halve an image 4 times, and those of this task have 8x8 pixels"):
        network(multipliers=(1, 1, 1, 1, 1))
    with pytest.raises(RefusedInput, match=r"network\.multipliers must be at least 1, not 0"):
        network(multipliers=(1, 0))
