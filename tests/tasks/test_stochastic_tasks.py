"""Tasks of stochastic equations and the models that learn them: distributions, errors, likelihoods, runs made again."""

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from ode_runner.batch import Batch, Split
from ode_runner.building.instantiate import construct
from ode_runner.experiment.noise_driven import NoiseDriven
from ode_runner.gradients.adjoint import Adjoint
from ode_runner.gradients.backprop import Backprop
from ode_runner.gradients.base import GradientMode
from ode_runner.gradients.checkpoint import Checkpoint
from ode_runner.integrator import Integrator
from ode_runner.models.equations.latent_sde import LatentSDE
from ode_runner.models.equations.sde import LearnedEquation
from ode_runner.networks.diffusion import ConstantDiffusion
from ode_runner.noise.brownian_path import Noise
from ode_runner.objectives.supervised import Supervised
from ode_runner.objectives.transition_likelihood import TransitionLikelihood
from ode_runner.solvers.sde.heun_sde import HeunSDE
from ode_runner.tasks.dynamics.stochastic_paths import StochasticPaths
from tests.helpers import check_refused, record_of, rows_of, run_folder, typed
from tests.problems import Compose, build
from tests.resuming import check_resumed

SMALL = ("task.train=8", "task.validation=4", "task.test=12", "task.fine=16", "trainer.batch_size=4", "logger=none")
OF_LATENT = ("task=ou", "model=latent_sde", "network.hidden=4", "network.samples=2", "task.points=5", *SMALL)


def made(composed: Compose, name: str, **changed: Any) -> StochasticPaths:
    cfg = composed(f"task={name}")
    cfg.task.update({"train": 200, "validation": 4, "fine": 32} | changed)
    task = construct(cfg, "task", seed=0, device=torch.device("cpu"))
    assert isinstance(task, StochasticPaths)
    return task


@pytest.mark.parametrize(("fine", "most"), [(32, 1 / 32), (33, 1 / 64), (3, 1 / 4), (1, 1.0)])
def test_true_paths_are_followed_in_steps_that_take_few_draws(composed: Compose, fine: int, most: float) -> None:
    """Of 8 cells a unit of time: halved again and again, or taken together."""
    task = made(composed, "ou", fine=fine, train=1, validation=1, test=2)
    for t0, t1 in ((0.0, 0.02), (0.02, 1.3), (0.5, 0.75), (0.25 - 1e-12, 2.0 + 1e-12)):
        begins, ends = zip(*task._steps(t0, t1), strict=True)
        assert (begins[0], ends[-1], begins[1:]) == (t0, t1, ends[:-1])
        assert all(0 < end - begin <= most + 1e-9 for begin, end in zip(begins, ends, strict=True))
        assert all(time % most == 0 for time in ends[:-1])


def test_true_paths_have_the_known_law(composed: Compose) -> None:
    numbers, start = torch.arange(3000), torch.ones(3000, 1, dtype=torch.float64)
    ou, ts = made(composed, "ou", fine=32), torch.tensor([0.0, 2.0], dtype=torch.float64)
    end = ou.true_paths(start, ts, numbers)[-1]
    variance = 0.5**2 / 2 * (1 - math.exp(-4))
    assert abs(float(end.mean()) - math.exp(-2)) < 4 * math.sqrt(variance / 3000)
    assert float(end.var()) == pytest.approx(variance, rel=4 * math.sqrt(2 / 3000))
    finer = made(composed, "ou", fine=128).true_paths(start[:50], ts, numbers[:50])[-1]
    torch.testing.assert_close(finer, end[:50], rtol=0, atol=1e-4)
    gbm = made(composed, "gbm").true_paths(start, ts / 2, numbers)[-1].log()
    assert abs(float(gbm.mean())) < 4 / math.sqrt(3000)
    assert float(gbm.var()) == pytest.approx(1, rel=4 * math.sqrt(2 / 3000))


def test_true_paths_of_lorenz_near_their_limit_by_order_three_halves(composed: Compose) -> None:
    """At the default of `task.fine` they were 0.9 off, as Milstein's steps are: more than the solvers they judge."""
    start, ts = torch.tensor([[0.5, 0.5, 2.0]], dtype=torch.float64).expand(50, -1), torch.tensor([0.0, 0.5]).double()
    ends = {
        fine: made(composed, "lorenz_sde", fine=fine, train=1, test=2).true_paths(start, ts, torch.arange(50))[-1]
        for fine in (8, 32, 256)
    }
    coarse, finer = (float((ends[fine] - ends[256]).norm(dim=1).mean()) for fine in (8, 32))
    assert finer < 0.02
    assert coarse > 4**1.4 * finer


