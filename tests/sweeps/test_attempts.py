"""A cell that ends the process it runs in, as the out-of-memory killer does, does not keep its sweep from going on."""

import json
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher

from ode_runner.config.exit_codes import JobResult
from ode_runner.recording.attempts import FILE, aborted_attempts, attempt
from ode_runner.recording.lock import in_use, lock
from ode_runner.sweeps.dispatch import Dispatch
from ode_runner.sweeps.job_results import result_of
from ode_runner.sweeps.sweep_cell import SweepCell
from tests.helpers import TINY, ode_run, own_models, run_folders, started, typed

QUICK = ("trainer=quick", "trainer.max_steps=2", "logger=none", *TINY)
SWEEP = ("-m", "seed=0,1,2", "model=resnet", "sweep=mine", *QUICK)
DYING = """
import os
import signal
from ode_runner.models.depth.odenet import ODENet

class Dies(ODENet):
    def __init__(self, network, *, how):
        super().__init__(network)
        self.how = how
        if how == "early":  # before there is a record
            os._exit(3)

    def evolve(self, y0, ts, integrate):
        if self.how == "late":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "as if all were well":
            os._exit(0)
        if self.how == "once" and not os.path.exists("died"):
            open("died", "w").close()
            os._exit(3)
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
        self.apart: list[str] = []  # of these, those in a process of their own
        self.first: Callable[[], object] = lambda: None  # happens while it has the first

    def launch(self, cells: list[list[str]], initial_job_idx: int) -> list[JobReturn]:
        if not self.seeds:
            self.first()
        self.seeds += [word for cell in cells for word in cell if word.startswith("seed=")]
        return [JobReturn(_return_value=(0, "completed"), status=JobStatus.COMPLETED) for _ in cells]

    def run_apart(self, launcher: Launcher, overrides: list[str], number: int) -> JobResult | int:
        self.apart += [word for word in overrides if word.startswith("seed=")]
        [job] = self.launch([overrides], initial_job_idx=number)
        return result_of(job)


@pytest.fixture
def launcher(monkeypatch: pytest.MonkeyPatch) -> Noting:
    """In place of Hydra's."""
    noting = Noting()
    monkeypatch.setattr(Plugins, "instantiate_launcher", lambda self, **about: noting)
    monkeypatch.setattr("ode_runner.sweeps.dispatch.run_in_own_process", noting.run_apart)
    return noting


def statuses(root: Path) -> list[str]:
    return [json.loads((folder / "record.json").read_text())["status"] for folder in run_folders(root)]


def test_only_a_process_that_ended_leaves_a_trace(tmp_path: Path) -> None:
    with lock(tmp_path):
        with suppress(KeyboardInterrupt), attempt(tmp_path, anew=False):
            assert (tmp_path / FILE).is_file()
            assert aborted_attempts(tmp_path) == 0, "it is at work"
            raise KeyboardInterrupt
        assert not (tmp_path / FILE).exists()
    assert aborted_attempts(tmp_path) == 0


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
    assert aborted_attempts(tmp_path) == count


def test_cells_never_begun_come_first(three: list[Path], launcher: Noting, tmp_path: Path) -> None:
    shutil.rmtree(three[2])
    for folder in three[:2]:
        kill(folder)
    (three[1] / "record.json").unlink()  # it died before there was one
    typed(*SWEEP, cwd=tmp_path)
    assert launcher.seeds == ["seed=2", "seed=0", "seed=1"]
    assert launcher.apart == ["seed=0", "seed=1"]
    launcher.seeds.clear()
    typed(*SWEEP, "rerun=failed", cwd=tmp_path)
    assert launcher.seeds == ["seed=0", "seed=1"]
    launcher.seeds.clear()
    (three[1] / FILE).unlink()
    typed(*SWEEP, "rerun=all", cwd=tmp_path)
    assert launcher.seeds == ["seed=1", "seed=2", "seed=0"], "nothing was begun, but one that ended its process"


