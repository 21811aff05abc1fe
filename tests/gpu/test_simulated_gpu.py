"""The simulated GPU finds what it is there to find. These run on it alone: `make simulated-gpu`."""

import os
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ode_runner.compiling.cuda_graph import CudaGraph, never_waiting
from ode_runner.errors import CannotCompile
from tests.gpu.simulated_gpu.install import STAND_IN

pytestmark = pytest.mark.skipif(STAND_IN not in os.environ, reason="of the simulated GPU")


def test_a_graph_repeats_what_a_function_does() -> None:
    layer, x = nn.Linear(3, 2).cuda(), torch.ones(4, 3, device="cuda")

    def gradient() -> Tensor:
        [found] = torch.autograd.grad(layer(x).tanh().square().sum(), [layer.weight])
        return found

    graph = CudaGraph(gradient)
    with torch.no_grad():
        layer.weight.mul_(2)
        x.add_(torch.arange(3, device="cuda"))
    graph.replay()
    torch.testing.assert_close(graph.found, gradient())


def test_a_graph_draws_random_numbers_of_the_gpu_anew() -> None:
    graph = CudaGraph(lambda: torch.rand(5, device="cuda"))
    of_cpu, drawn = torch.get_rng_state(), []
    for _ in range(2):
        graph.replay()
        drawn.append(graph.found.tolist())
    assert drawn[0] != drawn[1]
    assert torch.equal(of_cpu, torch.get_rng_state())


def test_memory_that_a_graph_reads_may_not_be_freed() -> None:
    held = [torch.ones(3, device="cuda")]
    graph = CudaGraph(lambda: 2 * held[0])
    graph.replay()
    held.clear()
    with pytest.raises(AssertionError, match="has been freed, in aten.mul"):
        graph.replay()


@pytest.mark.parametrize(
    "waiting",
    [
        lambda x: x.sum().item(),
        lambda x: x.cpu(),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: x + torch.tensor([1.0, 2.0, 3.0], device="cuda"),
        lambda x: x.copy_(torch.zeros(3)),
    ],
    ids=["item", "cpu", "mask", "nonzero", "tensor", "copy"],
)
def test_what_waits_is_an_error_where_nothing_may_wait(waiting: Callable[[Tensor], object]) -> None:
    x = torch.ones(3, device="cuda")
    waiting(x)
    with never_waiting(), pytest.raises(RuntimeError, match="synchronizing"):
        waiting(x)
    with pytest.raises(CannotCompile, match="waits for the GPU"):
        CudaGraph(lambda: waiting(x))


def test_tensors_of_two_devices_do_not_go_together() -> None:
    x = torch.ones(3, device="cuda")
    assert (x * torch.tensor(2.0)).tolist() == [2, 2, 2], "a number does"
    for together in (lambda: x + torch.ones(3), lambda: torch.cat([x, torch.ones(3)]), lambda: nn.Linear(3, 1)(x)):
        with pytest.raises(RuntimeError, match="same device"):
            together()


def test_complex_numbers_have_the_derivative_of_the_cpu() -> None:
    z = torch.randn(3, 3, dtype=torch.complex128)
    found = []
    for device in ("cpu", "cuda"):
        x = z.to(device, copy=True).requires_grad_()
        (x @ x.mH @ x.conj()).real.sum().backward()
        assert x.grad is not None
        found.append(x.grad.cpu())
    torch.testing.assert_close(*found)


def test_a_model_comes_back_to_the_cpu() -> None:
    layer = nn.Linear(3, 2)
    kept = layer.weight.detach().clone()
    assert layer.cuda()(torch.ones(1, 3, device="cuda")).is_cuda
    layer(torch.ones(1, 3, device="cuda")).sum().backward()
    layer.cpu()
    assert not layer(torch.ones(1, 3)).is_cuda
    assert torch.equal(layer.weight, kept)
    assert layer.weight.grad is not None
    assert layer.weight.grad.tolist() == [[1, 1, 1], [1, 1, 1]]


def test_numbers_are_there_once_they_have_been_waited_for() -> None:
    memory, read = torch.zeros(2, pin_memory=True), torch.cuda.Event()
    memory.copy_(torch.ones(2, device="cuda"), non_blocking=True)
    read.record()
    assert memory.isnan().all()
    read.synchronize()
    assert memory.tolist() == [1, 1]


def test_pinned_memory_is_left_alone_until_it_has_been_copied() -> None:
    memory = torch.zeros(2, pin_memory=True)
    torch.ones(2, device="cuda").copy_(memory, non_blocking=True)
    memory.add_(1)
    with pytest.raises(AssertionError, match="written into before"):
        torch.cuda.synchronize()
