"""Presets of sweeps: they need no -m, and what is typed besides replaces or adds."""

from pathlib import Path

import pytest

from tests.helpers import TINY, options, run_folder, typed

QUICK = ("trainer=quick", "trainer.max_steps=2", "logger=none", *TINY)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("name", options("grid"))
def test_every_cell_of_a_preset_can_be_run(name: str, tmp_path: Path) -> None:
    ended = typed(f"grid={name}", "plan=true", cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    cells = ended.stdout.splitlines()[:-2]
    assert len(cells) >= 6
    assert all(cell.startswith(("will run ", "same run ")) for cell in cells)
    assert f"outputs/sweeps/{name}-" in ended.stdout
    assert not list(tmp_path.iterdir())


def test_what_is_typed_replaces_or_adds_an_axis(tmp_path: Path) -> None:
    ended = typed("grid=solvers", "solver=rk4", "seed=3,4", "plan=true", cwd=tmp_path)
    assert [line.split()[2:4] for line in ended.stdout.splitlines() if line.startswith("will run")] == [
        [f"solver.num_steps={steps}", f"seed={seed}"] for steps in (2, 4, 16) for seed in (3, 4)
    ]
    assert "outputs/sweeps/solvers-seed-" in ended.stdout


@pytest.mark.slow
def test_a_preset_is_a_sweep_and_its_runs_are_runs(tmp_path: Path) -> None:
    ended = typed("grid=solvers", "solver=rk4", "solver.num_steps=2", "sweep=mine", *QUICK, cwd=tmp_path)
    assert ended.returncode == 0
    assert "sweep of 1 cell," in ended.stdout
    folder = run_folder(tmp_path)
    assert folder.parents[1] == tmp_path / "outputs" / "sweeps" / "mine"
    evaluated = typed(f"evaluate={folder}", "solver=euler", cwd=tmp_path)
    assert evaluated.returncode == 0, "one evaluation, not the sweep again"
    assert len(list(tmp_path.rglob("evaluation.json"))) == 1
