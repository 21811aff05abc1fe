"""A cell that ends the process it runs in, as the out-of-memory killer does, does not keep its sweep from going on."""

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus

from ode_runner.attempts import FILE, attempt, endings
from ode_runner.lock import lock
from ode_runner.sweeps.dispatch import Dispatch
from ode_runner.sweeps.point import Point
from tests.helpers import TINY, ode_run, own_models, run_folders, typed

QUICK = ("trainer=quick", "trainer.max_steps=2", "logger=none", *TINY)
SWEEP = ("-m", "seed=0,1,2", "model=resnet", "sweep=mine", *QUICK)
DYING = """
import os
import signal
from ode_runner.models.odenet import ODENet

class Dies(ODENet):
    def __init__(self, network, *, how):
        super().__init__(network)
        self.how = how
        if how == "early":  # before there is a record
            os._exit(3)

    def evolve(self, y0, ts, integrate):
        if self.how == "late":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().evolve(y0, ts, integrate)
"""


def kill(folder: Path, *, times: int = 1) -> None:
    """Leave a run as if its process had been killed, the last times with nothing saved in between."""
    checkpoint = folder / "checkpoints" / "last.pt"
    saved = checkpoint.stat().st_mtime_ns if checkpoint.is_file() else 0
    (folder / FILE).write_text(json.dumps({"endings": times - 1, "saved": saved}))
    if (record := folder / "record.json").is_file():
        record.write_text(json.dumps(json.loads(record.read_text()) | {"status": "running"}))


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the sweep has completed."""
    root = tmp_path_factory.mktemp("swept")
    assert typed(*SWEEP, cwd=root).returncode == 0
    return root


@pytest.fixture
def three(swept: Path, tmp_path: Path) -> list[Path]:
    """Its run folders, each test's own, in the order of their seeds."""
    shutil.copytree(swept, tmp_path, dirs_exist_ok=True)
    return run_folders(tmp_path)


class Noting:
    """A launcher that runs nothing."""

    def __init__(self) -> None:
        self.seeds: list[str] = []  # of the cells that it is given
        self.first: Callable[[], object] = lambda: None  # happens while it has the first

    def launch(self, cells: list[list[str]], initial_job_idx: int) -> list[JobReturn]:
        if not self.seeds:
            self.first()
        self.seeds += [word for cell in cells for word in cell if word.startswith("seed=")]
        return [JobReturn(_return_value=(0, "completed"), status=JobStatus.COMPLETED) for _ in cells]


@pytest.fixture
def launcher(monkeypatch: pytest.MonkeyPatch) -> Noting:
    """In place of Hydra's."""
    noting = Noting()
    monkeypatch.setattr(Plugins, "instantiate_launcher", lambda self, **about: noting)
    return noting


def statuses(root: Path) -> list[str]:
    return [json.loads((folder / "record.json").read_text())["status"] for folder in run_folders(root)]


def test_only_a_process_that_ended_leaves_a_trace(tmp_path: Path) -> None:
    with lock(tmp_path):
        with suppress(KeyboardInterrupt), attempt(tmp_path, anew=False):
            assert (tmp_path / FILE).is_file()
            assert endings(tmp_path) == 0, "it is at work"
            raise KeyboardInterrupt
        assert not (tmp_path / FILE).exists()
    assert endings(tmp_path) == 0


@pytest.mark.parametrize(
    ("between", "count"),
    [
        (lambda folder: None, 3),
        (lambda folder: (folder / "checkpoints" / "last.pt").write_text("progress"), 1),
        (lambda folder: (folder / FILE).write_text('{"endings": '), 1),
        (lambda folder: (folder / FILE).write_text('["endings"]'), 1),
        (lambda folder: (folder / FILE).write_text('{"endings": null, "saved": 0}'), 1),
    ],
)
def test_what_has_saved_its_progress_begins_to_count_anew(
    between: Callable[[Path], object], count: int, tmp_path: Path
) -> None:
    (tmp_path / "checkpoints").mkdir()
    kill(tmp_path, times=3)
    between(tmp_path)
    assert endings(tmp_path) == count


def test_cells_never_begun_come_first(three: list[Path], launcher: Noting, tmp_path: Path) -> None:
    shutil.rmtree(three[2])
    for folder in three[:2]:
        kill(folder)
    (three[1] / "record.json").unlink()  # it died before there was one
    typed(*SWEEP, cwd=tmp_path)
    assert launcher.seeds == ["seed=2", "seed=0", "seed=1"]
    launcher.seeds.clear()
    typed(*SWEEP, "rerun=failed", cwd=tmp_path)
    assert launcher.seeds == ["seed=0", "seed=1"]
    launcher.seeds.clear()
    (three[1] / FILE).unlink()
    typed(*SWEEP, "rerun=all", cwd=tmp_path)
    assert launcher.seeds == ["seed=1", "seed=2", "seed=0"], "nothing was begun, but one that ended its process"


