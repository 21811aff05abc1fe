"""plan=true tells what would be run and starts nothing."""

import json
import re
from pathlib import Path

import pytest

from ode_runner.trainer import Trainer
from tests.helpers import TINY, run_folder, typed

QUICK = ("trainer=quick", "trainer.max_steps=2", "logger=none", *TINY)
SWEEP = ("-m", "model=resnet,rknet,odenet,exact", "solver=euler,dopri5", *QUICK)


def lines(stdout: str) -> dict[str, list[str]]:
    """The cells by what is said of them."""
    found: dict[str, list[str]] = {}
    for line in stdout.splitlines():
        said = re.match(r"(will run|resume|done|same run|incompatible|refused|left out)  +(\S.*)", line)
        if said:
            found.setdefault(said[1], []).append(said[2])
    return found


def test_a_sweep_is_planned_cell_by_cell_and_nothing_is_left_behind(tmp_path: Path) -> None:
    ended = typed(*SWEEP, "plan=true", cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert not list(tmp_path.iterdir())
    planned = lines(ended.stdout)
    assert {outlook: len(cells) for outlook, cells in planned.items()} == {
        "will run": 4,
        "same run": 1,
        "incompatible": 3,
    }
    assert planned["same run"] == ["model=resnet solver=dopri5  as model=resnet solver=euler"]
    assert "model=rknet takes a fixed-step explicit Runge-Kutta solver" in planned["incompatible"][0]
    assert "model=exact needs a task whose true field is known" in planned["incompatible"][1], "known once it is built"
    assert all("time unknown" in cell for cell in planned["will run"])
    assert "4 will run, 1 same run, 3 incompatible" in ended.stdout


def test_a_plan_knows_what_is_on_disk_and_leaves_it_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ("-m", "seed=0,1,2", "sweep=mine", *QUICK)
    typed("-m", "seed=0", *command[2:], cwd=tmp_path)
    with monkeypatch.context() as failing:
        failing.setattr(Trainer, "train_step", lambda *positional, **named: 1 / 0)
        typed("-m", "seed=1", *command[2:], cwd=tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    planned = typed(*command, "plan=true", cwd=tmp_path)
    assert planned.returncode == 0
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    cells = lines(planned.stdout)
    assert len(cells["done"]) == 1
    failed, fresh = cells["will run"]
    assert "was failed: ZeroDivisionError" in failed
    assert fresh.startswith("seed=2 ")
    assert len(lines(typed(*command, "rerun=failed", "plan=true", cwd=tmp_path).stdout)["left out"]) == 1
    assert len(lines(typed(*command, "rerun=all", "plan=true", cwd=tmp_path).stdout)["will run"]) == 3


def test_time_is_foretold_from_runs_of_the_same_task_and_model(tmp_path: Path) -> None:
    typed(*QUICK, cwd=tmp_path)
    path = run_folder(tmp_path) / "record.json"
    record = json.loads(path.read_text())
    record["cost"]["wall_seconds"] = 20.0  # for 2 steps
    path.write_text(json.dumps(record))
    longer = ("trainer.max_steps=null", "trainer.epochs=4", "plan=true")  # 4 epochs of 3 steps
    alike = typed(*QUICK, *longer, cwd=tmp_path)
    assert "52 parameters  about 0:02:00" in alike.stdout
    assert "outputs/half_moons/odenet-dopri5-backprop-s0-" in alike.stdout, "where it belongs without plan=true"
    assert "about 0:02:00" in typed(*QUICK, *longer, "solver=rk4", cwd=tmp_path).stdout, "in want of a better one"
    assert "about 0:00:30" in typed(*QUICK, *longer, "trainer.max_seconds=30", cwd=tmp_path).stdout
    assert "time unknown" in typed(*QUICK, *longer, "model=resnet", cwd=tmp_path).stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [("plan=maybe", "plan=maybe is neither true nor false"), ("network.width=0", "network.width must be at least 1")],
)
def test_a_plan_of_what_is_impossible_says_so(words: str, says: str, tmp_path: Path) -> None:
    ended = typed("plan=true", *QUICK, words, cwd=tmp_path)
    assert ended.returncode == 2
    assert says in ended.stdout + ended.stderr
    assert not list(tmp_path.iterdir())


def test_an_interrupted_run_is_planned_to_be_resumed(tmp_path: Path) -> None:
    typed(*QUICK, cwd=tmp_path)
    path = run_folder(tmp_path) / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "running"}))
    [cell] = lines(typed(*QUICK, "plan=true", cwd=tmp_path).stdout)["resume"]
    assert cell.endswith("was broken off")
