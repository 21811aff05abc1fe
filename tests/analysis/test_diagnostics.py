"""Diagnostics of the flow: right where the answer is known, and without influence on training."""

import math
import signal
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor

from ode_runner.analysis.flow import FlowDiagnostics
from ode_runner.analysis.spectrum import largest_singular_value, ritz_values
from ode_runner.analysis.trajectory_probe import ProbeTrajectory, TrajectoryProbe
from ode_runner.build import build_experiment
from ode_runner.building.instantiate import construct
from ode_runner.errors import SolverFailed
from ode_runner.fields.ledger import Phase
from ode_runner.integrator import Integrator
from ode_runner.networks import attention
from ode_runner.problem import Solution
from ode_runner.recording.diagnostic_names import remarks
from ode_runner.solvers.base import Solver
from ode_runner.solvers.implicit.jacobian import JacobianProducts
from tests.conftest import Compose
from tests.helpers import TINY, before_step, record_of, rows_of, run_folder, typed
from tests.networks.test_transformer import step_by_step
from tests.problems import Formula, build
from tests.resuming import assert_equal, outcome

SIZES = ("task.train=4", "task.validation=2", "task.test=2", "task.points=12", "task.window=5")
SYSTEM = ("trainer.device=cpu", *SIZES)
LOOK = FlowDiagnostics(every=1, samples=8, places=5, products=12)