@pytest.mark.slow
def test_a_cell_that_ended_twice_is_passed_over(three: list[Path], launcher: Noting, tmp_path: Path) -> None:
    kill(three[0], times=2)
    planned = typed(*SWEEP, "plan=true", cwd=tmp_path).stdout
    assert planned.startswith("passed over   seed=0  its process ended 2 times during it")
    assert statuses(tmp_path) == ["running", "completed", "completed"], "planned only"
    for _ in range(2):
        ended = typed(*SWEEP, cwd=tmp_path)
        assert (ended.returncode, launcher.seeds) == (1, [])
        assert "passed over: seed=0: its process ended 2 times during it" in ended.stdout
        assert "1 failed · 2 completed before" in ended.stdout
        assert statuses(tmp_path) == ["failed", "completed", "completed"]
    typed(*SWEEP, "rerun=failed", cwd=tmp_path)
    assert launcher.seeds == ["seed=0"]


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("code", "words"),
    [
        (-9, "SIGKILL: perhaps for lack of memory"),
        (-11, "SIGSEGV"),
        (-1000, "signal 1000"),
        (0, "exit code 0"),
        (3, "exit code 3"),
    ],
)
def test_the_second_end_of_a_process_is_recorded_with_its_cause_and_the_sweep_goes_on(
    code: int, words: str, three: list[Path], launcher: Noting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in three[:2]:
        kill(folder)

    def end(launcher: Launcher, overrides: list[str], number: int) -> int:
        kill(three[int(next(word for word in overrides if word.startswith("seed="))[-1])], times=2)
        return code

    monkeypatch.setattr("ode_runner.sweeps.dispatch.run_in_own_process", end)
    ended = typed(*SWEEP, cwd=tmp_path)
    assert ended.returncode == 1
    assert ended.stderr == f"ode-run: a process ended during its cell ({words})\n" * 2
    assert statuses(tmp_path) == ["failed", "failed", "completed"]
    reason = f"its process ended 2 times during it ({words}); rerun=failed tries it again"
    assert json.loads((three[0] / "record.json").read_text())["reason"] == reason
    assert f"  failed: seed=1: {reason}" in ended.stdout


def test_a_cell_that_has_saved_something_since_is_tried_again(
    three: list[Path], launcher: Noting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill(three[0])

    def save_and_end(launcher: Launcher, overrides: list[str], number: int) -> int:
        kill(three[0], times=1)
        return -9

    monkeypatch.setattr("ode_runner.sweeps.dispatch.run_in_own_process", save_and_end)
    ended = typed(*SWEEP, cwd=tmp_path)
    assert ended.returncode == 1
    assert "  failed: seed=0: its process ended during it (SIGKILL: perhaps for lack of memory" in ended.stdout
    assert statuses(tmp_path) == ["running", "completed", "completed"]
    monkeypatch.setattr("ode_runner.sweeps.dispatch.run_in_own_process", launcher.run_apart)
    typed(*SWEEP, cwd=tmp_path)
    assert launcher.apart == ["seed=0"]


def test_what_cannot_be_sent_to_another_process_costs_the_other_cells_nothing(
    three: list[Path], launcher: Noting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill(three[0])
    (three[1] / "record.json").unlink()
    monkeypatch.setattr("ode_runner.sweeps.dispatch.run_in_own_process", lambda *about: 1 / 0)
    ended = typed(*SWEEP, cwd=tmp_path)
    assert (ended.returncode, launcher.seeds) == (1, ["seed=1"])
    assert "  failed: seed=0: ZeroDivisionError: division by zero" in ended.stdout


def test_a_rerun_counts_anew(three: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def in_this_process(launcher: Launcher, overrides: list[str], number: int) -> JobResult:
        return result_of(launcher.launch([overrides], initial_job_idx=number)[0])

    monkeypatch.setattr("ode_runner.sweeps.dispatch.run_in_own_process", in_this_process)
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


@pytest.mark.slow
@pytest.mark.sampled(1)
@pytest.mark.parametrize(("times", "ran"), [(1, [1, 2, 0]), (2, [1, 2])])
def test_a_search_goes_on_past_a_trial_that_ends_its_process(
    times: int, ran: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna", reason="needs optuna: pip install 'ode-run[search]'")
    tried: list[str] = []

    def launch(self: Dispatch, cells: list[SweepCell], start: int) -> None:
        tried.extend(cell.name.partition(":")[0] for cell in cells)
        if len(tried) == 1:
            cells[0].folder.mkdir(parents=True)
            kill(cells[0].folder, times=times)
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
def test_a_run_in_a_process_of_its_own_is_the_same_run(tmp_path: Path) -> None:
    own_models(tmp_path, "dying", DYING, "Dies")
    command = ("-cd", "conf", "-m", "model=dies", "+model.how=once", *QUICK)
    assert ode_run(*command, cwd=tmp_path).returncode == 3
    ended = ode_run(*command, cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "outputs/sweeps/" in ended.stdout.partition("\ncompleted in ")[0], "where it belongs"
    [apart] = [json.loads((folder / "record.json").read_text()) for folder in run_folders(tmp_path)]
    assert ode_run(*command, "output_dir=elsewhere", cwd=tmp_path).returncode == 0
    [here] = [json.loads((folder / "record.json").read_text()) for folder in run_folders(tmp_path / "elsewhere")]
    assert apart["metrics"] == here["metrics"]
    assert apart["config_dirs"] == here["config_dirs"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "status"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 130, "interrupted"), (signal.SIGKILL, -9, "running")],
)
def test_a_run_in_a_process_of_its_own_ends_with_the_driver(
    number: signal.Signals, code: int, status: str, tmp_path: Path
) -> None:
    command = ("-m", "model=resnet", "sweep=mine", "trainer.epochs=100000", "logger=none", *TINY)
    driver = started(*command, cwd=tmp_path)
    wait(lambda: run_folders(tmp_path) and (run_folders(tmp_path)[0] / "metrics.jsonl").is_file())
    [folder] = run_folders(tmp_path)
    driver.kill()
    driver.communicate()
    assert aborted_attempts(folder) == 1
    driver = started(*command, cwd=tmp_path)
    wait(lambda: in_use(folder) and (folder / "checkpoints" / "last.pt").is_file())
    driver.send_signal(number)
    said, _ = driver.communicate(timeout=30)
    assert driver.returncode == code, said
    assert "Traceback" not in said
    wait(lambda: not in_use(folder), seconds=10)
    assert statuses(tmp_path) == [status]


def wait(happened: Callable[[], object], *, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["early", "late", "as if all were well"])
def test_the_same_command_thrice_completes_all_that_can_complete(how: str, tmp_path: Path) -> None:
    own_models(tmp_path, "dying", DYING, "Dies")
    command = ("-cd", "conf", "-m", "model=dies", f"+model.how='{how}',not", "seed=0,1", "sweep=mine", *QUICK)
    codes = [ode_run(*command, cwd=tmp_path).returncode for _ in range(5)]
    assert (codes[0], codes[-1]) == ({"early": 3, "late": -9}.get(how, 0), 1)
    assert sorted(statuses(tmp_path)) == ["completed"] * 2 + ["failed"] * 2


@pytest.mark.slow
def test_of_cells_at_the_same_time_only_the_one_at_fault_is_passed_over(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="needs hydra-joblib-launcher")
    own_models(tmp_path, "dying", DYING, "Dies")
    command = ("-cd", "conf", "-m", "model=dies", "+model.how=late,not", "seed=0,1", "sweep=mine", *QUICK)
    finished = ode_run(*command, "hydra/launcher=local", cwd=tmp_path)
    assert finished.returncode == 1
    assert "2 failed · 2 completed" in finished.stdout
    assert finished.stdout.count("2 times during it (SIGKILL: perhaps for lack of memory)") == 2
    assert "Traceback" not in finished.stdout + finished.stderr