def test_a_cell_that_ended_twice_is_passed_over(three: list[Path], launcher: Noting, tmp_path: Path) -> None:
    kill(three[0], times=2)
    planned = typed(*SWEEP, "plan=true", cwd=tmp_path).stdout
    assert planned.startswith("passed over   seed=0  its process ended 2 times in the midst of it")
    assert statuses(tmp_path) == ["running", "completed", "completed"], "planned only"
    for _ in range(2):
        ended = typed(*SWEEP, cwd=tmp_path)
        assert (ended.returncode, launcher.seeds) == (1, [])
        assert "passed over: seed=0: its process ended 2 times in the midst of it" in ended.stdout
        assert "1 failed · 2 completed before" in ended.stdout
        assert statuses(tmp_path) == ["failed", "completed", "completed"]
    typed(*SWEEP, "rerun=failed", cwd=tmp_path)
    assert launcher.seeds == ["seed=0"]


def test_a_rerun_counts_anew(three: list[Path], tmp_path: Path) -> None:
    kill(three[0], times=5)
    assert typed("-m", "seed=0", *SWEEP[2:], "rerun=all", cwd=tmp_path).returncode == 0
    assert not (three[0] / FILE).exists()
    assert statuses(tmp_path) == ["completed"] * 3


def test_a_cell_in_which_another_driver_ends_waits_until_the_last(
    three: list[Path], launcher: Noting, tmp_path: Path
) -> None:
    for folder in three:
        shutil.rmtree(folder)

    def meanwhile() -> None:
        three[1].mkdir()
        kill(three[1])

    launcher.first = meanwhile
    typed(*SWEEP, cwd=tmp_path)
    assert launcher.seeds == ["seed=0", "seed=2", "seed=1"]


@pytest.mark.parametrize(("times", "ran"), [(1, [1, 2, 0]), (2, [1, 2])])
def test_a_search_goes_on_past_a_trial_that_ends_its_process(
    times: int, ran: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna", reason="needs optuna: pip install 'ode-run[search]'")
    tried: list[str] = []

    def launch(self: Dispatch, points: list[Point], start: int) -> None:
        tried.extend(point.name.partition(":")[0] for point in points)
        if len(tried) == 1:
            points[0].folder.mkdir(parents=True)
            kill(points[0].folder, times=times)
            raise KeyboardInterrupt

    monkeypatch.setattr(Dispatch, "_launch", launch)
    search = (
        "-m",
        "hydra/sweeper=search",
        "optimizer.lr=interval(0.1,1)",
        "sweep=mine",
        "hydra.sweeper.trials=3",
        *QUICK,
    )
    assert typed(*search, cwd=tmp_path).returncode == 130
    ended = typed(*search, cwd=tmp_path)
    assert tried[1:] == [f"trial {number}" for number in ran]
    assert ("passed over: trial 0" in ended.stdout) == (times == 2)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["early", "late"])
def test_the_same_command_thrice_completes_all_that_can_complete(how: str, tmp_path: Path) -> None:
    own_models(tmp_path, "dying", DYING, "Dies")
    command = ("-cd", "conf", "-m", "model=dies", f"+model.how={how},not", "seed=0,1", "sweep=mine", *QUICK)
    codes = [ode_run(*command, cwd=tmp_path).returncode for _ in range(5)]
    assert (codes[0], codes[-1]) == (3 if how == "early" else -9, 1)
    assert sorted(statuses(tmp_path)) == ["completed"] * 2 + ["failed"] * 2


@pytest.mark.slow
def test_of_cells_at_the_same_time_only_the_one_at_fault_is_passed_over(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="needs hydra-joblib-launcher")
    own_models(tmp_path, "dying", DYING, "Dies")
    command = ("-cd", "conf", "-m", "model=dies", "+model.how=late,not", "seed=0,1", "sweep=mine", *QUICK)
    finished = ode_run(*command, "hydra/launcher=local", cwd=tmp_path)
    assert finished.returncode == 1
    assert "2 failed · 2 completed" in finished.stdout
    assert finished.stdout.count("2 times in the midst of it (SIGKILL)") == 2
    assert "Traceback" not in finished.stdout + finished.stderr
