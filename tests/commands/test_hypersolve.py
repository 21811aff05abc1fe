"""`hypersolve=` fits a correction to a solver's steps: it does what it says, and is used where it is named."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import ode_runner as ode
from ode_runner.field import VectorField
from ode_runner.gradients.backprop import Backprop
from ode_runner.hypersolving.corrections import StateCorrection
from ode_runner.hypersolving.fit import fitted
from ode_runner.hypersolving.residuals import MeasureResiduals, RecordStates, Residuals, joined
from ode_runner.integrator import Integrator
from ode_runner.solvers.explicit.dopri8 import Dopri8
from ode_runner.solvers.explicit.euler import Euler
from ode_runner.solvers.explicit.heun import Heun
from ode_runner.solvers.hypersolver import Correction, Hypersolver
from ode_runner.solvers.runge_kutta import FixedStepRungeKutta
from tests.helpers import TINY, run_folder, typed

ACCURATE = Dopri8(rtol=1e-10, atol=1e-10, max_steps=1000, per_sample=False)
TS = torch.tensor([0.0, 1.0], dtype=torch.float64)
QUICK = ("correction_samples=32", "correction_steps=20", "correction_width=16")


class Layers(VectorField):
    """A small network of time and state, in double precision."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(3, 32), nn.Tanh(), nn.Linear(32, 2)).double().requires_grad_(False)

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return self.layers(2 * torch.cat([y, t.expand(len(y), 1)], dim=1))


class Known(Correction):
    """The leading term of Euler's local error on y' = a(t) y, by hand: (a' + a^2) y / 2, for a = 1 + t."""

    cost = 0.25

    def forward(self, t: Tensor, dt: Tensor, y: Tensor, dy: Tensor, *given: Tensor) -> Tensor:
        return (1 + (1 + t) ** 2) * y / 2


class Linear(VectorField):
    """y' = (1 + t) y."""

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return (1 + t) * y


def states(solver: FixedStepRungeKutta, field: VectorField, y0: Tensor, ts: Tensor = TS) -> Tensor:
    return Integrator(solver=solver, gradient=Backprop())(field, y0, ts).ys


def residuals(base: FixedStepRungeKutta, field: VectorField, y0: Tensor, ts: Tensor = TS) -> Residuals:
    mode = MeasureResiduals(methods=[base])
    Integrator(solver=ACCURATE, gradient=mode)(field, y0, ts)
    return joined(mode.found)


def test_the_true_local_error_raises_the_order() -> None:
    """Also at outputs within steps, and backwards in time; the cost is counted with every step."""
    y0, ends = torch.ones(3, 1, dtype=torch.float64), ([0.0, 0.43, 1.0], [1.0, 0.61, 0.0])
    for times in (torch.tensor(end, dtype=torch.float64) for end in ends):
        exact = ((times - times[0]) + (times**2 - times[0] ** 2) / 2).exp()
        errors = []
        for steps in (20, 40):
            base = Euler(num_steps=steps, step_size=None)
            integrator = Integrator(solver=Hypersolver.around(base, Known()), gradient=Backprop())
            found = integrator(Linear(), y0, times).ys[:, 0, 0]
            errors.append((found - exact)[1:].abs())
            assert integrator.ledger.tally.evaluations == 1.25 * steps  # slopes at t1 are those of the next step
        orders = (errors[0] / errors[1]).log2()
        assert ((orders > 1.9) & (orders < 2.3)).all(), orders


def test_residuals_are_local_errors() -> None:
    y0 = torch.tensor([[1.0], [0.5]], dtype=torch.float64)
    found = residuals(Euler(num_steps=200, step_size=None), Linear(), y0, torch.tensor([0.0, 0.5], dtype=torch.float64))
    expected = Known()(found.t[:, None], found.dt, found.y, found.dy)
    assert len(found.t) == 200
    assert torch.allclose(found.error, expected, rtol=0.02)
    assert torch.allclose(found.dy, (1 + found.t[:, None]) * found.y)


def test_a_new_correction_changes_nothing_and_one_that_was_stored_is_the_same(tmp_path: Path) -> None:
    for shape in ((8, 2), (8, 5, 3), (4, 2, 6, 6)):
        t, dt, y = torch.rand(shape[0]), torch.full((shape[0],), 0.1), torch.randn(shape)
        data = Residuals(t, dt, y, torch.randn(shape), [torch.randn(shape), torch.arange(shape[0])], torch.randn(shape))
        new = StateCorrection.for_residuals(data, width=8)
        assert new(t[0], dt[0], y, data.dy, *data.given).shape == shape
        assert not new(t, dt, y, data.dy, *data.given).any()
        trained = fitted(data, width=8, steps=3, seed=0)
        torch.save(trained.state(), tmp_path / "correction.pt")
        again = StateCorrection.from_state(torch.load(tmp_path / "correction.pt", weights_only=True))
        found = trained(t, dt, y, data.dy, *data.given)
        assert found.any()
        assert torch.equal(again(t, dt, y, data.dy, *data.given), found)
        assert torch.equal(fitted(data, width=8, steps=3, seed=0)(t, dt, y, data.dy, *data.given), found)


