"""The audit of gradient modes: its references are right, its counts are those of training, and it leaves no trace."""

import csv
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from ode_runner.analysis.audit import Audit, ModeResult
from ode_runner.analysis.derivative import cosine, differentiate, relative_error
from ode_runner.analysis.gradient_monitor import GradientMonitor
from ode_runner.batch import Split
from ode_runner.build import build_experiment
from ode_runner.commands.audit import _introduce
from ode_runner.devices.random_state import RandomState
from ode_runner.errors import RefusedInput
from ode_runner.experiment.experiment import Experiment
from ode_runner.fields.ledger import Phase
from ode_runner.gradients.base import GradientMode
from ode_runner.recording.display import Display
from ode_runner.report.runs import find_runs
from ode_runner.solvers.base import AdaptiveSolver
from ode_runner.solvers.implicit import linearised
from ode_runner.solvers.implicit.jacobian import jacobian
from tests.conftest import Compose
from tests.helpers import TINY, options, record_of, rows_of, run_folder, typed
from tests.problems import accepted_pairs, build, named_class

SMALL = ("task.train=4", "task.validation=2", "task.test=2", "task.points=12", "task.window=5")
LINEAR = ("task=linear", *SMALL)
MOONS = (*TINY, "trainer.device=cpu")
SLOW = partial(pytest.param, marks=pytest.mark.slow)

Make = Callable[..., Experiment]


@pytest.fixture
def experiment(composed: Compose) -> Make:
    """Makes a cell from overrides."""

    def make(*overrides: str) -> Experiment:
        cfg = composed("trainer.device=cpu", *overrides)
        return build_experiment(cfg, cfg.hydra.runtime.choices)

    return make


@pytest.fixture
def audit(composed: Compose, experiment: Make) -> Callable[..., Audit]:
    """Makes the audit of a cell from overrides."""

    def make(*overrides: str) -> Audit:
        return Audit(experiment(*overrides), reference=build(composed, "gradient", "backprop"))

    return make


@pytest.fixture
def audited(composed: Compose, audit: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, ModeResult]]:
    """What is found of the modes, by default all that go with the solver."""
    monkeypatch.setattr("ode_runner.analysis.audit.REPEATS", 1)

    def make(solver: str, *overrides: str, modes: tuple[str, ...] = ()) -> dict[str, ModeResult]:
        names = modes or [mode for name, mode in accepted_pairs() if name == solver]
        built: Mapping[str, GradientMode | str] = {name: build(composed, "gradient", name) for name in names}
        return {result.mode: result for result in audit(f"solver={solver}", *overrides).results(built)}

    return make


def test_two_vectors_are_compared_by_angle_and_distance() -> None:
    ours, theirs = torch.tensor([3.0, 0.0]), torch.tensor([3.0, 4.0])
    assert cosine(ours, theirs) == pytest.approx(0.6)
    assert relative_error(ours, theirs) == pytest.approx(0.8)
    assert relative_error(-theirs, theirs) == pytest.approx(2)
    assert math.isnan(cosine(torch.zeros(2), theirs))
    assert math.isnan(relative_error(ours, torch.zeros(2)))


def flow_gradient(experiment: Experiment, audit: Audit) -> torch.Tensor:
    """dL/dtheta of the flow of y' = theta y, by the matrix exponential."""
    theta = experiment.parameters()[0].detach().requires_grad_()
    batch = audit.batch.to(torch.float64)
    flows = torch.linalg.matrix_exp((batch.ts - batch.ts[0])[:, None, None] * theta)
    ys = torch.einsum("tij,bj->tbi", flows, batch.inputs)
    outputs = experiment.outputs(batch)._replace(values=ys)
    return torch.autograd.grad(experiment.task.loss(outputs, batch), theta)[0].flatten()


@pytest.mark.parametrize("solver", ["dopri5", SLOW("rk4"), "reversible_heun", SLOW("implicit_midpoint")])
def test_the_flows_gradient_is_known_as_well_as_is_said(solver: str, audit: Any) -> None:
    made = audit(f"solver={solver}", *LINEAR, "trainer.precision=fp64")
    truth, references = flow_gradient(made.experiment, made), made.references
    error = relative_error(references.flow.vector, truth)
    # Each refinement divides the error by 4 at least, so what is left is at most a third of the last change.
    assert 0 < error < references.flow_uncertainty / 3 * 1.1
    assert error < relative_error(references.solution.vector, truth) / 10


