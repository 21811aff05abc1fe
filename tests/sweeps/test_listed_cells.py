"""`hydra.sweeper.cells`: a sweep over cells that are listed, for tables that are no product."""

import json
import re
from pathlib import Path

import pytest

from ode_runner.config.swept_options import for_each_cell
from ode_runner.recording.record import RunRecord
from tests.helpers import TINY, run_folders, typed

QUICK = ("trainer=quick", "trainer.max_steps=2", "logger=none", *TINY)
TEXT = 'hydra.sweeper.cells=["solver=euler solver.num_steps=4","solver=rk4 solver.num_steps=1"]'
WORDS = 'hydra.sweeper.cells=[["solver=euler","solver.num_steps=4"],["solver=rk4","solver.num_steps=1"]]'
CELLS = [("euler", 4, 0), ("euler", 4, 1), ("rk4", 1, 0), ("rk4", 1, 1)]
PAGE = (Path(__file__).parents[2] / "docs" / "running.md").read_text(encoding="utf-8")


def cells(root: Path) -> list[tuple[str, int, int]]:
    """Solver, steps and seed of each record."""
    records = [RunRecord.read(folder) for folder in run_folders(root)]
    return sorted((r.choices["solver"], r.config["solver"]["num_steps"], r.seed) for r in records if r is not None)


def planned(stdout: str) -> list[str]:
    return [line.split("  ")[-1].strip() for line in re.findall(r"^will run +(.*?)  ", stdout, re.MULTILINE)]


