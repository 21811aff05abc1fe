"""The task `density2d`: distributions with known entropies, and what a run says of its density."""

import math
import re
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from ode_runner.errors import RefusedInput
from ode_runner.models.density import normal_log_density
from ode_runner.tasks.densities.density2d import NEAR, distribution_of
from ode_runner.tasks.densities.plane_distributions import (
    GAUSSIANS,
    OTHERS,
    PINWHEEL_ENTROPIES,
    gaussians,
)
from tests.helpers import record_of, run_folder, run_folders, typed

POINTS = 20_000
SMALL = (
    "task.train=40", "task.validation=20", "task.test=400", "trainer.batch_size=20",
    "trainer.epochs=1", "network.width=8", "logger=none",
)  # fmt: skip
PLANE = (*SMALL, "task=density2d", "task.grid=60")
# Entropy by nearest neighbours among 400,000 points, to about 0.006 (of Gaussians, exactly), and the mean of -log N
# under the best normal distribution and under the standard one.
KNOWN = {
    "8gaussians": (2.832, 4.256, 5.966),
    "8gaussians_narrow": (0.3121, None, None),
    "moons": (2.391, 3.295, 3.912),
    "circles": (3.267, 3.892, 4.708),
    "pinwheel": (2.314, 3.627, 4.039),
    "checkerboard": (math.log(32), 4.494, 7.172),
    "2spirals": (2.643, 3.747, 4.390),
    "swissroll": (2.668, 3.466, 3.804),
    "rings": (2.618, 3.589, 3.958),
}


def nearest_neighbour_entropy(points: Tensor, k: int = 5) -> float:
    """Kozachenko, Leonenko. Problems of Information Transmission 23, 1987."""
    distances = torch.from_numpy(cKDTree(points.numpy()).query(points.numpy(), k=k + 1)[0][:, k])
    count, order = torch.tensor(float(len(points))), torch.tensor(float(k))
    return float(count.digamma() - order.digamma() + math.log(math.pi) + 2 * distances.log().mean())


def test_every_law_has_known_numbers() -> None:
    assert set(KNOWN) == {*GAUSSIANS, *OTHERS}


@pytest.mark.parametrize("name", KNOWN)
def test_points_of_a_law_have_its_entropy_and_its_moments(name: Any) -> None:
    distribution = distribution_of(name, None, None)
    points, component = distribution.draw(POINTS, torch.Generator().manual_seed(1))
    assert component.bincount(minlength=distribution.components).min() > 0.9 * POINTS / distribution.components
    entropy, best_normal, standard = KNOWN[name]
    entropies, parts = distribution.entropies(), [points[component == k] for k in component.unique()]
    assert entropies.whole == pytest.approx(entropy, abs=5e-4 if name in GAUSSIANS else 6e-3)
    assert nearest_neighbour_entropy(points) == pytest.approx(entropies.whole, abs=0.05)
    assert mean(map(nearest_neighbour_entropy, parts)) == pytest.approx(entropies.within, abs=0.06)
    if distribution.centres is not None and distribution.std is not None:
        near = torch.cdist(points, distribution.centres).amin(dim=1) < NEAR * distribution.std
        assert float(near.double().mean()) == pytest.approx(1 - math.exp(-4.5), abs=0.003)
    if best_normal is not None and standard is not None:
        fitted = 0.5 * float((2 * math.pi * math.e * points.T.cov()).logdet())
        assert fitted == pytest.approx(best_normal, abs=0.02)
        assert float(-normal_log_density(points).mean()) == pytest.approx(standard, abs=0.05)


def test_the_entropy_of_eight_gaussians_is_that_of_one_where_they_meet_and_of_eight_apart() -> None:
    one = math.log(2 * math.pi * math.e * 0.3**2)
    assert gaussians(1e-9, 0.3).entropies() == pytest.approx((one, one), abs=1e-9)
    assert gaussians(1e3, 0.3).entropies() == pytest.approx((one + math.log(8), one), abs=1e-9)
    ffjord = 2.8319 + 2 * math.log(1.414 / math.sqrt(2))  # radius and std of FFJORD's are sqrt(2) / 1.414 of ours
    assert gaussians(math.sqrt(8), math.sqrt(1 / 8)).entropies().whole == pytest.approx(ffjord, abs=1e-4)