def test_hardly_any_relaxation_is_hardly_any_change(composed: Compose) -> None:
    """As theta goes to 0 the process becomes sigma W, with which its exact step has a difference to be taken."""
    start, ts = torch.ones(20, 1, dtype=torch.float64), torch.tensor([0.0, 1.0], dtype=torch.float64)
    some, none = (
        made(composed, "ou", theta=theta, fine=32).true_paths(start, ts, torch.arange(20)) for theta in (1e-8, 1e-300)
    )
    torch.testing.assert_close(some, none, rtol=0, atol=1e-7)
    bounds = (made(composed, "ou", theta=theta, fine=1) for theta in (0.999999, 1.000001))  # on both sides of a formula
    below, above = (task.true_paths(start, ts, torch.arange(20)) for task in bounds)
    torch.testing.assert_close(below, above, rtol=0, atol=1e-5)


@pytest.mark.parametrize("epoch", [0, 3])
def test_a_model_is_given_the_noise_of_the_path_that_it_is_compared_with(composed: Compose, epoch: int) -> None:
    task = made(composed, "gbm")
    batch = next(task.batches(Split.TRAIN, batch_size=10, epoch=epoch))
    assert batch.numbers is not None
    torch.testing.assert_close(task.true_paths(batch.inputs, batch.ts, batch.numbers), batch.targets)


def test_errors_stand_beside_their_sampling_errors(tmp_path: Path) -> None:
    """Of Euler on geometric Brownian motion, whose mean is (1 + mu h)^n."""
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
    small = ("task=gbm", "model=exact", "task.test=3000", "logger=none", "solver.num_steps=16")
    assert typed(*small, "solver=euler_maruyama", cwd=tmp_path / "a").returncode == 0
    assert typed(*small, "solver=euler_maruyama", "trainer.eval_batch_size=700", cwd=tmp_path / "b").returncode == 0
    found, again = (record_of(tmp_path / name)["metrics"] for name in ("a", "b"))
    weak = abs((1 + 0.5 / 16) ** 16 - math.exp(0.5))
    assert abs(found["test/weak_error"] - weak) < 3 * found["test/weak_error_se"]
    assert found["test/strong_error"] > 10 * found["test/strong_error_se"] > 0
    assert again["test/strong_error"] == pytest.approx(found["test/strong_error"], rel=1e-12), "whatever the batches"


def test_the_likelihood_finds_drift_and_noise(composed: Compose) -> None:
    """Closed form: the least of it is where the noise is the quadratic variation's, and no noise is worse than any."""
    task = made(composed, "ou")
    batch = next(task.batches(Split.TRAIN, batch_size=200, epoch=0))
    squares = task.values[Split.TRAIN].diff(dim=0).square().sum(dim=0).mean() / 2
    drifted = 0.125 + (1.25 - 0.125) * (1 - math.exp(-4)) / 4  # the mean of x^2 from 0 to 2
    assert float(squares) == pytest.approx(0.25 + 0.01 * drifted, abs=4 * 0.25 * math.sqrt(2 / (200 * 256)))
    network = build(composed, "network", "linear", task.spec)
    field = LearnedEquation(network.field(), ConstantDiffusion(1)).double()
    integrate, values = Integrator(solver=HeunSDE(num_steps=8, step_size=None), gradient=Backprop()), []
    with torch.no_grad():
        field.get_parameter("inner.theta").fill_(-1.0)
        for sigma in (0.02, 0.45, 0.5, 0.55):
            field.get_parameter("of_noise.bias").fill_(math.log(math.expm1(sigma)))
            model = torch.nn.Module()
            model.field = field
            values.append(float(TransitionLikelihood().loss(model, task, batch, integrate).total))  # type: ignore[arg-type]
    assert values[2] == min(values)
    assert values[0] == max(values)
    assert values[2] == pytest.approx(0.5 * math.log(math.tau * math.e * 0.25 * 0.01), abs=0.02)