@pytest.mark.sampled(1)
@pytest.mark.parametrize("solver", ["dopri5", SLOW("rk4"), "alf"])
def test_exact_modes_give_the_solutions_gradient_and_others_do_not(solver: str, audited: Any) -> None:
    results = audited(solver, *LINEAR, "trainer.precision=fp64", "tolerance=1e-3")
    for name, result in results.items():
        assert not result.reason
        assert result.exact == named_class("gradient", name).exact
        assert (result.solution_error < 1e-12) == result.exact, name  # rounding; others are off by discretisation
        assert result.solution_cosine > 0.999
    assert {result.exact for result in results.values()} == {True, False}


@pytest.mark.parametrize("solver", ["dopri5", SLOW("tsit5")])
def test_single_precision_is_compared_along_its_own_steps(solver: str, audited: Any) -> None:
    """Here rounding decides on step sizes: those chosen anew in double precision part the gradients by 6e-5."""
    overrides = ("task=pendulum", *SMALL, "task.window=12", "tolerance=1e-4")
    results = audited(solver, *overrides, modes=("backprop", "checkpoint"))
    for result in results.values():
        assert 0 < result.solution_error < 3e-6  # rounding of fp32, over a few dozen operations


def last_row(slope: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    """A Jacobian all of whose rows are the last one, as a buffer of unit vectors written anew for each row made it."""
    found = jacobian(slope, place)
    return found[:, -1:].expand_as(found)


@pytest.mark.parametrize("solver", ["implicit_midpoint", SLOW("kvaerno3"), SLOW("radau_iia5")])
def test_a_wrong_jacobian_of_an_implicit_solver_is_seen(
    solver: str, audited: Any, experiment: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = (*LINEAR, "task.points=4", "task.window=2", "trainer.precision=fp64")
    sound = audited(solver, *overrides, modes=("backprop",))["backprop"]
    monkeypatch.setattr(linearised, "jacobian", last_row)
    found = audited(solver, *overrides, modes=("backprop",))
    for result in found.values():
        assert result.loss == pytest.approx(sound.loss, abs=1e-5), "Newton's method gets there all the same"
        assert result.solution_error > 0.01
        assert result.flow_error > 0.01
    assert sound.solution_error < 1e-12
    made = experiment(f"solver={solver}", *overrides)
    batch = next(made.task.batches(Split.TRAIN, batch_size=4, epoch=0))
    parts = torch.autograd.grad(made.loss(batch).total, made.parameters())
    for parameter, part in zip(made.parameters(), parts, strict=True):
        parameter.grad = part
    seen = GradientMonitor(made, every=1).compare(batch, RandomState.now(made.device), step=0)
    assert seen["audit/relative_error"] > 0.01


def test_each_samples_own_steps_are_those_compared_with(audited: Any) -> None:
    """Steps common to the batch make another solution within tolerance, whose gradient differs by as much."""
    overrides = ("task=pendulum", *SMALL, "task.window=12", "solver.per_sample=true", "tolerance=1e-2")
    results = audited("dopri5", *overrides, "trainer.precision=fp64", modes=("backprop", "checkpoint"))
    for result in results.values():
        assert result.solution_error < 1e-12  # rounding
        assert result.flow_error > 1e-7, "steps are long enough to matter"


def test_a_tighter_tolerance_brings_the_adjoint_closer(audited: Any) -> None:
    loose, tight = (
        audited("dopri5", *LINEAR, "trainer.precision=fp64", f"tolerance={tolerance}", modes=("adjoint",))["adjoint"]
        for tolerance in (1e-3, 1e-9)
    )
    assert tight.solution_error < loose.solution_error / 100
    assert tight.flow_error < loose.flow_error / 100


@pytest.mark.slow
def test_random_beginnings_are_drawn_alike_in_both_precisions(audited: Any) -> None:
    sizes = ("task.train=20", "task.validation=5", "task.test=5", "trainer.batch_size=10")
    results = audited("euler", "task=spiral_vae", *sizes, modes=("backprop",))
    assert results["backprop"].solution_error < 1e-4  # rounding of fp32, through a recurrent network


def test_weights_random_numbers_and_training_counts_are_left_alone(audited: Any, experiment: Make) -> None:
    made = experiment(*MOONS)
    weights = {name: value.clone() for name, value in made.model.state_dict().items()}
    random, ledger = torch.get_rng_state(), made.integrator.ledger
    batch = next(made.task.batches(Split.TRAIN, batch_size=20, epoch=0))
    differentiate(made, batch, RandomState.now(made.device), measure_memory=True)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, weights[name]) for name, value in made.model.state_dict().items())
    assert all(p.grad is None for p in made.parameters())
    assert {phase for phase, tally in ledger.totals.items() if tally.evaluations} == {Phase.DIAGNOSTICS}


