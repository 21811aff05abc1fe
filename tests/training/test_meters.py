"""What a run costs, against graphs whose memory can be counted by hand."""

import subprocess
import sys
import time

import pytest
import torch
from torch import Tensor, nn

from ode_runner.experiment.meters import Clock, Means, SavedBytes
from ode_runner.fields.ledger import Phase
from ode_runner.gradients.adjoint import Adjoint
from ode_runner.gradients.backprop import Backprop
from ode_runner.gradients.base import GradientMode
from ode_runner.gradients.checkpoint import Checkpoint
from ode_runner.gradients.forward import Forward
from ode_runner.gradients.interpolated import Interpolated
from ode_runner.gradients.reversible import Reversible
from ode_runner.gradients.symplectic import Symplectic
from ode_runner.integrator import Integrator
from ode_runner.solvers.base import FixedStepSolver
from ode_runner.solvers.explicit.dopri5 import Dopri5
from ode_runner.solvers.explicit.reversible_heun import ReversibleHeun
from ode_runner.solvers.explicit.rk4 import RK4
from tests.problems import SmallNet


def test_what_a_product_keeps_is_counted() -> None:
    x, y = torch.rand(10, requires_grad=True), torch.rand(10, requires_grad=True)
    with SavedBytes([]) as meter:
        product = x * y
    assert meter.bytes() == 2 * 10 * 4
    product.sum().backward()
    torch.testing.assert_close(x.grad, y.detach())


def test_what_a_sum_keeps_is_nothing() -> None:
    x = torch.rand(10, requires_grad=True)
    with SavedBytes([]) as meter:
        kept = (x + 1).sum()
    assert meter.bytes() == 0
    kept.backward()


def test_a_storage_counts_once_however_often_it_is_kept() -> None:
    x = torch.rand(4, 5, requires_grad=True)
    with SavedBytes([]) as meter:
        kept = [x.sin(), x.cos(), x.view(20).exp().log(), x[1:].square()]
    assert meter.bytes() == 20 * 4 + 20 * 4  # x itself, and exp(x) that exp and log share
    assert len(kept) == 4


def test_parameters_do_not_count() -> None:
    layer, x = nn.Linear(6, 3), torch.rand(5, 6)
    with SavedBytes(layer.parameters()) as meter:
        first = layer(x)
        second = nn.functional.linear(first.tanh(), layer.weight.T)
    assert meter.bytes() == (5 * 6 + 5 * 3) * 4  # x, tanh(...); the weight and its transpose are kept anyway
    second.sum().backward()
    assert layer.weight.grad is not None


def test_a_graph_that_is_gone_does_not_count() -> None:
    x = torch.rand(10, requires_grad=True)
    with SavedBytes([]) as meter:
        kept, dropped = x.exp(), x.detach().clone().requires_grad_().exp().exp()
        assert meter.bytes() > 10 * 4
        del dropped
    assert meter.bytes() == 10 * 4
    del kept
    assert meter.bytes() == 0


def test_what_is_kept_outside_the_meter_does_not_count() -> None:
    x = torch.rand(10, requires_grad=True)
    before = x.exp()
    with SavedBytes([]) as meter:
        pass
    after = x.sin()
    assert meter.bytes() == 0
    assert (before.requires_grad, after.requires_grad) == (True, True)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:FutureWarning")
def test_what_forward_differentiation_does_not_write_down_takes_no_memory() -> None:
    """Its zeros have no address that could be asked for."""
    net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
    with SavedBytes(net.parameters()) as meter:
        kept = torch.func.vmap(torch.func.jacfwd(lambda one: net(one).sum()))(torch.rand(3, 2))
    assert 0 < meter.bytes() < 5000
    kept.sum().backward()


def test_nothing_is_kept_without_gradients() -> None:
    with SavedBytes([]) as meter, torch.no_grad():
        torch.rand(10, requires_grad=True).exp()
    assert meter.bytes() == 0


def test_measuring_changes_no_gradient() -> None:
    net, y0 = SmallNet(), torch.rand(4, 3)

    def gradient() -> list[Tensor]:
        loss = net(torch.tensor(0.3), y0).square().sum()
        return list(torch.autograd.grad(loss, list(net.parameters())[1:]))

    plain = gradient()
    with SavedBytes(net.parameters()):
        measured = gradient()
    assert all(torch.equal(one, other) for one, other in zip(plain, measured, strict=True))


def bytes_kept(mode: GradientMode, num_steps: int, method: type[FixedStepSolver] = RK4) -> int:
    net, y0 = SmallNet(), torch.rand(16, 3)
    integrate = Integrator(solver=method(num_steps=num_steps, step_size=None), gradient=mode)
    with SavedBytes(net.parameters()) as meter:
        ys = integrate(net, y0, torch.tensor([0.0, 1.0])).ys
        kept = meter.bytes()
    ys.sum().backward()
    return kept


def test_backpropagation_keeps_the_same_for_every_step() -> None:
    kept = [bytes_kept(Backprop(), num_steps) for num_steps in (2, 4, 8, 16)]
    per_step = (kept[1] - kept[0]) / 2
    assert per_step >= 4 * 16 * (4 + 5) * 4  # four stages, each with its input of 4 and a hidden layer of 5
    assert kept[2] - kept[1] == 4 * per_step
    assert kept[3] - kept[2] == 8 * per_step


