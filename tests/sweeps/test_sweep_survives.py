"""A sweep that is killed, stopped or shared between processes comes to what an undisturbed one comes to."""

import json
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ode_runner.recording.lock import lock
from ode_runner.recording.unbegun import never_begun
from tests.helpers import TINY, before_step, own_models, run_folders, started, typed

CELLS = ("-m", "seed=0,1,2", "model=odenet,resnet", "sweep=mine")
LONGER = ("trainer.epochs=30", "trainer.log_every=4", "trainer.save_every_seconds=0", "logger=none", *TINY)
FAILING = """
from ode_runner.models.depth.odenet import ODENet

class Raises(ODENet):
    def evolve(self, y0, ts, integrate):
        raise RuntimeError("not today")
"""


class Driver:
    """An `ode-run` process with its own lines of output."""

    def __init__(self, *command: str, cwd: Path) -> None:
        self.root = cwd
        self.process = started(*command, cwd=cwd)

    def wait_for(self, completed: int, running: int) -> None:
        """Until so many runs are completed, and so many others have logged a step."""
        while self.process.poll() is None:
            statuses = list(records(self.root).values())
            begun = len(list(self.root.rglob("metrics.jsonl")))
            if statuses.count("completed") >= completed and begun >= completed + running:
                return
            time.sleep(0.002)
        raise AssertionError(self.ended())

    def ended(self) -> tuple[int, str]:
        said, _ = self.process.communicate(timeout=200)
        return self.process.returncode, said


def records(root: Path) -> dict[str, str]:
    """Status by run folder."""
    return {
        folder.name: json.loads((folder / "record.json").read_text())["status"]
        for folder in run_folders(root)
        if (folder / "record.json").exists()
    }


def results(root: Path) -> dict[str, Any]:
    """What each run came to, by its folder: no clock has a say in it."""
    found = {}
    for folder in run_folders(root):
        record = json.loads((folder / "record.json").read_text())
        found[folder.name] = (record["status"], record["metrics"], record["cost"].get("steps"))
    return found


def completed(root: Path) -> dict[Path, bytes]:
    """The records of completed runs."""
    contents = {folder: (folder / "record.json").read_bytes() for folder in run_folders(root)}
    return {folder: content for folder, content in contents.items() if json.loads(content)["status"] == "completed"}


def with_a_failing_model(root: Path) -> tuple[str, ...]:
    """A command with a cell that raises and one that diverges, besides those that complete."""
    own_models(root, "failing", FAILING, "Raises")
    return ("-cd", "conf", "-m", "model=odenet,raises,resnet", "optimizer.lr=1e30,0.01,0.02", "sweep=mine", *LONGER)


@pytest.mark.slow
def test_a_sweep_killed_and_stopped_comes_to_the_same(tmp_path: Path) -> None:
    disturbed, undisturbed = tmp_path / "disturbed", tmp_path / "undisturbed"
    command = with_a_failing_model(disturbed)
    code, said = Driver(*with_a_failing_model(undisturbed), cwd=undisturbed).ended()
    assert code == 1
    expected = results(undisturbed)
    statuses = [status for status, *_ in expected.values()]
    assert (statuses.count("completed"), statuses.count("failed")) == (4, 3)
    assert statuses.count("diverged") + statuses.count("solver_failed") == 2, "those of lr=1e30, one way or the other"
    assert said.count("traceback in") == 6, "announced at once, and once more in the end"

    kept: dict[Path, bytes] = {}
    for number, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 130)):
        driver = Driver(*command, cwd=disturbed)
        driver.wait_for(completed=len(kept) + 1, running=1)
        time.sleep(0.2)
        driver.process.send_signal(number)
        assert driver.ended()[0] == code
        assert kept.items() <= completed(disturbed).items()
        kept = completed(disturbed)
        assert 1 <= len(kept) < 4
        assert len(list(never_begun(disturbed / "outputs/sweeps/mine"))) + len(run_folders(disturbed)) == len(expected)
    code, said = Driver(*command, cwd=disturbed).ended()
    assert code == 1
    assert f"{len(kept)} completed before" in said
    assert kept.items() <= completed(disturbed).items()
    assert results(disturbed) == expected


@pytest.mark.slow
def test_two_drivers_share_a_sweep(tmp_path: Path) -> None:
    drivers = [Driver(*CELLS, *LONGER, cwd=tmp_path) for _ in range(2)]
    (first, said), (second, too) = (driver.ended() for driver in drivers)
    assert (first, second) == (0, 0), said + too
    assert list(records(tmp_path).values()) == ["completed"] * 6
    counts = [output.count("  completed in ") for output in (said, too)]
    assert min(counts) >= 1, "both have worked"
    assert "Traceback" not in said + too
    logged = [
        [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for folder in run_folders(tmp_path)
    ]
    assert all(steps == logged[0] for steps in logged), "each written by one process only"


@pytest.mark.slow
def test_a_cell_in_other_hands_is_looked_at_again_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ("-m", "seed=0,1", "model=resnet", "sweep=mine", "trainer=quick", "logger=none", *TINY)
    with monkeypatch.context() as failing:
        before_step(failing, 1, lambda: 1 / 0)
        assert typed(*command, cwd=tmp_path).returncode == 1
    held = lock(run_folders(tmp_path)[0])
    held.__enter__()
    monkeypatch.setattr("ode_runner.sweeps.dispatch.POLL_SECONDS", 0.01)
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=lambda seconds: held.__exit__(None, None, None))
    monkeypatch.setattr("ode_runner.sweeps.progress.time", clock)  # of that module alone: the lock itself sleeps, too
    ended = typed(*command, cwd=tmp_path)
    assert ended.returncode == 0
    assert "is in use by another ode-run process. The sweep comes back to it when it is free." in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert "waiting for a run of another ode-run process" in ended.stdout
    assert "sweep of 2 cells" in ended.stdout
    assert list(records(tmp_path).values()) == ["completed"] * 2


@pytest.mark.slow
def test_what_another_process_completes_meanwhile_is_not_run_again(tmp_path: Path) -> None:
    command = ("model=resnet", "sweep=mine", "trainer=quick", "logger=none", *TINY)
    typed("-m", "seed=1", *command, cwd=tmp_path)
    [folder] = run_folders(tmp_path)
    aside = folder.rename(tmp_path / "aside")

    def meanwhile() -> None:
        aside.rename(folder)
        record = json.loads((folder / "record.json").read_text())
        (folder / "record.json").write_text(json.dumps(record | {"finished": "9999-12-31T00:00:00+00:00"}))

    with pytest.MonkeyPatch.context() as patched:
        before_step(patched, 2, lambda: aside.exists() and meanwhile())
        ended = typed("-m", "seed=0,1", *command, cwd=tmp_path)
    assert ended.returncode == 0
    assert "completed by another process meanwhile: seed=1" in ended.stdout
    assert ended.stdout.count("  completed in ") == 1


@pytest.mark.sampled(1)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_comes_as_a_run_fails_stops_the_sweep(tmp_path: Path, number: signal.Signals) -> None:
    def fail_under_a_signal() -> None:
        signal.raise_signal(number)
        raise RuntimeError("not today")

    command = ("-m", "seed=0,1", "model=resnet", "sweep=mine", "trainer=quick", "logger=none", *TINY)
    with pytest.MonkeyPatch.context() as failing:
        before_step(failing, 1, fail_under_a_signal)
        assert typed(*command, cwd=tmp_path).returncode == 130
    assert list(records(tmp_path).values()) == ["failed"]
    assert typed(*command, cwd=tmp_path).returncode == 0
    assert list(records(tmp_path).values()) == ["completed"] * 2