@pytest.mark.slow
@pytest.mark.parametrize("method", [Euler, Heun])
def test_errors_fall_below_a_tenth(method: type[FixedStepRungeKutta]) -> None:
    """A field 2-32-2, a correction of width 64, 2,500 steps of 512; a prototype divided the errors by 60 and 21."""
    field, base = Layers(), method(num_steps=10, step_size=None)
    data = residuals(base, field, torch.randn(1000, 2, dtype=torch.float64))
    correction = fitted(data, width=64, steps=2500, seed=0).double()
    y0 = torch.randn(1000, 2, dtype=torch.float64)
    recorded = RecordStates()
    accurate = Integrator(solver=ACCURATE, gradient=recorded)(field, y0, TS).ys[-1]
    plain, corrected = (states(solver, field, y0)[-1] for solver in (base, Hypersolver.around(base, correction)))
    gain = float((plain - accurate).norm(dim=1).mean() / (corrected - accurate).norm(dim=1).mean())
    assert gain > 10


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("trained")
    assert typed("task=half_moons", "logger=none", *TINY, cwd=root).returncode == 0
    return root


def fit(root: Path, *words: str, pictures: bool = False) -> Path:
    run = run_folder(root)
    ended = typed(f"hypersolve={run.relative_to(root)}", *words, *QUICK, cwd=root, pictures=pictures)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = max(run.glob("hypersolvers/*"), key=lambda folder: folder.stat().st_mtime)
    assert "use it: ode-run evaluate=" in ended.stdout
    return found


def table(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "hypersolver.csv").read_text().splitlines()))


def test_the_table_is_that_of_the_files_and_the_correction_is_used(trained: Path) -> None:
    folder, run = fit(trained, "solver=euler", "solver.num_steps=4", pictures=True), run_folder(trained)
    assert (folder / "hypersolver.png").exists()
    rows = table(folder)
    content = json.loads((folder / "hypersolver.json").read_text())
    assert [row["num_steps"] for row in rows] == ["1", "2", "4", "8", "16"]
    assert content["verdict"].startswith(("It pays: ", "It does not pay: "))
    for row in rows:
        assert float(row["rk4_nfe"] or 0) <= float(row["corrected_nfe"])
        assert float(row["solver_nfe"]) < float(row["corrected_nfe"])
    asked = (f"evaluate={run.relative_to(trained)}", "solver=euler", "solver.num_steps=4")
    nfe = []
    for more in ((), (f"correction={folder.relative_to(trained)}",)):
        assert typed(*asked, *more, cwd=trained).returncode == 0
        newest = max(run.glob("evaluations/*/evaluation.json"), key=lambda path: path.stat().st_mtime)
        nfe.append(json.loads(newest.read_text())["metrics"]["nfe/eval"])
    assert nfe == pytest.approx([float(rows[2]["solver_nfe"]), float(rows[2]["corrected_nfe"])])
    plain = ode.load(run, "solver=euler", "solver.num_steps=4")
    corrected = ode.load(run, "solver=euler", "solver.num_steps=4", correction=folder)
    fine = ode.load(run, "solver=dopri5", "tolerance=1e-6")
    ours, theirs, true = (one.states([[0.5, 0.25]])[-1] for one in (corrected, plain, fine))
    assert not torch.equal(torch.as_tensor(ours), torch.as_tensor(theirs))
    assert ours.shape == true.shape


@pytest.mark.slow
def test_corrected_samples_have_no_density(tmp_path: Path) -> None:
    assert typed("task=density2d", "model=flow_matching", "trainer.max_steps=2", cwd=tmp_path).returncode == 0
    folder, run = fit(tmp_path, "solver=euler", "solver.num_steps=2"), run_folder(tmp_path)
    places = (f"evaluate={run.relative_to(tmp_path)}", f"correction={folder.relative_to(tmp_path)}")
    assert typed(*places, "solver=euler", "solver.num_steps=2", cwd=tmp_path).returncode == 0
    [path] = run.glob("evaluations/*/evaluation.json")
    metrics = json.loads(path.read_text())["metrics"]
    assert "test/nll" not in metrics
    cost = torch.load(folder / "correction.pt", weights_only=True)["correction"]["cost"]
    assert metrics["nfe/sample"] == pytest.approx(2 + 2 * cost)
    loaded = ode.load(run, "solver=euler", "solver.num_steps=2", correction=folder)
    assert loaded.sample(3).log_density is None