def test_the_entropies_of_the_pinwheel() -> None:
    """A point of an arm keeps its distance from the origin, where it is turned: density by counts of angles."""
    angles, bins = torch.arange(20_000, dtype=torch.float64) * math.pi / 10_000, 1000
    found = torch.zeros(2, dtype=torch.float64)
    for radius in torch.linspace(0.005, 2.595, 260, dtype=torch.float64):
        along, across = radius * angles.cos(), radius * angles.sin()
        density = torch.exp(-((along - 1) ** 2) / 0.18 - across**2 / 0.02) / (2 * math.pi * 0.03)
        turned = (angles - along.exp() / 4) % (2 * math.pi) / (2 * math.pi) * bins
        arm = turned.long().bincount(density, minlength=bins) * bins / len(angles)
        arms = torch.stack([arm.roll(k * bins // 5) for k in range(5)]).mean(dim=0)
        cell = 4 * radius * 0.01 * 2 * math.pi / bins  # the arms are scaled by 2
        found -= torch.stack([torch.special.xlogy(p / 4, p / 4).sum() * cell for p in (arms, arm)])
    assert found.tolist() == pytest.approx(PINWHEEL_ENTROPIES, abs=2e-3)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("moons", 1.0, None), "task.radius is of task.name=8gaussians or 8gaussians_narrow, and not of moons"),
        (("rings", None, 0.1), "task.std is of"),
        (("8gaussians", 0.0, None), "task.radius must be above 0"),
        (("8gaussians", None, -0.1), "task.std must be above 0"),
    ],
)
def test_a_radius_or_a_deviation_that_means_nothing_is_refused(options: Any, sentence: str) -> None:
    with pytest.raises(RefusedInput, match=sentence):
        distribution_of(*options)


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ("model=odenet",),
            "task=density2d asks for a log density, and model=odenet gives values only. Use model=.*cnf,",
        ),
        (
            ("task=half_moons", "model=cnf"),
            "task=half_moons asks for values, and model=cnf gives a log density and samples only.",
        ),
        (("task.name=9gaussians",), "8gaussians"),
        (("network=mlp", "network.width=1"), "moves the data themselves"),
        (("network=conv",), "network=conv needs images"),
        (
            ("task.conditional=true", "task.name=swissroll"),
            "task.conditional=true needs a distribution with several components",
        ),
        (("task.test=1",), "task.test must be at least 2"),
        (("solver=leapfrog",), "separable"),
        (("solver=implicit_adams", "gradient=adjoint"), "no rule for integrals"),
    ],
    ids=" ".join,
)
def test_what_cannot_mean_anything_is_refused_in_a_sentence(
    words: tuple[str, ...], sentence: str, tmp_path: Path
) -> None:
    ended = typed(*(SMALL if "task=half_moons" in words else PLANE), *words, cwd=tmp_path)
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert re.search(sentence, ended.stderr)
    assert ended.stderr.count("\n") == 1
    assert run_folders(tmp_path) == []


@pytest.mark.slow
def test_a_run_reports_the_fine_solve_the_gap_and_the_mass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ode_runner.tasks.densities.density2d.FRAMES", 4)
    ended = typed(*PLANE, "model.trace=hutchinson", "trainer.animate=true", cwd=tmp_path, pictures=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    metrics = record_of(tmp_path)["metrics"]
    assert metrics["test/nll"] == pytest.approx(metrics["test/nll_fine"], abs=1e-3)
    assert metrics["test/nll_gap"] == pytest.approx(metrics["test/nll_fine"] - 2.8316, abs=1e-3)
    assert metrics["test/mass"] == pytest.approx(1, abs=1e-3)
    assert metrics["test/sw2"] > metrics["test/sw2_floor"] > 0, "hardly trained"
    assert {path.stem for path in tmp_path.rglob("plots/*.png")} == {"curves", "density", "samples"}
    assert [path.stem for path in tmp_path.rglob("plots/*.gif")] == ["samples_in_motion"]
    header, *rows = (run_folder(tmp_path) / "samples.csv").read_text().splitlines()
    assert header == "x_1,x_2,log_prob"
    assert len(rows) == 400
    assert "is not that of the flow" not in ended.stdout + ended.stderr


@pytest.mark.slow
def test_a_conditional_run_has_the_entropy_within_components(tmp_path: Path) -> None:
    ended = typed(*PLANE, "task.conditional=true", "model.trace=hutchinson", cwd=tmp_path, pictures=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    metrics = record_of(tmp_path)["metrics"]
    within = math.log(2 * math.pi * math.e / 8)
    assert within == pytest.approx(0.7587, abs=1e-3)
    assert metrics["test/nll_gap"] == pytest.approx(metrics["test/nll_fine"] - within, abs=1e-6)
    assert metrics["test/mass"] == pytest.approx(1, abs=1e-3)
    assert 0 < metrics["test/right_centre"] < 0.3  # a chance of one in eight
    assert {path.stem for path in tmp_path.rglob("plots/*.png")} == {"curves", "density", "samples"}


def test_steps_that_are_too_long_are_told_of(tmp_path: Path) -> None:
    long = ("solver=euler", "solver.num_steps=1", "optimizer.lr=0.1", "trainer.epochs=20")
    said = typed(*PLANE, *long, cwd=tmp_path).stdout
    metrics = record_of(tmp_path)["metrics"]
    assert abs(metrics["test/nll"] - metrics["test/nll_fine"]) > 0.01
    assert "is not that of the flow" in said
    assert set(record_of(tmp_path)["invalid"]) == {"test/nll", "eval/nll", "test/loss"}
    assert abs(metrics["test/mass"] - 1) > 0.01
    assert "the density has mass" in said
    assert said.count("Use shorter steps (solver.num_steps=...)") == 2, "Euler's method has no tolerance"
    again = typed(*PLANE, *long, cwd=tmp_path).stdout
    assert "already completed" in again
    lines = [line for line in said.splitlines() if "steps are too long" in line or "the density has mass" in line]
    assert [line for line in again.splitlines() if line in lines] == lines, "as the first time"


def test_what_is_measured_of_x_by_alpha_is_not_compared_with_what_is_of_x(tmp_path: Path) -> None:
    words = ("model=exact", "task.name=8gaussians_narrow", "task.path=vp", "solver=rk4", "solver.num_steps=2")
    for end, ends in (("0.3", True), ("0.001", False)):
        told = (*PLANE, *words, "task.clock=rho", f"task.end_time={end}", f"hydra.run.dir={end}")
        said = typed(*told, "pictures=false", cwd=tmp_path).stdout
        measured = record_of(tmp_path / end)["measured_with"]
        assert "test/transport_cost" in measured
        assert ("test/endpoint_rmse" in measured, "are of x / 0.6296" in said) == (ends, ends)
