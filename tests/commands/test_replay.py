"""A solve that fails leaves what is needed to make it fail again, and to try something else on it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from ode_runner.errors import Diverged
from tests.helpers import TINY, Ended, record_of, run_folder, typed

SMALL = ("task.train=4", "task.validation=2", "task.test=2", "task.points=12", "task.window=5", "logger=none")
STEEP = ("optimizer=sgd", "optimizer.lr=1e6", "optimizer.momentum=0", "trainer.epochs=3", "logger=none", *TINY)
LIMITED = ("solver=dopri5", "solver.max_steps=20")
RUNS = {  # each fails in another place
    "forward": ("solver=dopri5", "solver.max_steps=2", "tolerance=1e-8", "logger=none", *TINY),
    "backward": ("gradient=adjoint", "gradient.rtol=1e-12", "gradient.atol=1e-12", *LIMITED, "logger=none", *TINY),
    "evaluation": (*STEEP, "solver=dopri5", "solver.max_steps=5", "trainer.batch_size=60"),  # a step of two, then seven
    "loss": (*STEEP, "model=resnet", "optimizer.lr=1e38"),
    "test": ("task=lotka_volterra", "model=exact", "solver=euler", "solver.num_steps=1", *SMALL),
}
SLOW = pytest.mark.slow
PLACES = {
    "forward": (True, "at step 1 (epoch 1)", "solver_failed"),
    "backward": (True, "at step 1 (epoch 1)", "solver_failed"),
    "evaluation": (False, "on the validation split", "solver_failed"),
    "loss": (True, "at step 2 (epoch 1)", "diverged"),
    "test": (False, "on the test split", "solver_failed"),
}


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Where each of RUNS was typed and what it said; made when first asked for."""

    class Made(dict[str, tuple[Path, Ended]]):
        def __missing__(self, name: str) -> tuple[Path, Ended]:
            root = tmp_path_factory.mktemp(name)
            self[name] = root, typed(*RUNS[name], cwd=root)
            return self[name]

    return Made()


def replayed(root: Path, *arguments: str) -> tuple[Ended, dict[str, Any]]:
    folder = run_folder(root)
    before = set(folder.glob("replays/*"))
    ended = typed(f"replay={folder.relative_to(root)}", *arguments, cwd=root)
    [new] = set(folder.glob("replays/*")) - before
    return ended, json.loads((new / "replay.json").read_text())


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name == "backward" else SLOW) for name in RUNS])
def test_it_fails_again_in_the_same_words(name: str, failed: Any) -> None:
    root, ended = failed[name]
    assert ended.returncode == 1, ended.stdout + ended.stderr
    record, folder = record_of(root), run_folder(root).relative_to(root)
    crash = torch.load(root / folder / "crash.pt", weights_only=True)
    assert (crash["learning"], crash["where"], record["status"]) == PLACES[name]
    assert record["reason"].endswith(f" To see it again: ode-run replay={folder}")
    assert record["reason"] in ended.stdout
    again, found = replayed(root)
    assert (again.returncode, again.stderr) == (1, "")
    assert "with nothing changed it fails in the same way" in again.stdout
    assert found["failed_with"] == found["fails_with"]
    assert (found["backward"]["evaluations"] > 0) == (name == "backward")
    assert found["failed_with"] in record["reason"] or name == "test", (
        "where it is of all batches, not of the first bad"
    )
    assert record_of(root) == record


def test_other_numerics_may_get_through(failed: Any) -> None:
    root, _ = failed["backward"]
    ended, found = replayed(root, "gradient=adjoint", "gradient.rtol=1e-3", "gradient.atol=1e-3")
    assert (ended.returncode, found["status"]) == (0, "completed")
    assert "with gradient.rtol=0.001 gradient.atol=0.001 it gets through: loss 0." in ended.stdout
    ended, found = replayed(root, "solver=rk4", "solver.num_steps=5", "gradient=symplectic")
    assert (ended.returncode, found["status"]) == (0, "completed")
    assert found["changed"][:3] == ["solver=rk4", "gradient=symplectic", "solver.num_steps=5"]
    assert (found["forward"]["evaluations"], found["backward"]["evaluations"]) == (20, 40)
    assert "20 + 40 evaluations, 5 accepted and 0 rejected steps" in ended.stdout


