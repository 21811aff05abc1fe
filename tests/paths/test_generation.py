"""The exact field from the command line: endpoint errors, what is refused, and samples that are made again."""

import json
import math
import statistics
from pathlib import Path

import pytest

from ode_runner.solvers.samplers.ddim import Ddim
from tests.helpers import record_of, run_folders, typed

EXACT = ("task=density2d", "task.name=8gaussians_narrow", "model=exact", "logger=none")
SMALL = (*EXACT, "task.train=10", "task.validation=10", "task.test=400", "task.grid=20")


def test_a_sampler_is_put_to_the_exact_field_and_compared_by_another(tmp_path: Path) -> None:
    """The page's value from 5,000 samples, .020, within 25 %; `evaluate=` samples anew from the same noise."""
    ended = typed(*SMALL, "task.path=vp", "solver=dpmpp_2m", "solver.num_steps=16", cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    metrics = record_of(tmp_path)["metrics"]
    assert "samples are far" not in ended.stdout
    assert metrics["test/endpoint_rmse"] == pytest.approx(0.020, rel=0.5)
    assert metrics["test/near_centres"] == pytest.approx(1 - math.exp(-4.5), abs=0.03)
    assert metrics["nfe/sample"] == 16
    [folder] = run_folders(tmp_path)
    again = typed(f"evaluate={folder}", cwd=tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    other = typed(f"evaluate={folder}", "solver=unipc", "solver.num_steps=16", cwd=tmp_path)
    assert other.returncode == 0, other.stdout + other.stderr
    found = {
        content["solver"]["name"]: content["metrics"]["test/endpoint_rmse"]
        for content in (json.loads(path.read_text()) for path in tmp_path.rglob("evaluation.json"))
    }
    assert found["dpmpp_2m"] == metrics["test/endpoint_rmse"], "the same samples, to the bit"
    assert found["unipc"] < found["dpmpp_2m"]


def test_one_step_of_euler_on_the_linear_path_is_the_mean(tmp_path: Path) -> None:
    ended = typed(*SMALL, "solver=euler", "solver.num_steps=1", "task.train=400", cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    metrics = record_of(tmp_path)["metrics"]
    assert metrics["test/endpoint_rmse"] == pytest.approx(2**0.5, rel=0.02)
    assert metrics["test/straightness"] == pytest.approx(1.03, rel=0.1)
    assert metrics["test/near_centres"] == 0
    assert metrics["test/transport_cost"] == pytest.approx(0.379, rel=0.2), "of pairs at random it is 4.02"
    assert "samples are far from the data: test/sw2 is" in ended.stdout


@pytest.mark.slow
def test_the_error_of_the_exact_field_falls_with_steps_and_seeds_are_told_by_mean_and_spread(tmp_path: Path) -> None:
    ended = typed("-m", *SMALL, "solver=heun", "solver.num_steps=4,16", "seed=0,1,2", cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found: dict[int, list[float]] = {4: [], 16: []}
    for folder in run_folders(tmp_path):
        content = json.loads((folder / "record.json").read_text())
        found[content["config"]["solver"]["num_steps"]].append(content["metrics"]["test/endpoint_rmse"])
    assert max(found[16]) < min(found[4]) / 3
    for steps, errors in found.items():
        [row] = [line for line in ended.stdout.splitlines() if line.split()[:2] == [str(steps), "3"]]
        mean, between, spread = row.split()[2:5]
        assert float(mean) == pytest.approx(statistics.mean(errors), abs=6e-4), "never the best of several seeds"
        assert between == "±"
        assert float(spread) == pytest.approx(statistics.stdev(errors), abs=6e-4)


def test_a_noisy_sampler_has_no_endpoint_error(tmp_path: Path) -> None:
    ended = typed(*SMALL, "task.path=vp", "solver=ddpm", "solver.num_steps=8", cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    metrics = record_of(tmp_path)["metrics"]
    assert "test/endpoint_rmse" not in metrics
    assert metrics["nfe/sample"] == 8


def test_samples_that_are_not_finite_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for gain, told in ((1.0, False), (math.nan, True)):
        monkeypatch.setattr(Ddim, "step", lambda self, field, history, after, *, last, gain=gain: gain * history[-1].x)
        cwd = tmp_path / str(gain)
        cwd.mkdir()
        ended = typed(*SMALL, "solver=ddim", "solver.num_steps=2", cwd=cwd)
        assert ended.returncode == 0, ended.stderr
        assert ("test/sw2: unknown, because some samples are not finite." in ended.stdout) is told


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("model=cnf", "task.path=vp"), "model=cnf learns its own field. Leave task.path out."),
        (("task.name=moons",), "Use task=lotka_volterra, pendulum or linear, task=area, task=density2d"),
        (("task.name=moons", "task.path=vp"), "unlike that of moons. Use task.name=8gaussians or"),
        (("task.path=edm",), "task.path=edm is no linear or vp or subvp or ve or cosine or null."),
        (("task.end_time=1",), "samples run from noise, at t = 1, towards data"),
        (("task.path=vp", "task.end_time=0"), "the velocity of the path vp is infinite there. Use 0.001."),
        (("solver=euler_maruyama",), "has infinite noise at t = 1, where alpha is 0. Begin at 0.999"),
        (("model=cnf", "solver=ddim"), "solver=ddim needs the field of a Gaussian path"),
        (("task=pendulum", "solver=euler_maruyama"), "needs a stochastic field"),
    ],
)
def test_what_means_nothing_is_refused(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    task = ("model=exact", "logger=none") if words[0].startswith("task=pendulum") else SMALL
    ended = typed(*task, *words, cwd=tmp_path)
    assert ended.returncode == 2, ended.stdout
    assert said in ended.stderr
    assert run_folders(tmp_path) == []