def test_the_adjoint_keeps_the_same_however_many_steps() -> None:
    kept = [bytes_kept(Adjoint(rtol=None, atol=None), num_steps) for num_steps in (2, 4, 16)]
    assert kept[0] == kept[1] == kept[2]
    assert kept[0] >= 2 * 16 * 3 * 4  # the states at both output times
    assert kept[0] < bytes_kept(Backprop(), 2)


@pytest.mark.parametrize("mode", [Checkpoint(), Symplectic()], ids=["checkpoint", "symplectic"])
def test_replaying_keeps_one_state_a_step(mode: GradientMode) -> None:
    state = 16 * 3 * 4
    assert [bytes_kept(mode, num_steps) for num_steps in (2, 4, 16)] == [2 * state, 4 * state, 16 * state]


def test_undoing_steps_keeps_what_the_solver_carries_however_many_steps() -> None:
    kept = [bytes_kept(Reversible(), num_steps, ReversibleHeun) for num_steps in (2, 4, 16)]
    assert kept == 3 * [3 * 16 * 3 * 4]  # three tensors


def test_tangents_keep_the_derivative_of_the_outputs_however_many_steps() -> None:
    kept = [bytes_kept(Forward(max_directions=64), num_steps) for num_steps in (2, 4, 16)]
    assert kept == 3 * [45 * 2 * 16 * 3 * 4]  # directions, times, state


def test_the_interpolated_adjoint_keeps_two_states_a_step_and_two_at_the_end() -> None:
    state, mode = 16 * 3 * 4, Interpolated(rtol=None, atol=None)
    for num_steps in (2, 4, 16):
        assert bytes_kept(mode, num_steps) == 2 * (num_steps + 1) * state + 2 * 4  # and the two times


@pytest.mark.parametrize("times", [(0.0, 5.0), (0.0, 0.11, 0.13, 0.4, 5.0)], ids=["final time", "many times"])
def test_replaying_has_the_graph_of_one_step_or_one_stage_at_any_moment(times: tuple[float, ...]) -> None:
    most = {}
    for mode in (Checkpoint(), Symplectic()):
        few, many = (most_kept_on_the_way_back(mode, tolerance, times) for tolerance in (1e-2, 1e-9))
        assert few[0] < many[0] / 3
        assert few[1] == many[1] > 0
        most[type(mode)] = many[1]
    assert most[Symplectic] < most[Checkpoint] / 5  # one of six stages


def most_kept_on_the_way_back(mode: GradientMode, tolerance: float, times: tuple[float, ...]) -> tuple[int, int]:
    """Accepted steps, and the most bytes that graphs made during the backward pass held when the field was called."""
    torch.manual_seed(0)
    net, y0 = SmallNet(), torch.rand(16, 3, dtype=torch.float64, requires_grad=True)
    net.double()
    integrate = Integrator(solver=Dopri5(rtol=tolerance, atol=tolerance, max_steps=1000), gradient=mode)
    with integrate.ledger.phase(Phase.FORWARD) as forward:
        ys = integrate(net, y0, torch.tensor(times, dtype=torch.float64)).ys
    seen: list[int] = []
    with SavedBytes(net.parameters()) as meter:
        net.register_forward_hook(lambda *_: seen.append(meter.bytes()))
        ys.sum().backward()
    return forward.accepted, max(seen)


PEAKS = """
import torch
from ode_runner.experiment.meters import peak_bytes, reset_peak_bytes

cpu = torch.device("cpu")
reset_peak_bytes(cpu)
before = peak_bytes(cpu)
block = torch.ones(16, 1024, 1024)  # 64 MiB
assert peak_bytes(cpu) - before > 0.8 * block.nbytes
del block
reset_peak_bytes(cpu)
assert peak_bytes(cpu) < before + 32 * 1024**2
"""


def test_peak_memory_sees_an_allocation_and_forgets_it() -> None:
    """In a process of its own: the memory that other tests have freed would be taken first."""
    subprocess.run([sys.executable, "-c", PEAKS], check=True)


def test_means_are_weighted_and_begin_anew_when_taken() -> None:
    means = Means()
    assert means.empty()
    means.add({"loss": 1.0, "accuracy": 0.5}, weight=3)
    means.add({"loss": 5.0})
    assert means.read() == {"loss": 2.0, "accuracy": 0.5}
    assert means.take() == {"loss": 2.0, "accuracy": 0.5}
    assert means.empty()
    means.add({"loss": 7.0})
    assert means.read() == {"loss": 7.0}


def test_means_go_on_from_their_state() -> None:
    means, resumed = Means(), Means()
    means.add({"loss": 0.1}, weight=128)
    resumed.load_state_dict(means.state_dict())
    for each in (means, resumed):
        each.add({"loss": 0.7}, weight=31)
    assert means.read() == resumed.read()


def test_a_clock_adds_up_its_sessions_and_not_the_time_between(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    clock = Clock()
    now[0] += 5
    clock.start()
    now[0] += 2
    assert clock.seconds == 2
    later = Clock()
    now[0] += 50
    later.seconds = clock.seconds - 50
    now[0] += 3
    assert later.seconds == 5