def test_other_numerics_may_fail_in_another_way(failed: Any) -> None:
    root, _ = failed["forward"]
    ended, found = replayed(root, "solver.max_steps=3")
    assert (ended.returncode, found["status"]) == (1, "solver_failed")
    assert "with solver.max_steps=3 it fails after" in ended.stdout
    assert found["fails_with"].endswith(
        "=3 was reached. Raise it, or, if the problem is stiff, use solver=kvaerno3, which is implicit."
    )


@pytest.mark.slow
def test_several_numerics_are_tried_in_a_sweep(failed: Any) -> None:
    root, _ = failed["evaluation"]
    folder = run_folder(root).relative_to(root)
    ended = typed("-m", f"replay={folder}", "solver=euler,heun", cwd=root)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert len(list((root / folder / "replays").glob("*/replay.json"))) >= 2


def test_the_random_numbers_are_those_of_the_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A latent ODE draws its beginning: of another one the loss would be another."""
    sizes = ("task.train=20", "task.validation=5", "task.test=5", "trainer.batch_size=10", "logger=none")
    monkeypatch.setattr("ode_runner.training.training_pass.check_finite", refuse)
    monkeypatch.setattr("ode_runner.commands.replay.check_finite", refuse)
    assert typed("task=spiral_vae", "solver=euler", "solver.num_steps=1", *sizes, cwd=tmp_path).returncode == 1
    assert "the loss is" in record_of(tmp_path)["reason"]
    assert "it fails in the same way" in replayed(tmp_path)[0].stdout


def refuse(value: float, name: str, where: str) -> None:
    """As if the second step had failed: at the first, random numbers stand where they stand after any beginning."""
    if "at step 2 " in where:
        raise Diverged(f"the {name} is {value} {where}.")


def test_a_run_that_goes_well_after_all_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ("trainer=quick", "trainer.max_steps=2", "logger=none", *TINY)
    with monkeypatch.context() as patched:
        patched.setattr("ode_runner.training.trainer.check_finite", refuse)
        assert typed(*command, cwd=tmp_path).returncode == 1
    assert (run_folder(tmp_path) / "crash.pt").is_file()
    assert typed(*command, cwd=tmp_path).returncode == 0
    assert not (run_folder(tmp_path) / "crash.pt").exists()
    ended = typed(f"replay={run_folder(tmp_path).relative_to(tmp_path)}", cwd=tmp_path)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "holds no crash.pt: replay= is for runs that failed in a solve." in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("model=rknet",), "model=rknet: replay= takes the run as it is"),
        (("solver=alf", "gradient=checkpoint"), "gradient=checkpoint needs a Runge-Kutta or symplectic solver"),
        (("solver.rtoll=3",), "Did you mean 'solver.rtol'?"),
        (("plan=true",), "plan=true is for runs that train"),
    ],
)
def test_what_cannot_be_replayed_is_refused_in_one_line(arguments: tuple[str, ...], words: str, failed: Any) -> None:
    root, _ = failed["forward"]
    before = set(run_folder(root).rglob("*"))
    ended = typed(f"replay={run_folder(root).relative_to(root)}", *arguments, cwd=root)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert words in ended.stderr
    assert {path for path in set(run_folder(root).rglob("*")) - before if path.name != "replays"} == set()


@pytest.mark.slow
def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path) -> None:
    assert typed(*RUNS["forward"], cwd=tmp_path).returncode == 1
    path = run_folder(tmp_path) / "crash.pt"
    path.write_bytes(path.read_bytes()[:500])
    ended = typed(f"replay={path.parent.relative_to(tmp_path)}", cwd=tmp_path)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "crash.pt is damaged" in ended.stderr