def test_a_mode_that_fails_costs_the_others_nothing(composed: Compose, audit: Any) -> None:
    few = build(composed, "gradient", "forward", max_directions=3)
    refused, measured = audit("solver=rk4", *MOONS).results({"few": few, "all": build(composed, "gradient", "forward")})
    assert "gradient.max_directions=3" in refused.reason
    assert measured.solution_error < 1e-5  # rounding of fp32


def table(root: Path) -> dict[str, dict[str, str]]:
    [path] = root.rglob("gradients.csv")
    return {row["mode"]: row for row in csv.DictReader(path.read_text().splitlines())}


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Where an audit of fresh weights was typed, and what it printed."""
    root, begun = tmp_path_factory.mktemp("untrained"), time.perf_counter()
    words = ("audit=true", "gradient=adjoint", "gradient.rtol=1e-9", "gradient.atol=1e-9", *MOONS)
    ended = typed(*words, cwd=root, pictures=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    seconds = sum(float(row["milliseconds"] or 0) for row in table(root).values()) / 1000
    assert 0 < seconds < time.perf_counter() - begun
    return root, ended.stdout


def test_every_mode_is_either_measured_or_has_its_reason(untrained: tuple[Path, str]) -> None:
    root, printed = untrained
    rows = table(root)
    assert set(rows) == {*options("gradient"), "double precision"}
    admissible = {mode for solver, mode in accepted_pairs() if solver == "dopri5"}
    for mode in options("gradient"):
        assert (rows[mode]["reason"] == "") == (rows[mode]["saved_bytes"] != "0")
        assert rows[mode]["reason"] in printed
        assert mode in admissible or "solver=dopri5 is adaptive" in rows[mode]["reason"]
    assert {mode for mode in options("gradient") if not rows[mode]["reason"]} == admissible


def test_it_writes_where_it_says_and_no_run(untrained: tuple[Path, str]) -> None:
    root, printed = untrained
    [path] = root.rglob("gradients.csv")
    assert path.parent.parent.relative_to(root) == Path("outputs/audits/half_moons")
    assert f"{path.relative_to(root)}" in printed
    assert path.with_suffix(".png").stat().st_size > 10_000
    assert not list(root.rglob("record.json"))
    assert max(map(len, (line for line in printed.splitlines() if "e-0" in line))) < 120


def test_a_report_takes_no_audit_for_a_run(untrained: tuple[Path, str]) -> None:
    with pytest.raises(RefusedInput, match="holds no runs"):
        find_runs([untrained[0] / "outputs"])


def test_the_modes_options_as_typed_are_its_own(untrained: tuple[Path, str]) -> None:
    rows = table(untrained[0])
    assert int(rows["adjoint"]["nfe_backward"]) > 2 * int(rows["interpolated"]["nfe_backward"]), "at rtol=1e-9"
    assert float(rows["adjoint"]["milliseconds"]) > 0


@pytest.mark.slow
def test_a_finished_run_is_audited_with_its_trained_weights(tmp_path: Path) -> None:
    command = ("solver=rk4", "gradient=adjoint", "trainer.epochs=3", "optimizer.lr=0.05", "logger=none", *MOONS)
    assert typed(*command, "trainer.log_every=1", cwd=tmp_path).returncode == 0
    folder, record = run_folder(tmp_path), record_of(tmp_path)
    step = rows_of(folder)[0]
    assert typed("audit=true", *command, cwd=tmp_path).returncode == 0
    row = table(tmp_path / "outputs" / "audits")["adjoint"]
    for ours, theirs in {
        "nfe_forward": "nfe/forward",
        "nfe_backward": "nfe/backward",
        "saved_bytes": "memory/saved_bytes",
        "loss": "train/loss",
    }.items():
        assert float(row[ours]) == step[theirs], "as in the first step of training"
    ended = typed(f"audit={folder.relative_to(tmp_path)}", "solver=reversible_heun", cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    rows = table(folder / "audits")
    measured = {mode for mode, row in rows.items() if not row["reason"]}
    assert measured == {"double precision", "adjoint", "backprop", "reversible"}
    assert "adjoint *" in ended.stdout
    assert float(rows["backprop"]["loss"]) < step["train/loss"] - 0.05, "weights that have learned something"
    assert record_of(tmp_path) == record


@pytest.mark.slow
def test_a_mode_of_ones_own_is_compared_as_well(tmp_path: Path) -> None:
    path = tmp_path / "mine" / "gradient" / "tight.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("# Mine.\ndefaults: [adjoint]\nrtol: ${tolerance}\n")
    path.with_name("torn.yaml").write_text("_target_: [")
    ended = typed("audit=true", "-cd", "mine", "solver=dopri5", "optimizer.lr=3", *MOONS, cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "optimizer.lr=3 is not used: audit= trains nothing" in ended.stdout
    rows = table(tmp_path)
    assert rows["tight"]["solution_error"] == rows["adjoint"]["solution_error"] != ""
    assert "torn: cannot read" in ended.stdout, "it refuses itself alone"


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("typing", "words"),
    [
        ("audit=true model=resnet", "model=resnet has no solve to differentiate: audit= compares gradient modes."),
        (
            "audit=true task=gbm",
            "model=sde has no solve to differentiate: audit= compares gradient modes. Use model=lat",
        ),
        ("audit=true solver=lsoda gradient=adjoint", "audit= compares with backpropagation through the solver"),
        ("audit=no/where", "audit=no/where is no run folder"),
        (
            "audit=true plan=true",
            "plan=true is for runs that train; leave it out with evaluate=, predict=, export=, audit=",
        ),
        ("audit=true gradient=adjiont", "Did you mean 'adjoint'?"),
    ],
)
def test_what_cannot_be_audited_is_refused_in_one_line(typing: str, words: str, tmp_path: Path) -> None:
    ended = typed(*typing.split(), cwd=tmp_path)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert words in ended.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_without_the_flows_gradient_the_rest_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AdaptiveSolver, "refined", lambda self: replace(self, rtol=1e-12, atol=1e-12, max_steps=3))
    ended = typed("audit=true", "trainer.precision=fp64", *MOONS, cwd=tmp_path, pictures=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "flow:     could not be computed. solver=dopri5 stopped at" in ended.stdout
    row = table(tmp_path)["checkpoint"]
    assert row["flow_error"] == ""
    assert float(row["solution_error"]) < 1e-12
    assert list(tmp_path.rglob("gradients.png"))


@pytest.mark.parametrize(
    ("solver", "words"),
    [("solver=torchdiffeq solver.method=bosh3", "its steps chosen anew."), ("solver=alf", "the same steps.")],
)
def test_whose_steps_the_reference_takes_is_said(solver: str, words: str, audit: Any, capsys: Any) -> None:
    made = audit(*solver.split(), *LINEAR)
    _introduce(made, Display())
    assert words in capsys.readouterr().out


def test_a_solve_that_fails_is_said_in_one_line(tmp_path: Path) -> None:
    ended = typed("audit=true", "solver.max_steps=1", "tolerance=1e-9", *MOONS, cwd=tmp_path)
    assert ended.returncode == 1
    assert "solver_failed: solver=dopri5 stopped at t=" in ended.stdout
    assert ended.stderr == ""
