"""A sweep runs to its end, whatever its cells come to, and the same command runs only what is missing."""

import json
import os
import re
import signal
from pathlib import Path

import pytest

from ode_runner.training.trainer import Trainer
from tests.helpers import TINY, before_step, ode_run, own_models, run_folder, run_folders, typed

QUICK = ("trainer=quick", "trainer.max_steps=2", "logger=none", *TINY)
COMMAND = ("-m", "model=resnet,rknet,odenet", "solver=euler,dopri5", "task=half_moons", *QUICK)

RAISES = """
from ode_runner.models.base import Model, Numerics

class Raises(Model):
    numerics = Numerics.ANY

    def __init__(self, network):
        super().__init__(network)
        self.field, self.head = network.field(), network.head()

    def evolve(self, y0, ts, integrate):
        raise RuntimeError("not today")
"""


def records(root: Path) -> list[dict]:
    return [json.loads((folder / "record.json").read_text()) for folder in run_folders(root)]


def statuses(root: Path) -> dict[str, str]:
    return {f"{r['choices']['model']} {r['choices']['solver']}": r["status"] for r in records(root)}


def test_a_cell_that_cannot_be_is_recorded_and_costs_the_others_nothing(tmp_path: Path) -> None:
    ended = typed(*COMMAND, cwd=tmp_path)
    assert ended.returncode == 0
    assert statuses(tmp_path) == {
        "resnet -": "completed",  # one run: it uses no solver
        "rknet euler": "completed",
        "rknet dopri5": "incompatible",
        "odenet euler": "completed",
        "odenet dopri5": "completed",
    }
    [refused] = [record for record in records(tmp_path) if record["status"] == "incompatible"]
    assert "model=rknet takes a fixed-step explicit Runge-Kutta solver" in refused["reason"]
    assert f"ode-run: skipped: {refused['reason']}" in ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr
    assert {folder.parents[1] for folder in run_folders(tmp_path)} == {
        tmp_path / "outputs" / "sweeps" / sweep(tmp_path)
    }

    before = {folder: (folder / "record.json").read_bytes() for folder in completed(tmp_path)}
    again = typed(*COMMAND, cwd=tmp_path)
    assert again.returncode == 0
    assert {folder: (folder / "record.json").read_bytes() for folder in completed(tmp_path)} == before
    assert again.stdout.count("already completed") == 4
    assert "4 completed before · 1 the same run as another · 1 incompatible" in again.stdout


def sweep(root: Path) -> str:
    """The name of the only sweep."""
    [folder] = (root / "outputs" / "sweeps").iterdir()
    return folder.name


def completed(root: Path) -> list[Path]:
    return [
        folder for folder, record in zip(run_folders(root), records(root), strict=True)
        if record["status"] == "completed"
    ]  # fmt: skip


def test_a_cell_that_fails_is_recorded_and_the_others_run(tmp_path: Path) -> None:
    own_models(tmp_path, "raising_model", RAISES, "Raises")
    ended = typed("-m", "model=raises,odenet", "-cd", "conf", *QUICK, cwd=tmp_path)
    assert ended.returncode == 1
    assert statuses(tmp_path) == {"raises dopri5": "failed", "odenet dopri5": "completed"}
    at_once, at_the_end = (line for line in ended.stdout.splitlines() if "RuntimeError: not today" in line)
    assert at_once.startswith("[1/2] model=raises  failed: RuntimeError: not today (traceback in ")
    assert at_the_end.startswith("  failed: model=raises: RuntimeError: not today (traceback in ")
    assert "1 failed · 1 completed" in ended.stdout
    [error] = tmp_path.rglob("error.txt")
    assert str(error.relative_to(tmp_path)) in at_the_end
    assert error.parent.name.startswith("raises-")
    assert "Traceback" not in ended.stdout + ended.stderr