def test_what_cannot_be_corrected_is_refused(trained: Path) -> None:
    run = run_folder(trained).relative_to(trained)
    for words, said in {
        (f"hypersolve={run}",): "solver=dopri5 is adaptive. Add solver=heun solver.num_steps=10",
        (f"hypersolve={run}", "solver=heun", "correction_width=0"): "correction_width=0 is no whole number",
        (f"hypersolve={run}", "solver=heun", "optimizer.lr=1"): "optimizer.lr=1 is of training",
        (f"evaluate={run}", "solver=heun", "correction=none.pt"): "correction=none.pt: none.pt is not there",
        ("task=half_moons", "correction=none.pt"): "is for evaluate=RUN_FOLDER and predict=RUN_FOLDER",
        (f"audit={run}", "correction_steps=3"): "correction_steps=3 is for hypersolve=RUN_FOLDER",
    }.items():
        ended = typed(*words, cwd=trained)
        assert (ended.returncode, ended.stderr.count("\n")) == (2, 1), ended.stderr
        assert said in ended.stderr


def test_a_correction_of_something_else_is_refused(trained: Path, tmp_path: Path) -> None:
    folder, run = fit(trained, "solver=heun", "solver.num_steps=2"), run_folder(trained)
    with pytest.raises(ode.RefusedInput, match=r"is of solver=heun, and this is solver=euler\. Use solver=heun\."):
        ode.load(run, "solver=euler", correction=folder)
    other = ode.train("task=half_moons", "seed=1", "logger=none", f"output_dir={tmp_path}", *TINY)
    with pytest.raises(ode.RefusedInput, match="is of another run"):
        ode.load(other.folder, "solver=heun", correction=folder)


def test_a_correction_of_earlier_weights_is_refused(trained: Path, tmp_path: Path) -> None:
    """A run that was trained again, by another version of the program say, has the same fingerprint."""
    folder, run = fit(trained, "solver=heun", "solver.num_steps=2"), tmp_path / "run"
    shutil.copytree(run_folder(trained), run)
    assert ode.load(run, "solver=heun", correction=folder).states([[0.5, 0.25]]).shape == (2, 1, 2)
    content = torch.load(run / "checkpoints/best.pt", weights_only=True)
    content["state"]["model"] = {name: 1.1 * weight for name, weight in content["state"]["model"].items()}
    torch.save(content, run / "checkpoints/best.pt")
    with pytest.raises(ode.RefusedInput, match="or this one was trained again since"):
        ode.load(run, "solver=heun", correction=folder)


@pytest.mark.parametrize(
    "words",
    [
        (
            "task=chirality",
            "model=cde",
            "task.train=20",
            "task.points=20",
            "task.observed=20",
        ),  # adaptive solvers begin anew at its rows
        pytest.param(("task=spiral_vae", "task.train=20"), marks=pytest.mark.slow),
        pytest.param(("task=density2d", "model=flow_matching"), marks=pytest.mark.slow),
        pytest.param(("task=digits_tokens", "model=odenet"), marks=pytest.mark.slow),
        pytest.param(("task=annuli", "model=galerkin", "regularizer=kinetic"), marks=pytest.mark.slow),
    ],
)
def test_models_of_all_kinds(words: tuple[str, ...], tmp_path: Path) -> None:
    ended = typed(*words, "trainer.max_steps=2", "logger=none", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    rows = table(fit(tmp_path, "solver=heun", "solver.num_steps=2"))
    errors = [float(row["solver_error"]) for row in rows]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("task=annuli", "model=stacked"), "this model solves several"),
        (("task=density2d", "model=cnf"), "these solves also compute"),
        (("task=half_moons", "model=resnet"), "this model solves nothing"),
        (("task=lotka_volterra", "model=exact"), "is no network"),
    ],
)
def test_models_whose_steps_have_no_correction(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    ended = typed(*words, "trainer.max_steps=1", "logger=none", "pictures=false", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    run = run_folder(tmp_path).relative_to(tmp_path)
    ended = typed(f"hypersolve={run}", "solver=heun", "solver.num_steps=2", *QUICK, cwd=tmp_path)
    print(ended.stdout, ended.stderr)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert said in ended.stderr