@pytest.mark.slow
def test_a_latent_path_has_one_gradient_in_every_mode(composed: Compose) -> None:
    """Where it begins, its context, both drifts and the diffusion: all of them learn, by likelihood and divergences."""
    task = made(composed, "ou", sequence=True, points=5, train=4, fine=16)
    batch = next(task.batches(Split.TRAIN, batch_size=4, epoch=0))
    torch.manual_seed(0)
    model = build(composed, "model", "latent_sde", build(composed, "network", "recurrent_vae", task.spec)).double()
    assert isinstance(model, LatentSDE)
    exact, again, rough = (_gradients(model, task, batch, mode) for mode in MODES)
    assert all(float(g.abs().sum()) > 0 for name, g in exact.items()), [
        n for n, g in exact.items() if not g.abs().sum()
    ]
    for name, gradient in exact.items():
        torch.testing.assert_close(again[name], gradient, rtol=1e-9, atol=1e-9 * float(gradient.abs().max()))
        assert float((rough[name] - gradient).norm()) < 0.2 * float(gradient.norm()), name


MODES: tuple[GradientMode, ...] = (Backprop(), Checkpoint(), Adjoint(rtol=None, atol=None))


def _gradients(model: LatentSDE, task: StochasticPaths, batch: Batch, mode: GradientMode) -> dict[str, torch.Tensor]:
    assert batch.numbers is not None
    noise = Noise(path=task.path, samples=batch.numbers)
    integrate = NoiseDriven(Integrator(solver=HeunSDE(num_steps=64, step_size=None), gradient=mode), noise)
    torch.manual_seed(1)
    model.zero_grad()
    Supervised().loss(model, task, batch, integrate).total.backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.slow
@pytest.mark.parametrize("model", ["sde", "latent_sde"])
def test_a_resumed_run_is_the_run_that_was_not_stopped(model: str, tmp_path: Path) -> None:
    command = OF_LATENT if model == "latent_sde" else ("task=gbm", "task.points=9", "network.width=4", *SMALL)
    check_resumed([*command, "trainer.epochs=3"], tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="needs a C compiler")
def test_a_compiled_latent_path_learns_as_an_eager_one_does(tmp_path: Path) -> None:
    """With its path's divergence; and a run that is gone on with is the one that was not stopped."""
    command = [*OF_LATENT, "trainer.epochs=3", "trainer.precision=fp64"]
    check_resumed([*command, "trainer.compile=on"], tmp_path)
    (tmp_path / "eager").mkdir()
    assert typed(*command, cwd=tmp_path / "eager").returncode == 0
    compiled, eager = (run_folder(tmp_path / place) for place in ("whole", "eager"))
    for row, other in zip(rows_of(compiled), rows_of(eager), strict=True):
        for name in row.keys() & {"train/loss", "loss/kl_path", "eval/loss", "nfe/forward"}:
            assert row[name] == pytest.approx(other[name], rel=1e-9), name
    assert record_of(compiled)["cost"]["compile_seconds"] is not None


def test_a_run_made_again_has_the_same_numbers(tmp_path: Path) -> None:
    """To the last digit: what `ode-report verify` asks."""
    found = []
    for place in ("once", "again"):
        (tmp_path / place).mkdir()
        assert typed(*OF_LATENT, "trainer.epochs=1", cwd=tmp_path / place).returncode == 0
        metrics = record_of(tmp_path / place)["metrics"]
        found.append({name: value for name, value in metrics.items() if name.startswith("test/")})
    assert found[0] == found[1]


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("task=pendulum", "model=sde"), "model=sde gives sample paths of a stochastic equation only"),
        (("task=gbm", "model=odenet"), "task=gbm asks for sample paths of a stochastic equation, and model=odenet"),
        (
            ("task=gbm", "solver=dopri5"),
            "has a stochastic equation, and solver=dopri5 takes fields of ordinary equations. Use solver=",
        ),
        (("task=ou", "model=latent_sde", "solver=euler_maruyama", "gradient=adjoint"), "gradient=adjoint needs"),
        (
            ("task=ou", "model=latent_sde", "gradient=reversible"),
            "Use solver=reversible_heun_sde, or gradient=backprop.",
        ),
        (("task=ou", "model=latent_sde", "gradient=symplectic"), "Stratonovich equations. Use gradient=backprop."),
        (("task=ou", "task.sequence=true"), "Use network=mlp and task.sequence=false, or model=latent_sde."),
        (("task=gbm", "task.sigma=0"), "task.sigma must be positive"),
    ],
)
def test_what_means_nothing_is_refused(words: tuple[str, ...], sentence: str, tmp_path: Path) -> None:
    check_refused(*words, sentence=sentence, cwd=tmp_path)