@pytest.mark.slow
def test_each_listed_cell_is_crossed_with_what_is_typed_besides(tmp_path: Path) -> None:
    assert f"    ode-run -m '{TEXT}' seed=0,1\n" in PAGE
    command = ("-m", TEXT, "seed=0,1", "sweep=mine", *QUICK)
    ended = typed(*command, cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "\n[3/4] solver=rk4 solver.num_steps=1 seed=0    test accuracy " in ended.stdout
    assert cells(tmp_path) == CELLS
    before = {folder: (folder / "record.json").read_bytes() for folder in run_folders(tmp_path)}
    again = typed("-m", WORDS, *command[2:], cwd=tmp_path)
    assert "sweep of 4 cells, " in again.stdout
    assert "4 completed before" in again.stdout
    product = typed("-m", "solver=rk4", "solver.num_steps=1", *command[2:], cwd=tmp_path)
    assert "2 completed before" in product.stdout, "the same runs, whichever way they are asked for"
    assert {folder: (folder / "record.json").read_bytes() for folder in run_folders(tmp_path)} == before
    assert typed(*command, "rerun=all", cwd=tmp_path).stdout.count("  completed in ") == 4


def test_the_preset_of_the_page_lists_cells_and_its_plan_names_them(tmp_path: Path) -> None:
    (tmp_path / "conf" / "grid").mkdir(parents=True)
    [preset] = re.findall(r"^`FOLDER/grid/NAME.yaml`\n```yaml\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE)
    (tmp_path / "conf" / "grid" / "table.yaml").write_text(preset)
    ended = typed("-cd", "conf", "grid=table", "seed=0,1", "plan=true", *QUICK, cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert planned(ended.stdout) == [
        f"solver={solver} solver.num_steps={steps} seed={seed}"
        for solver, steps in (("euler", 8), ("rk4", 2))
        for seed in (0, 1)
    ]
    assert "outputs/sweeps/table-seed-" in ended.stdout
    assert not (tmp_path / "outputs").exists()


def test_cells_that_are_one_run_are_run_once(tmp_path: Path) -> None:
    listed = 'hydra.sweeper.cells=["model=resnet solver=rk4","model=resnet","model=odenet"]'
    ended = typed("-m", listed, "plan=true", *QUICK, cwd=tmp_path)
    assert re.search(r"^same run +model=resnet +as model=resnet solver=rk4$", ended.stdout, re.MULTILINE)
    assert "2 will run, 1 same run" in ended.stdout


def test_an_option_of_steps_alone_replaces_the_other_in_its_cell_only(tmp_path: Path) -> None:
    listed = 'hydra.sweeper.cells=["solver=rk4 solver.step_size=0.5","solver=rk4 solver.num_steps=1"]'
    assert typed("-m", listed, *QUICK, cwd=tmp_path).returncode == 0
    solvers = [json.loads((folder / "record.json").read_text())["config"]["solver"] for folder in run_folders(tmp_path)]
    assert sorted((s["num_steps"], s["step_size"]) for s in solvers if s["num_steps"]) == [(1, None)]
    assert sorted((s["num_steps"], s["step_size"]) for s in solvers if s["step_size"]) == [(None, 0.5)]


@pytest.mark.sampled(6)
@pytest.mark.parametrize(
    ("value", "besides", "said"),
    [
        ("[]", "", "hydra.sweeper.cells=[] is no list of cells. Type 'hydra.sweeper.cells="),
        ("seed", "", "hydra.sweeper.cells=seed is no list of cells."),
        ("[3]", "", "hydra.sweeper.cells: 3 is no cell. Write its options as in "),
        ("[[]]", "", "hydra.sweeper.cells: [] is no cell."),
        ("[[3]]", "", "hydra.sweeper.cells: [3] is no cell."),
        ('[""]', "", "hydra.sweeper.cells: '' is no cell."),
        ("[{seed:1}]", "", "hydra.sweeper.cells: {'seed': 1} is no cell."),
        ('["seed=\'1"]', "", "hydra.sweeper.cells: seed='1: a quotation mark is not closed."),
        ("[solver]", "", "cannot read 'solver'. Type solver=VALUE. Options are typed as key=value"),
        ('["--cfg job"]', "", "cannot read '--cfg'."),
        ('["seed=0","seed=1,2"]', "", "hydra.sweeper.cells: seed=1,2 names several values."),
        ('["seed=range(3)"]', "", "hydra.sweeper.cells: seed=range(3) names several values."),
        ('["seed=0 seed=1"]', "", "hydra.sweeper.cells: seed=0 seed=1 names seed twice."),
        ('["+foo=1"]', "", "hydra.sweeper.cells: +foo=1: write options of a cell as key=value."),
        ('["rerun=all"]', "", "hydra.sweeper.cells: rerun=all: rerun is the same for all cells of a sweep."),
        ('["hydra.sweep.dir=x"]', "", "hydra.sweeper.cells: hydra.sweep.dir=x: hydra is the same for all cells"),
        ('["evaluate=x"]', "", "hydra.sweeper.cells: evaluate=x: evaluate is the same for all cells"),
        ('["solver=nope"]', "", "no solver named 'nope'."),
        ('["solver=rk4.yaml"]', "", "solver=rk4.yaml is another name of solver=rk4. Type that."),
        ('["seed=0","solver.nope=1"]', "", "no option 'solver.nope'."),
        ('["seed=0","seed=1"]', "seed=0", "seed=0 in hydra.sweeper.cells, and seed=0 beside it: seed has one value"),
        ('["solver=rk4"]', "+solver=euler,rk4", "solver=rk4 in hydra.sweeper.cells, and +solver=euler,rk4 beside it"),
    ],
)
def test_what_is_no_cell_is_refused_in_a_line(value: str, besides: str, said: str, tmp_path: Path) -> None:
    ended = typed("-m", f"hydra.sweeper.cells={value}", *filter(None, [besides]), *QUICK, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"ode-run: {said}")
    assert ended.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


SWEPT = ("-m", "plan=true", *QUICK)


@pytest.mark.parametrize("option", ["solver.num_steps=4", "+solver.num_steps=4", "solver.num_steps=choice(4)"])
@pytest.mark.parametrize("swept", ["solver=euler,rk4", 'hydra.sweeper.cells=["solver=euler","solver=rk4"]'])
def test_an_option_that_the_default_choice_lacks_holds_for_all_that_are_swept(
    option: str, swept: str, tmp_path: Path
) -> None:
    planned = typed(*SWEPT, swept, option, cwd=tmp_path).stdout
    assert "2 will run" in planned
    for solver in ("euler", "rk4"):
        assert f"solver={solver} solver.num_steps=4 " in planned


def test_so_it_does_in_a_search_without_m() -> None:
    words = ["search=half_moons", "solver=choice(euler,rk4)", "solver.num_steps=4"]
    assert for_each_cell(words) == [*words[:2], "solver.num_steps=choice(4)"]


def test_so_does_one_of_what_swept_models_choose(tmp_path: Path) -> None:
    planned = typed("-m", "plan=true", "task=pairs", "model=d3pm,masked_diffusion", "network.heads=2", cwd=tmp_path)
    assert "2 will run" in planned.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["solver=euler,dopri5", "solver.num_steps=4"],
            "solver=dopri5 has no option 'solver.num_steps', which is typed for all cells of the sweep. "
            "Sweep it apart.",
        ),
        (
            ["task=area", "model=cde,odenet", "solver.num_steps=choice(4)"],
            "not every cell of the sweep has an option 'solver.num_steps'. Sweep those that have it apart.",
        ),
    ],
)
def test_an_option_that_some_cells_lack_is_refused(words: list[str], said: str, tmp_path: Path) -> None:
    assert typed("-m", *words, cwd=tmp_path).stderr == f"ode-run: {said}\n"


def test_a_search_has_no_listed_cells(tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="needs optuna: pip install 'ode-run[search]'")
    ended = typed("search=half_moons", "grid=equal_work", *QUICK, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        "ode-run: hydra.sweeper.cells lists the cells of a sweep, and a search chooses its own. Leave it out.\n"
    )
