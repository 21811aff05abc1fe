"""The same numbers on a GPU as on the CPU: every solver under every gradient mode, the noise, a training step."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ode_runner as ode
from ode_runner.analysis.audit import Audit
from ode_runner.build import build_experiment
from ode_runner.devices.random_state import RandomState
from ode_runner.errors import IncompatibleChoice
from ode_runner.field import VectorField
from ode_runner.fields.structured_field import SeparableField
from ode_runner.gradients.backprop import Backprop
from ode_runner.integrator import Integrator
from ode_runner.noise.brownian_path import BrownianPath
from tests.composition import Compose
from tests.helpers import TINY, record_of, typed
from tests.pairs import ConditionedHalves, solver_of
from tests.problems import accepted_pairs, build

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
    pytest.mark.usefixtures("float64"),
]


class Conditioned(VectorField):
    """dy/dt = w tanh(A (y, z)) cos t + k sin y, where z, w and k are given."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 3)

    def forward(self, t: Tensor, y: Tensor, *given: Tensor) -> Tensor:
        z, w, k = given
        return torch.tanh(self.layer(torch.cat([y, z], dim=1))) * w * torch.cos(t) + k[:, None] * torch.sin(y)


def solved(solver: str, gradient: str, composed: Compose, device: str) -> list[Tensor]:
    """States, and the gradients of their squares by the initial state, what is given and the parameters, on the CPU."""
    torch.manual_seed(0)
    numerics = solver_of(solver, composed)
    halves = issubclass(numerics.fields, SeparableField)
    field = (ConditionedHalves() if halves else Conditioned()).to(device)
    size = 4 if halves else 3
    y0, z, w = torch.randn(4, size), torch.randn(4, 2), torch.rand(4, 4 if halves else 3)
    y0, z = (x.to(device).requires_grad_() for x in (y0, z))
    given = [z, w.to(device), torch.arange(4, device=device)]
    ts = torch.tensor([0.0, 0.3, 0.6, 1.2], device=device)
    integrate = Integrator(solver=numerics, gradient=build(composed, "gradient", gradient))
    ys = integrate(field, y0, ts, given=given).ys
    wanted = [y0, z, *field.parameters()]
    gradients = torch.autograd.grad(ys.square().sum(), wanted, materialize_grads=True, allow_unused=True)
    return [x.detach().cpu() for x in (ys, *gradients)]


@pytest.mark.parametrize(("solver", "gradient"), accepted_pairs())
def test_a_solve_and_its_gradient_are_those_of_the_cpu(solver: str, gradient: str, composed: Compose) -> None:
    here, there = (solved(solver, gradient, composed, device) for device in ("cpu", "cuda"))
    for a, b in zip(here, there, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_brownian_path_is_the_same_on_a_gpu(dtype: torch.dtype) -> None:
    path = BrownianPath(seed=5, cells=4, depth=10)
    found = []
    for device in ("cpu", "cuda"):
        keys = path.keys(torch.arange(10_000, device=device), (3,))
        found.append([x.cpu() for x in path.increment(0.013, 0.7, keys, dtype=dtype)])
    for here, there in zip(*found, strict=True):
        torch.testing.assert_close(there, here, rtol=0, atol=32 * torch.finfo(dtype).eps)


def test_a_run_on_a_gpu_learns_what_it_learns_on_the_cpu(tmp_path: Path) -> None:
    losses = []
    for device in ("cpu", "cuda"):
        (tmp_path / device).mkdir()
        ended = typed("trainer=quick", "trainer.precision=fp64", f"trainer.device={device}", cwd=tmp_path / device)
        assert ended.returncode == 0, ended.stderr
        losses.append(record_of(tmp_path / device)["metrics"]["test/loss"])
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)


def test_an_audit_of_a_model_that_draws_random_numbers_says_that_a_gpu_draws_others(
    composed: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_default_dtype(torch.float32)  # as in a run
    cfg = composed("task=half_moons", *TINY, "trainer.device=cuda", "solver=rk4")
    experiment = build_experiment(cfg, cfg.hydra.runtime.choices)
    field = experiment.model.field
    assert isinstance(field, VectorField)
    evaluate = field.forward
    monkeypatch.setattr(field, "forward", lambda t, y: nn.functional.dropout(evaluate(t, y), 0.3))
    with pytest.raises(IncompatibleChoice, match="a GPU draws others in double precision"):
        Audit(experiment, reference=Backprop())


def test_random_numbers_go_on_where_there_were_more_gpus() -> None:
    own = RandomState.now(torch.device("cuda"))
    drawn = torch.rand(3, device="cuda")
    assert len(own.cuda) == 1, "of the run's GPU alone"
    RandomState(cpu=own.cpu, cuda=own.cuda * (torch.cuda.device_count() + 1)).restore()
    assert torch.equal(torch.rand(3, device="cuda"), drawn)
    with own.again():
        assert torch.equal(torch.rand(3, device="cuda"), drawn)


def test_the_field_of_a_run_answers_where_it_is_asked(tmp_path: Path) -> None:
    """What `states` returns is on the CPU."""
    words = ("trainer.max_steps=1", "trainer.device=cuda", "trainer.precision=fp64", "logger=none", "pictures=false")
    run = ode.train(*TINY, *words, f"output_dir={tmp_path}")
    here = run.states([[0.5, 0.25]])[-1]
    there = here.cuda().requires_grad_()
    slope = run.field(1.0, there)
    assert slope.is_cuda
    torch.testing.assert_close(run.field(1.0, here), slope.detach().cpu())
    slope.sum().backward()
    assert there.grad is not None


@pytest.mark.parametrize("solver", ["dopri5", "tsit5", "bosh3"])
@pytest.mark.parametrize("width", [0, 8, 64])
@pytest.mark.parametrize("times", [(0.0, 1.0), (0.0, 0.0, 0.3, 0.31, 1.0), (0.5, 0.1)])
def test_an_ensemble_by_one_kernel_is_that_of_the_cpu(solver: str, width: int, times: tuple[float, ...]) -> None:
    """Each of 1,000 samples by steps of its own, with what is given to it; without layers, and by networks."""
    torch.manual_seed(0)
    layers = [nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 3)] if width else [nn.Tanh()]
    net, y0, z, ts = nn.Sequential(*layers), 3 * torch.randn(1000, 3), torch.rand(1000, 1), torch.tensor(times)
    by: dict[str, Any] = {"solver": solver, "per_sample": True, "rtol": 1e-6, "atol": 1e-6}
    here, there = Stretched(net), Stretched(deepcopy(net)).cuda()
    found = ode.integrate(here, y0, ts, given=[z], **by)
    y0, ts, given = y0.cuda(), ts.cuda(), [z.cuda()]
    solve = ode.compile(there, y0, ts, given=given, **by)
    ours = solve(y0, ts, given=given)
    torch.testing.assert_close(ours.ys.cpu(), found.ys, rtol=1e-7, atol=1e-8)
    assert (ours.accepted, ours.rejected) == (found.accepted, found.rejected)
    if width:
        found.ys.square().sum().backward()
        ours.ys.square().sum().backward()
        for a, b in zip(there.parameters(), here.parameters(), strict=True):
            assert a.grad is not None
            assert b.grad is not None
            torch.testing.assert_close(a.grad.cpu(), b.grad, rtol=1e-6, atol=1e-6 * float(b.grad.abs().max()))


class Stretched(nn.Module):
    """dy/dt = 5 z net(y) cos t, where z is given."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, t: Tensor, y: Tensor, z: Tensor) -> Tensor:
        return 5 * z * self.net(y) * torch.cos(t)
