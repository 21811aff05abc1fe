"""Of the steps of a fixed grid, the number or the size: whichever is typed."""

from pathlib import Path

import pytest

from ode_runner.config.exclusive_options import one_of_each
from ode_runner.config.set_options import completed
from tests.helpers import TINY, record_of, run_folder, run_folders, typed

SMALL = ("trainer=quick", "trainer.max_steps=1", "logger=none", *TINY)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["solver.step_size=0.1"], ["solver.step_size=0.1", "solver.num_steps=null"]),
        (["solver.num_steps=5"], ["solver.num_steps=5", "solver.step_size=null"]),
        (["++solver.step_size=0.1"], ["++solver.step_size=0.1", "++solver.num_steps=null"]),
        (["solver.step_size=0.1", "solver.num_steps=null"], None),
        (["solver.step_size=0.1", "solver.num_steps=4"], None),  # for the solver to refuse
        (["solver.step_size=null"], None),
        (["solver.step_size="], None),
        (["solver.step_size=0.1,0.2"], None),  # for the cells of the sweep
        (["solver.step_size=choice(0.1,null)"], None),
        (["~solver.step_size"], None),
        (["-m", "solver=rk4"], None),
    ],
)
def test_one_typed_alone_takes_the_place_of_the_other(words: list[str], expected: list[str] | None) -> None:
    assert one_of_each(words) == (expected or words)


def test_typed_alone_it_is_the_run_of_typing_both(tmp_path: Path) -> None:
    assert typed("solver=rk4", "solver.step_size=0.5", *SMALL, cwd=tmp_path).returncode == 0
    again = typed("solver=rk4", "solver.num_steps=null", "solver.step_size=0.5", *SMALL, cwd=tmp_path)
    assert "already completed" in again.stdout
    options = record_of(tmp_path)["config"]["solver"]
    assert (options["step_size"], options["num_steps"]) == (0.5, None)


def test_in_a_yaml_of_ones_own_the_number_takes_the_place_of_the_size(tmp_path: Path) -> None:
    (tmp_path / "conf" / "solver").mkdir(parents=True)
    own = "_target_: ode_runner.solvers.explicit.euler.Euler\nnum_steps: null\nstep_size: 0.5\n"
    (tmp_path / "conf" / "solver" / "mine.yaml").write_text(own)
    assert typed("-cd", "conf", "solver=mine", "solver.num_steps=3", *SMALL, cwd=tmp_path).returncode == 0
    assert record_of(tmp_path)["config"]["solver"]["step_size"] is None


def test_each_cell_of_a_sweep_for_itself_and_a_preset_too(tmp_path: Path) -> None:
    planned = typed("-m", "solver=rk4", "solver.step_size=null,0.5,0.25", "plan=true", cwd=tmp_path)
    assert (planned.returncode, planned.stdout.count("\n3 will run ")) == (0, 1), planned.stdout
    planned = typed("grid=solvers", "solver=rk4", "solver.step_size=0.5", "plan=true", cwd=tmp_path)
    assert (planned.returncode, planned.stdout.count("\n1 will run ")) == (0, 1), planned.stdout  # of the preset's


def test_what_is_typed_for_a_revisit_replaces_the_runs_own(tmp_path: Path) -> None:
    assert typed("solver=rk4", "solver.num_steps=2", *SMALL, cwd=tmp_path).returncode == 0
    [folder] = run_folders(tmp_path)
    ended = typed(f"evaluate={folder.relative_to(tmp_path)}", "solver.step_size=0.25", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    ("words", "added"),
    [
        (["model=cde", "solver=dopri5"], ["~solver.num_steps"]),
        (["task=chirality", "model=odernn", "solver=lsoda"], ["~solver.num_steps"]),
        (["model=cde", "solver=dopri5", "~solver.num_steps"], []),
        (["model=cde", "solver=rk4"], []),
        (["model=cde", "solver=rk4", "solver.step_size=0.5"], ["solver.num_steps=null"]),
        (["model=cde"], []),
        (["model=cde", "solver=dopri5,rk4"], []),  # each cell of the sweep has one
        (["model=odenet", "solver=dopri5"], []),
        (["model=cde", "solver=nope"], []),
    ],
)
def test_steps_that_a_model_sets_are_none_of_an_adaptive_solver(words: list[str], added: list[str]) -> None:
    assert completed(words) == [*words, *added]


def test_a_model_that_sets_steps_takes_an_adaptive_solver(tmp_path: Path) -> None:
    words = ("task=chirality", "task.points=12", "task.observed=6", "model=cde", "solver=dopri5", *SMALL)
    assert typed(*words, cwd=tmp_path).returncode == 0
    again = typed(f"evaluate={run_folder(tmp_path).relative_to(tmp_path)}", "solver=rk4", cwd=tmp_path)
    assert (again.returncode, again.stderr) == (0, "")


def test_a_solver_without_steps_is_said_to_lack_what_was_typed(tmp_path: Path) -> None:
    """The model has steps for the solver it names: the other option of the pair was refused, which nobody had typed."""
    ended = typed("task=area", "model=cde", "solver=dopri5", "solver.num_steps=3", cwd=tmp_path)
    assert ended.returncode == 2
    assert "no option 'solver.num_steps'." in ended.stderr
    assert "step_size" not in ended.stderr