def matrices(batch: int, size: int) -> Tensor:
    """Neither symmetric nor normal; different for each sample."""
    return torch.randn(batch, size, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def times_matrix(matrix: Tensor) -> Any:
    return lambda vector: torch.einsum("bij,bj->bi", matrix, vector)


def ordered(values: Tensor) -> Tensor:
    """Eigenvalues in an order that rounding does not change: by real part, then by imaginary part, coarsely."""
    key = (values.real * 1e6).round() * 1e9 + (values.imag * 1e6).round()
    return values.gather(1, key.argsort(dim=1))


def test_a_derivative_is_applied_without_being_formed(float64: None) -> None:
    place = torch.randn(3, 4, requires_grad=True)
    weights = torch.randn(4, 6)
    output = torch.tanh(place @ weights)
    jacobian = (1 - output.detach().square())[..., None] * weights.T  # (batch, 6, 4)
    vector, covector = torch.randn(3, 4), torch.randn(3, 6)
    made = JacobianProducts(output, place)
    torch.testing.assert_close(made.jvp(vector), torch.einsum("bij,bj->bi", jacobian, vector))
    torch.testing.assert_close(made.vjp(covector), torch.einsum("bij,bi->bj", jacobian, covector))


def test_a_flow_of_attention_is_looked_at(composed: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's fused attention has no second derivative, by which vectors are pushed through a flow's derivative."""
    choices = ("task=digits_tokens", "model=odenet", "network=transformer", "network.width=8", "trainer.precision=fp64")
    cfg = composed("trainer.device=cpu", "solver=rk4", "solver.num_steps=2", *choices)
    experiment = build_experiment(cfg, cfg.hydra.runtime.choices)
    found = LOOK.measure(experiment, epoch=1)
    monkeypatch.setattr(attention, "attended", step_by_step)
    assert found == pytest.approx(LOOK.measure(experiment, epoch=1), rel=1e-6)
    assert all(math.isfinite(value) for value in found.values())


def test_a_stochastic_flow_is_looked_at_along_its_noise(composed: Compose) -> None:
    """Additive noise moves neighbouring states alike: both separate as exp(-theta t)."""
    chosen = ("task=ou", "model=exact", "solver=srk", "solver.num_steps=64", "task.train=4", "task.validation=4")
    cfg = composed("trainer.device=cpu", "trainer.precision=fp64", *chosen)
    found = LOOK.measure(build_experiment(cfg, cfg.hydra.runtime.choices), epoch=1)
    theta, horizon = cfg.task.theta, cfg.task.horizon
    assert found["diagnostics/spectral_radius"] == pytest.approx(theta)
    assert found["diagnostics/stiffness"] == pytest.approx(theta * horizon)
    assert found["diagnostics/growth"] == pytest.approx(math.exp(-theta * horizon), rel=1e-4)
    assert found["diagnostics/drift"] < 1e-3


def test_ito_equations_are_not_solved_backwards_and_nothing_is_said_of_it(composed: Compose) -> None:
    chosen = ("task=gbm", "model=latent_sde", "solver=euler_maruyama", "task.train=4", "task.validation=4")
    cfg = composed("trainer.device=cpu", "network.hidden=4", *chosen)
    found = LOOK.measure(build_experiment(cfg, cfg.hydra.runtime.choices), epoch=1)
    assert "diagnostics/drift" not in found
    assert all(math.isfinite(value) for value in found.values())
    assert not [sentence for sentence in remarks(found) if "backwards" in sentence]


@pytest.mark.parametrize("output", [lambda y: torch.ones_like(y), lambda y: 0 * y + 1], ids=["no graph", "zero"])
def test_an_output_that_does_not_depend_on_the_state_has_no_derivative(output: Any) -> None:
    place = torch.ones(2, 3, requires_grad=True)
    made = JacobianProducts(output(place), place)
    assert not made.jvp(torch.ones(2, 3)).any()
    assert not made.vjp(torch.ones(2, 3)).any()


@pytest.mark.parametrize("size", [1, 2, 7])
def test_all_eigenvalues_of_a_small_state_are_found(size: int, float64: None) -> None:
    matrix = matrices(5, size)
    found = ritz_values(times_matrix(matrix), torch.zeros(5, size), products=12)
    torch.testing.assert_close(ordered(found), ordered(torch.linalg.eigvals(matrix)), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("diagonal", [[0.0, 0.0, 0.0], [-2.0, -2.0, -2.0], [1.0, 1.0, -3.0]], ids=str)
def test_eigenvalues_that_coincide_are_found(diagonal: list[float], float64: None) -> None:
    matrix = torch.diag(torch.tensor(diagonal)).expand(2, 3, 3)
    found = ritz_values(times_matrix(matrix), torch.zeros(2, 3), products=12)
    expected = torch.tensor(sorted(diagonal), dtype=torch.complex128).expand(2, 3)
    torch.testing.assert_close(ordered(found), expected)


def test_of_a_large_state_the_rim_of_the_spectrum_is_found(float64: None) -> None:
    """A symmetric map with eigenvalues spread evenly over [-10, 1], one of 300 at each end 2 away from the others."""
    inner = torch.linspace(-8, -1, 298)
    values = torch.cat([torch.tensor([-10.0]), inner, torch.tensor([1.0])])
    basis = torch.linalg.qr(matrices(2, 300))[0]
    matrix = basis @ torch.diag(values) @ basis.transpose(1, 2)
    found = ritz_values(times_matrix(matrix), torch.zeros(2, 300), products=25).real
    assert (found.max(dim=1).values <= 1 + 1e-9).all(), "never beyond the spectrum of a normal map"
    assert (found.min(dim=1).values >= -10 - 1e-9).all()
    torch.testing.assert_close(found.max(dim=1).values, torch.ones(2), rtol=0, atol=0.02)  # Krylov spaces of 25
    torch.testing.assert_close(found.min(dim=1).values, -10 * torch.ones(2), rtol=0, atol=0.02)  # the same


def test_samples_that_interact_have_no_spectrum_of_their_own(float64: None) -> None:
    """Estimates were those of one large map, and nothing said so."""
    y = torch.randn(4, 3).requires_grad_()
    derivative = JacobianProducts(torch.tanh(y - y.mean(dim=0)), y)
    with pytest.warns(UserWarning, match="samples of a batch interact"):
        assert ritz_values(derivative.jvp, y, products=3).isnan().all()
    with pytest.warns(UserWarning, match="samples of a batch interact"):
        assert largest_singular_value(derivative, y, products=3).isnan().all()


def test_the_largest_stretch_is_the_largest_singular_value(float64: None) -> None:
    matrix, place = matrices(50, 3), torch.zeros(50, 3, requires_grad=True)
    made = JacobianProducts(times_matrix(matrix)(place), place)
    expected = torch.linalg.matrix_norm(matrix, ord=2)
    for products in (3, 12):  # some of fifty matrices have two singular values close to each other
        torch.testing.assert_close(largest_singular_value(made, place, products=products), expected)
    early = largest_singular_value(made, place, products=2)
    assert (early <= expected + 1e-12).all(), "approached from below"


def probe(composed: Compose, field: Formula, y0: Tensor, end: float, solver: str, **options: Any) -> TrajectoryProbe:
    probing = ProbeTrajectory(places=5)
    Integrator(solver=build(composed, "solver", solver, **options), gradient=probing)(
        field, y0, torch.tensor([0.0, end])
    )
    [made] = probing.probes
    return made


@pytest.mark.parametrize("solver", ["dopri5", pytest.param("tsit5", marks=pytest.mark.slow)])
def test_numbers_of_a_linear_field_are_those_of_its_matrix(solver: str, composed: Compose, float64: None) -> None:
    matrix, end = torch.tensor([[-3.0, 4.0, 0.0], [-4.0, -3.0, 1.0], [0.0, 0.0, 0.5]]), 1.5
    y0, cotangent = torch.randn(4, 3), torch.randn(4, 3)
    made = probe(composed, Formula(lambda t, y: y @ matrix.T), y0, end, solver, rtol=1e-10, atol=1e-10)
    found = LOOK.about(made, (made.states[-1] * cotangent).sum())
    assert found["spectral_radius"] == pytest.approx(5)
    assert found["largest_real_part"] == pytest.approx(0.5)
    assert found["stiffness"] == pytest.approx(3 * end)
    flow = torch.linalg.matrix_exp(end * matrix)
    stretch = float(torch.linalg.matrix_norm(flow, ord=2))
    assert found["growth"] == pytest.approx(stretch, rel=1e-9)
    assert found["lyapunov_exponent"] == pytest.approx(math.log(stretch) / end, rel=1e-9)
    for percent in (0, 25, 50, 75, 100):
        left = torch.linalg.matrix_exp(end * (1 - percent / 100) * matrix)
        expected = float((cotangent @ left).norm())
        assert found[f"gradient_norm_{percent:03}"] == pytest.approx(expected, rel=1e-7)  # the solver's tolerance
    assert found["gradient_ratio"] == pytest.approx(float((cotangent @ flow).norm() / cotangent.norm()), rel=1e-7)
    assert found["drift"] < 1e-7
    assert found["rejected_share"] == made.solution.rejected / (made.solution.accepted + made.solution.rejected)


def test_the_lyapunov_exponent_of_a_long_time_is_the_largest_real_part(composed: Compose, float64: None) -> None:
    matrix = torch.tensor([[0.3, 5.0], [0.0, -1.0]])
    made = probe(composed, Formula(lambda t, y: y @ matrix.T), torch.ones(2, 2), 40.0, "dopri5", rtol=1e-8, atol=1e-8)
    found = LOOK.about(made, made.states[-1].sum())
    # Not normal, so a finite time sees more: the logarithm of the eigenvectors' condition number over the time.
    assert 0.3 < found["lyapunov_exponent"] < 0.3 + math.log(5) / 40


@pytest.mark.parametrize("rate", [1.0, 8.0])
def test_the_way_back_of_a_contraction_drifts_as_euler_says(rate: float, composed: Compose, float64: None) -> None:
    """(1 - rate h) ** n on the way there and (1 + rate h) ** n back leave (1 - (rate h) ** 2) ** n."""
    made = probe(composed, Formula(lambda t, y: -rate * y), torch.ones(2, 3), 1.0, "euler", num_steps=10)
    expected = 1 - (1 - (rate / 10) ** 2) ** 10
    assert LOOK.about(made, made.states[-1].sum())["drift"] == pytest.approx(expected)


def test_a_separable_field_is_followed_by_a_solver_for_such(composed: Compose) -> None:
    cfg = composed("task=pendulum", "network=separable", "solver=leapfrog", *SYSTEM)
    found = LOOK.measure(build_experiment(cfg, cfg.hydra.runtime.choices), epoch=1)
    assert math.isfinite(found["diagnostics/growth"])
    assert found["diagnostics/drift"] < 1e-5, "its steps are undone by steps back, up to rounding of fp32"


def test_without_a_graph_nothing_is_said_of_derivatives(composed: Compose) -> None:
    cfg = composed("task=pendulum", "solver=lsoda", "gradient=adjoint", *SYSTEM)
    found = LOOK.measure(build_experiment(cfg, cfg.hydra.runtime.choices), epoch=1)
    lacking = {name.removeprefix("diagnostics/") for name, value in found.items() if math.isnan(value)}
    norms = {f"gradient_norm_{percent:03}" for percent in (0, 25, 50, 75, 100)}
    assert lacking == {"growth", "lyapunov_exponent", "gradient_ratio", *norms}


def test_output_times_on_the_way_are_served_in_order(composed: Compose, float64: None) -> None:
    ts = torch.tensor([0.0, 0.1, 0.25, 0.3, 0.9, 1.0])
    solver = build(composed, "solver", "dopri5", rtol=1e-9, atol=1e-9)
    field, there, back = Formula(lambda t, y: -y), ProbeTrajectory(places=5), ProbeTrajectory(places=3)
    ys = Integrator(solver=solver, gradient=there)(field, torch.ones(1, 1), ts).ys
    torch.testing.assert_close(ys[:, 0, 0], (-ts).exp(), rtol=0, atol=1e-7)  # the solver's tolerance
    assert there.probes[0].reverse_error() < 1e-6, "from the last of several outputs"
    backwards = Integrator(solver=solver, gradient=back)(field, torch.ones(1, 1), ts.flip(0)).ys
    torch.testing.assert_close(backwards[:, 0, 0], (1 - ts.flip(0)).exp(), rtol=0, atol=1e-7)  # the same


class OneWay(Solver):
    """Refuses to go back."""

    def __init__(self, solver: Solver) -> None:
        object.__setattr__(self, "solver", solver)

    def solve(self, field: Any, y0: Tensor, ts: Tensor) -> Solution:
        if ts[-1] < ts[0]:
            raise SolverFailed("no way back")
        return self.solver.solve(field, y0, ts)  # type: ignore[attr-defined]

    def refined(self) -> Any:
        return self


def test_a_way_back_that_fails_is_a_finding(composed: Compose, float64: None, monkeypatch: pytest.MonkeyPatch) -> None:
    probing, solver = ProbeTrajectory(places=3), OneWay(build(composed, "solver", "rk4"))
    Integrator(solver=solver, gradient=probing)(Formula(lambda t, y: -y), torch.ones(2, 3), torch.tensor([0.0, 1.0]))
    [made] = probing.probes
    look = FlowDiagnostics(every=1, samples=2, places=3, products=3)
    found = look.about(made, made.states[-1].sum())
    assert math.isnan(found["drift"])
    assert found["stiffness"] == pytest.approx(1)
    [sentence] = remarks({f"diagnostics/{name}": value for name, value in found.items()})
    assert sentence.startswith("drift: a solve backwards fails")

    monkeypatch.setattr("ode_runner.analysis.flow.ritz_values", Mock(side_effect=RuntimeError("no second derivative")))
    lacking = {name for name, value in look.about(made, made.states[-1].sum()).items() if math.isnan(value)}
    assert lacking == {"drift", "spectral_radius", "largest_real_part", "stiffness"}
    missing = {f"diagnostics/{name}": math.nan for name in (*sorted(lacking - {"drift"}), "gradient_norm_025")}
    [sentence] = remarks({f"diagnostics/{name}": value for name, value in QUIET.items()} | missing)
    assert "stiffness, largest_real_part, spectral_radius, gradient_norm: unknown, and blank in tables" in sentence


QUIET = {"stiffness": 1.0, "growth": 2.0, "drift": 1e-4, "gradient_ratio": 3.0, "rejected_share": 0.1}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("stiffness", 330.0, "an explicit solver needs about 100 steps for stability alone. Try solver=kvaerno3"),
        ("growth", 1e4, "growth 1e+04: neighbouring states separate by that factor"),
        (
            "drift",
            0.05,
            "a solve backwards misses the initial state by 0.05 times its size, so gradient=adjoint follows",
        ),
        ("gradient_ratio", 1e3, "the gradient explodes on its way to the first state"),
        ("gradient_ratio", 1e-3, "the gradient vanishes on its way to the first state"),
        ("rejected_share", 0.5, "rejected share 50%: so many attempted steps are wasted"),
        ("rejected_share", math.nan, "the solve that it measures fails with the last weights"),
    ],
)
def test_a_value_beyond_its_threshold_is_explained_and_no_other(name: str, value: float, words: str) -> None:
    assert remarks({f"diagnostics/{key}": number for key, number in QUIET.items()}) == []
    [sentence] = remarks({f"diagnostics/{key}": number for key, number in {**QUIET, name: value}.items()})
    assert words in sentence
    assert remarks({"test/accuracy": 1.0}) == []


@pytest.mark.parametrize(("name", "value"), [("drift", 0.05), ("drift", math.nan), ("gradient_ratio", 1e3)])
def test_no_gradient_mode_is_advised_where_nothing_is_differentiated(name: str, value: float) -> None:
    """As with model=exact, whose drift and gradient norms stay in the record."""
    metrics = {f"diagnostics/{key}": number for key, number in {**QUIET, name: value}.items()}
    assert remarks(metrics)
    assert remarks(metrics, differentiates=False) == []


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    "overrides",
    [
        (*TINY, "solver=alf"),
        (*TINY, "solver=explicit_adams", "solver.num_steps=5"),
        (*TINY, "model=augmented", "model.extra=1", "gradient=adjoint"),
        (*TINY, "solver=kvaerno3"),
        ("task=digits", "network.width=4"),
        ("task=pendulum", *SIZES),
        pytest.param(("task=spiral_vae", "task.train=8", "task.validation=4", "task.test=4"), marks=pytest.mark.slow),
    ],
    ids=" ".join,
)
def test_every_number_can_be_had_whatever_the_solver_and_the_model(overrides: Any, composed: Compose) -> None:
    cfg = composed("trainer.device=cpu", *overrides)
    experiment = build_experiment(cfg, cfg.hydra.runtime.choices)
    weights = {name: value.clone() for name, value in experiment.model.state_dict().items()}
    random = torch.get_rng_state()
    found = LOOK.measure(experiment, epoch=1)
    assert all(math.isfinite(value) for value in found.values()), found
    assert len(found) == 13
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, weights[name]) for name, value in experiment.model.state_dict().items())
    assert all(p.grad is None for p in experiment.parameters())
    assert {p for p, tally in experiment.integrator.ledger.totals.items() if tally.evaluations} == {Phase.DIAGNOSTICS}


def test_of_a_solve_that_fails_every_number_is_unknown(composed: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without numbers, a record would have those of an earlier epoch."""
    cfg = composed("trainer.device=cpu", *TINY, "solver=rk4")
    experiment = build_experiment(cfg, cfg.hydra.runtime.choices)
    names = LOOK.measure(experiment, epoch=1).keys()
    monkeypatch.setattr(type(experiment.model.objective), "loss", Mock(side_effect=SolverFailed("it is too stiff")))
    found = LOOK.measure(experiment, epoch=1)
    assert found.keys() == names
    assert all(map(math.isnan, found.values()))


def test_a_network_without_ode_has_no_flow(composed: Compose) -> None:
    cfg = composed("model=resnet", "trainer.device=cpu", *TINY)
    assert LOOK.measure(build_experiment(cfg, cfg.hydra.runtime.choices), epoch=1) == {}


BUDGET = ("trainer.epochs=9", "trainer.max_steps=18")  # ends after epoch 6
RUN = (*TINY, *BUDGET, "trainer.save_every_seconds=0", "logger=none", "solver=euler", "solver.num_steps=2")


@pytest.fixture(scope="module")
def looked_at(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a run with diagnostics was typed."""
    root = tmp_path_factory.mktemp("looked_at")
    ended = typed(*RUN, "diagnostics=flow", "diagnostics.places=3", "diagnostics.every=4", cwd=root)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return root


def test_the_numbers_are_logged_when_due_and_the_last_recorded(looked_at: Path) -> None:
    evaluated = [row for row in rows_of(run_folder(looked_at)) if "diagnostics/drift" in row]
    assert [row["epoch"] for row in evaluated] == [1, 4, 6]
    assert all("eval/loss" in row for row in evaluated)
    last = {name: value for name, value in evaluated[-1].items() if name.startswith("diagnostics/")}
    assert {"diagnostics/stiffness", "diagnostics/gradient_norm_050"} < last.keys()
    metrics = record_of(looked_at)["metrics"]
    assert last == {name: value for name, value in metrics.items() if name.startswith("diagnostics/")}


def without_diagnostics(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: without_diagnostics(v) for k, v in value.items() if not str(k).startswith("diagnos")}
    return [without_diagnostics(v) for v in value] if isinstance(value, list) else value


def test_training_is_the_same_with_and_without(looked_at: Path, tmp_path: Path) -> None:
    assert typed(*RUN, cwd=tmp_path).returncode == 0
    assert run_folder(tmp_path).name == run_folder(looked_at).name, "the same run: it computes the same"
    assert_equal(without_diagnostics(outcome(looked_at)), without_diagnostics(outcome(tmp_path)))


@pytest.mark.slow
def test_a_resumed_run_has_found_the_same(looked_at: Path, tmp_path: Path) -> None:
    command = (*RUN, "diagnostics=flow", "diagnostics.places=3", "diagnostics.every=4")
    with pytest.MonkeyPatch.context() as patched:
        before_step(patched, 14, lambda: signal.raise_signal(signal.SIGTERM))
        assert typed(*command, cwd=tmp_path).returncode == 130
    assert typed(*command, cwd=tmp_path).returncode == 0
    assert record_of(tmp_path)["metrics"] == record_of(looked_at)["metrics"]
    assert record_of(tmp_path)["cost"]["ledger"] == record_of(looked_at)["cost"]["ledger"], "diagnostics included"


def test_the_true_field_is_looked_at_once(tmp_path: Path) -> None:
    sizes = (*SIZES, "logger=none")
    ended = typed("task=linear", "model=exact", "diagnostics=flow", *sizes, cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    metrics = record_of(tmp_path)["metrics"]
    assert metrics["diagnostics/largest_real_part"] == pytest.approx(-0.1)
    assert metrics["diagnostics/stiffness"] == pytest.approx(0.1 * 6.3)
    assert metrics["diagnostics/lyapunov_exponent"] == pytest.approx(-0.1, rel=1e-3)  # the solver's tolerance


@pytest.mark.parametrize(
    ("model", "diagnostics", "other"),
    [("resnet", "flow", "depth"), ("odenet", "depth", "flow"), ("odenet", "flow", None)],
)
def test_a_run_of_which_nothing_was_measured_says_so(
    model: str, diagnostics: str, other: str | None, tmp_path: Path
) -> None:
    words = ("trainer=quick", "trainer.max_steps=1", "logger=none", f"model={model}", f"diagnostics={diagnostics}")
    said = typed(*words, "network.width=2", *TINY, cwd=tmp_path).stdout
    assert ("measures nothing here" in said) == (other is not None)
    assert other is None or f"use diagnostics={other}." in said
    if other:
        done = [word for word in words if not word.startswith("diagnostics")]
        assert typed(*done, "network.width=2", *TINY, "rerun=true", cwd=tmp_path).returncode == 0
        again = typed(*words, "network.width=2", *TINY, cwd=tmp_path).stdout
        assert ("measures nothing here" in again, "made without" in again) == (True, False)


@pytest.mark.parametrize("option", ["every=0", "samples=0", "places=1", "products=0"])
def test_an_impossible_option_is_refused(option: str, composed: Compose) -> None:
    name, _, value = option.partition("=")
    with pytest.raises(ValueError, match=rf"diagnostics.{name} must be at least \d, not {value}"):
        construct(composed("diagnostics=flow", f"diagnostics.{option}"), "diagnostics")