def test_a_cell_with_a_bad_value_is_refused_and_the_others_run(tmp_path: Path) -> None:
    ended = typed("-m", "network.width=0,4", "-cd", ".", *QUICK[:3], *TINY[1:], cwd=tmp_path)
    assert ended.returncode == 2
    assert "ode-run: network.width must be at least 1" in ended.stderr
    assert "1 refused · 1 completed" in ended.stdout
    assert [record["status"] for record in records(tmp_path)] == ["completed"], "no report counts it as failed"
    assert len(list(tmp_path.glob("outputs/sweeps/*/half_moons/*"))) == 1


INCOMPATIBLE = "model=rknet takes a fixed-step explicit Runge-Kutta solver; solver=dopri5 is adaptive."


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("processes=999", "seed=0,1"), "processes=999, but there "),
        (("processes=999", "solver=dopri5,rk4", "model=rknet"), "processes=999, but there "),
        (("trainer.epochs=0", "seed=0,1"), "trainer.epochs must be at least 1, not 0."),
        (("trainer.device=gpu", "seed=0,1"), "trainer.device="),
        (("optimizer.lr=-1", "seed=0,1"), "optimizer.lr must be 0 or more, not -1."),
        (("network.width=0,-1",), "network.width must be at least 1, not 0. No other cell can be run either."),
        (("model=rknet", "solver=dopri5", "seed=0,1"), INCOMPATIBLE),
        (("model=exact", "seed=0,1"), "model=exact needs a task whose true field or density is known."),
        (("solver=rk4", "solver.num_steps=0", "seed=0,1"), "solver.num_steps must be at least 1"),
        (("logger=none", "+schedule.nope=1", "seed=0"), "no option 'schedule.nope'."),
    ],
)
def test_what_is_wrong_in_every_cell_is_said_once_and_nothing_is_made(
    words: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    ended = typed("-m", "sweep=mine", "task.train=60", "task.validation=20", "task.test=20", *words, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"ode-run: {said}")
    assert ended.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_cells_that_are_incompatible_each_in_its_own_way_are_recorded(tmp_path: Path) -> None:
    ended = typed("-m", "model=rknet", "solver=dopri5,tsit5", *QUICK, cwd=tmp_path)
    assert (ended.returncode, ended.stderr.count("\n")) == (0, 2)
    assert list(statuses(tmp_path).values()) == ["incompatible"] * 2


def test_a_sweep_that_has_results_is_left_as_it_is_by_what_is_wrong_in_every_cell(tmp_path: Path) -> None:
    command = ("-m", "model=resnet", "sweep=mine", *QUICK)
    typed(*command, "seed=0", cwd=tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    ended = typed(*command, "seed=0,1", "processes=999", cwd=tmp_path)
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_cell_that_cannot_be_made_before_the_sweep_fails_in_it(tmp_path: Path) -> None:
    """Its own code raises, which is no refusal: there is a record, and the traceback."""
    own_models(tmp_path, "raising_early", RAISES.replace("super().__init__(network)", "1 / 0"), "Raises")
    ended = typed("-m", "model=raises", "-cd", "conf", *QUICK, cwd=tmp_path)
    assert ended.returncode == 1
    assert "  failed: model=raises" in ended.stdout or "1 failed" in ended.stdout
    assert list(statuses(tmp_path).values()) == ["failed"]


@pytest.mark.slow
def test_the_folder_is_named_after_what_is_swept_or_as_one_likes(tmp_path: Path) -> None:
    typed("-m", "seed=0,1", "model=resnet", *QUICK, cwd=tmp_path)
    assert sweep(tmp_path).startswith("seed-")
    assert len(run_folders(tmp_path)) == 2
    typed("-m", "seed=0", "model=resnet", "sweep=mine", *QUICK, cwd=tmp_path)
    assert len(run_folders(tmp_path / "outputs" / "sweeps" / "mine")) == 1


def test_cells_that_are_the_same_run_are_run_once_and_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = typed("-m", "model=resnet", "solver=euler,rk4,dopri5", "gradient=backprop,adjoint", *QUICK, cwd=tmp_path)
    assert ended.returncode == 0
    assert ended.stdout.count(": same run as solver=euler gradient=backprop\n") == 5
    assert ended.stdout.count("  completed in ") == 1, "run once"
    assert "sweep of 6 cells" in ended.stdout
    assert "5 the same run as another" in ended.stdout
    [folder] = (path.parent for path in tmp_path.rglob(".hydra"))
    assert folder == run_folder(tmp_path)
    monkeypatch.setattr(Trainer, "train_step", fail)
    ended = typed("-m", "model=resnet", "solver=euler,rk4,dopri5", "rerun=all", *QUICK, cwd=tmp_path)
    assert ended.returncode == 1
    assert "1 failed · 2 the same run as another" in ended.stdout


@pytest.mark.slow
def test_the_true_field_is_solved_once_whatever_the_gradient_mode(tmp_path: Path) -> None:
    command = ("model=exact", "task=lotka_volterra", "logger=none", "solver=euler", "task.train=4", "task.validation=4")
    ended = typed("-m", "gradient=backprop,adjoint", *command, "task.test=4", cwd=tmp_path)
    assert ended.returncode == 0
    assert "gradient=adjoint: same run as gradient=backprop" in ended.stdout
    assert len(run_folders(tmp_path)) == 1


@pytest.mark.slow
def test_a_broken_off_sweep_says_what_it_came_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before_step(monkeypatch, 2, lambda: signal.raise_signal(signal.SIGTERM))
    ended = typed("-m", "seed=0,1,2", "model=resnet", *QUICK, cwd=tmp_path)
    assert ended.returncode == 130
    assert "sweep of 3 cells" in ended.stdout
    assert "3 not finished" in ended.stdout
    assert "the same command continues where this one ended" in ended.stdout
    assert f"ode-report outputs/sweeps/{sweep(tmp_path)}" in ended.stdout
    monkeypatch.undo()
    again = typed("-m", "seed=0,1,2", "model=resnet", *QUICK, cwd=tmp_path)
    assert again.returncode == 0
    assert "resuming at step 2" in again.stdout
    assert len(completed(tmp_path)) == 3


def fail(*positional: object, **named: object) -> None:
    raise RuntimeError("bang")


@pytest.mark.slow
def test_rerun_says_which_of_the_runs_on_disk_are_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three seeds the first is completed, the second failed, the third was never begun."""
    fields = ("model=resnet", "sweep=mine", *QUICK)
    typed("-m", "seed=0", *fields, cwd=tmp_path)
    with monkeypatch.context() as failing:
        failing.setattr(Trainer, "train_step", fail)
        typed("-m", "seed=1", *fields, cwd=tmp_path)
    [first] = completed(tmp_path)
    before = (first / "record.json").read_bytes()
    for rerun, ran, numbers in (
        ("failed", 1, "1 completed before · 1 completed · 1 left out"),
        ("missing", 1, "2 completed before · 1 completed"),
        ("false", 0, "3 completed before"),
    ):
        ended = typed("-m", "seed=0,1,2", f"rerun={rerun}", *fields, cwd=tmp_path)
        assert ended.returncode == 0
        assert ended.stdout.count("completed in ") == ran, rerun
        assert numbers in ended.stdout
        assert (first / "record.json").read_bytes() == before
    assert not list(tmp_path.rglob("error.txt"))
    ended = typed("-m", "seed=0,1,2", "rerun=all", *fields, cwd=tmp_path)
    assert ended.stdout.count("completed in ") == 3
    assert "resuming" not in ended.stdout


@pytest.mark.slow
def test_the_same_cells_in_another_order_are_the_same_runs(tmp_path: Path) -> None:
    typed("-m", "seed=0,1", "model=resnet", "sweep=mine", *QUICK, cwd=tmp_path)
    again = typed("-m", "sweep=mine", "model=resnet", "seed=1,0,1", *QUICK, cwd=tmp_path)
    assert again.stdout.count("already completed") == 2
    assert again.stdout.count("seed=1: same run as seed=1") == 1
    assert len(run_folders(tmp_path)) == 2


def test_one_name_that_does_not_exist_stops_a_sweep_before_its_first_run(tmp_path: Path) -> None:
    ended = typed("-m", "model=resnet,odnet", *QUICK, cwd=tmp_path)
    assert ended.returncode == 2
    assert "no model named 'odnet'" in ended.stderr
    assert not list(tmp_path.glob("outputs/*"))


def test_a_refused_sweep_leaves_an_earlier_one_of_its_name(tmp_path: Path) -> None:
    typed("-m", "seed=0", "model=resnet", "sweep=mine", *QUICK, cwd=tmp_path)
    before = run_folders(tmp_path)
    for name in ("mine", "other"):
        assert typed("-m", "model=resnet,odnet", f"sweep={name}", *QUICK, cwd=tmp_path).returncode == 2
    assert run_folders(tmp_path) == before
    assert sweep(tmp_path) == "mine"


@pytest.mark.slow
def test_the_installed_program_sweeps_alike(tmp_path: Path) -> None:
    models = "model=resnet,rknet,odenet,augmented"
    finished = ode_run("-m", models, "solver=euler,dopri5", "task=half_moons", "trainer=quick", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    ended = statuses(tmp_path)
    assert ended.pop("rknet dopri5") == "incompatible"
    assert list(ended.values()) == ["completed"] * 6
    assert finished.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.timeout(1200)  # minutes where the machine is shared
def test_two_hundred_runs_leave_neither_memory_nor_files_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked at in the first step of every run, when caches are warm and the folder's own files are open."""
    files, pages = [], []

    def look() -> None:
        files.append(len(os.listdir("/proc/self/fd")))
        pages.append(int(Path("/proc/self/statm").read_text().split()[1]))

    before_step(monkeypatch, 1, look)
    tiny = ("model=resnet", "trainer=quick", "trainer.max_steps=1", *TINY)
    ended = typed("-m", "seed=range(200)", *tiny, cwd=tmp_path)
    assert ended.returncode == 0
    assert "200 completed" in ended.stdout
    assert len(files) == 200
    assert max(files[20:]) <= files[20] + 5  # a thread of TensorBoard's may be writing; one file a run would be 180
    grown = (pages[-1] - pages[20]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    assert grown < 20, "MB over 180 runs"


@pytest.fixture
def presets(tmp_path: Path) -> Path:
    """A folder with a preset that can be composed, and two that cannot."""
    (folder := tmp_path / "conf" / "experiment").mkdir(parents=True)
    head = "# @package _global_\ntrainer: {epochs: 1}\n"
    for name, rest in (("good", ""), ("torn", "task: {noise: 0.1\n"), ("lost", "defaults:\n- override /task: lost\n")):
        (folder / f"{name}.yaml").write_text(head + rest)
    return tmp_path


def test_a_preset_that_cannot_be_composed_is_told_of_in_the_plan(presets: Path) -> None:
    words = ("-cd", "conf", "-m", "plan=true")
    said = typed(*words, "experiment=good,torn,lost", "task.train=20", cwd=presets).stdout
    assert re.search(r"^will run +experiment=good .*\nrefused +experiment=torn +cannot read .*, line 4", said)
    assert "refused       experiment=lost  no task named 'lost'" in said
    assert "1 will run, 2 refused" in said
    for others in ("torn,lost", "good,nowhere"):
        refused = typed(*words, f"experiment={others}", cwd=presets)
        assert (refused.returncode, refused.stderr.count("\n"), refused.stdout) == (2, 1, "")


@pytest.mark.slow
def test_a_preset_that_cannot_be_composed_costs_the_others_nothing(presets: Path) -> None:
    ended = typed("-cd", "conf", "-m", "logger=none", "task.train=20", "experiment=good,torn,lost", cwd=presets)
    for name in ("torn", "lost"):
        assert f"ode-run: skipped: experiment={name}: " in ended.stderr
        assert f"  refused: experiment={name}: " in ended.stdout
    assert "sweep of 3 cells" in ended.stdout
    assert "1 completed · 2 refused" in ended.stdout
    assert ended.returncode == 2
