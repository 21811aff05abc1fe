"""A run that was killed or stopped and started again is the run that was not."""

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import TINY, Ended, before_step, in_evaluation, record_of, run_folder, started, typed
from tests.resuming import assert_equal, outcome

HURRIED = (*TINY, "trainer.epochs=20", "trainer.log_every=4", "trainer.save_every_seconds=0", "logger=none")
COMMANDS = {
    "backprop": (*HURRIED, "schedule=cosine", "trainer.max_grad_norm=1"),
    "adjoint": (*HURRIED, "gradient=adjoint", "optimizer=sgd"),
    "digits": (  # its batches are augmented at random
        "task=digits",
        "model=rknet",
        "solver=euler",
        "solver.num_steps=2",
        "network.width=4",
        *HURRIED[5:],
    ),
    "averaged": (
        *HURRIED,
        "trainer.ema=0.9",
        "optimizer=adamw",
        "schedule=one_cycle",
        "schedule.cycle_momentum=true",
    ),
    "priced": (*HURRIED, "regularizer=[jacobian,steer]", "solver=rk4"),  # both draw at random
    "budget": (*HURRIED, "trainer.max_steps=7"),
}


class Running:
    """An `ode-run` process of which one waits for a step."""

    def __init__(self, command: tuple[str, ...], cwd: Path) -> None:
        self.root = cwd
        self.process = started(*command, cwd=cwd, heard=False)

    def wait_for(self, step: int) -> None:
        while self.process.poll() is None:
            if any(row["step"] >= step for path in self.root.rglob("metrics.jsonl") for row in whole_rows(path)):
                return
            time.sleep(0.002)
        raise AssertionError(f"ended before step {step}")

    def send(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)


def whole_rows(path: Path) -> list[dict[str, float]]:
    """The complete lines of a metrics.jsonl that is being written."""
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What the commands lead to when nothing comes between; made when first asked for."""

    class Outcomes(dict[str, dict[str, Any]]):
        def __missing__(self, name: str) -> dict[str, Any]:
            root = tmp_path_factory.mktemp(f"uninterrupted-{name}")
            assert typed(*COMMANDS[name], cwd=root).returncode == 0
            self[name] = outcome(root)
            return self[name]

    return Outcomes()


def killed_at(steps: tuple[int, ...], command: tuple[str, ...], root: Path) -> None:
    """Started and killed once for every step."""
    for step in steps:
        running = Running(command, root)
        running.wait_for(step)
        assert running.send(signal.SIGKILL) == -signal.SIGKILL
        assert record_of(root)["status"] == "running"


def test_a_killed_run_goes_on_as_if_nothing_had_been(uninterrupted: Any, tmp_path: Path) -> None:
    running = Running(COMMANDS["backprop"], tmp_path)
    running.wait_for(12)
    running.process.send_signal(signal.SIGSTOP)
    second = typed(*COMMANDS["backprop"], "rerun=true", cwd=tmp_path)
    assert running.send(signal.SIGKILL) == -signal.SIGKILL
    assert_turned_away(second)
    assert record_of(tmp_path)["status"] == "running"
    ended = typed(*COMMANDS["backprop"], cwd=tmp_path)
    assert ended.returncode == 0
    assert "resuming at step" in ended.stdout
    assert_equal(outcome(tmp_path), uninterrupted["backprop"])


def assert_turned_away(second: Ended) -> None:
    """A second process on the folder of a running one, which it must not disturb."""
    assert second.returncode == 2
    assert "is in use by another ode-run process" in second.stderr
    assert second.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "steps"), [("backprop", (1, 4, 12, 20, 21, 40, 52)), ("adjoint", (12, 33)), ("digits", (8, 25))]
)
def test_a_run_killed_again_and_again_goes_on_as_if_nothing_had_been(
    name: str, steps: tuple[int, ...], uninterrupted: Any, tmp_path: Path
) -> None:
    killed_at(steps, COMMANDS[name], tmp_path)
    assert typed(*COMMANDS[name], cwd=tmp_path).returncode == 0
    assert_equal(outcome(tmp_path), uninterrupted[name])


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("name", "number", "step"),
    [
        ("adjoint", signal.SIGINT, 20),
        pytest.param("adjoint", signal.SIGTERM, 1, marks=pytest.mark.slow),
        pytest.param("adjoint", signal.SIGTERM, 21, marks=pytest.mark.slow),
        ("averaged", signal.SIGINT, 20),
        pytest.param("priced", signal.SIGINT, 20, marks=pytest.mark.slow),
    ],
)
def test_a_signal_stops_after_the_step_and_the_same_command_resumes(
    name: str, number: signal.Signals, step: int, uninterrupted: Any, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        before_step(patched, step, lambda: signal.raise_signal(number))
        ended = typed(*COMMANDS[name], cwd=tmp_path)
    assert ended.returncode == 130
    assert f"interrupted: stopped by {number.name}; the same command resumes it" in ended.stdout
    record = record_of(tmp_path)
    assert (record["status"], record["cost"]["steps"]) == ("interrupted", step)
    resumed = typed(*COMMANDS[name], cwd=tmp_path)
    assert f"resuming at step {step} of 60" in resumed.stdout
    assert_equal(outcome(tmp_path), uninterrupted[name])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "nth", "step"), [("adjoint", 1, 3), ("adjoint", 20, 60), ("budget", 3, 7)])
def test_a_signal_during_the_evaluation_costs_nothing(
    name: str, nth: int, step: int, uninterrupted: Any, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        in_evaluation(patched, nth, lambda: signal.raise_signal(signal.SIGTERM))
        assert typed(*COMMANDS[name], cwd=tmp_path).returncode == 130
    assert f"resuming at step {step} of" in typed(*COMMANDS[name], cwd=tmp_path).stdout
    assert_equal(outcome(tmp_path), uninterrupted[name])


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_installed_program_ends_with_130_on_a_signal(number: signal.Signals, tmp_path: Path) -> None:
    running = Running(COMMANDS["backprop"], tmp_path)
    running.wait_for(10)
    assert running.send(number) == 130
    assert record_of(tmp_path)["status"] == "interrupted"


def test_a_completed_run_is_shown_and_left_alone(tmp_path: Path) -> None:
    command = ("trainer=quick", "trainer.max_steps=2", "logger=none", *TINY)
    typed(*command, cwd=tmp_path)
    folder = run_folder(tmp_path)
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and ".hydra" not in path.parts}
    ended = typed(*command, cwd=tmp_path)
    assert ended.returncode == 0
    assert "already completed" in ended.stdout
    assert "rerun=true" in ended.stdout
    assert "test accuracy" in ended.stdout
    log = folder / "ode-run.log"
    assert {path: path.read_bytes() for path in files if path != log} == {p: b for p, b in files.items() if p != log}


def test_a_rerun_starts_afresh_and_comes_to_the_same(tmp_path: Path) -> None:
    command = ("trainer=quick", "trainer.log_every=1", "logger=tensorboard", *TINY)
    typed(*command, cwd=tmp_path)
    folder, before = run_folder(tmp_path), outcome(tmp_path)
    (folder / "error.txt").write_text("of an earlier time")
    ended = typed(*command, "rerun=true", cwd=tmp_path)
    assert ended.returncode == 0
    assert "resuming" not in ended.stdout
    assert run_folder(tmp_path) == folder, "bookkeeping keys do not change the folder"
    assert_equal(outcome(tmp_path), before)
    assert not (folder / "error.txt").exists()
    assert len(list(folder.glob("events.*"))) == 1


@pytest.mark.slow
def test_a_second_process_is_turned_away_and_disturbs_nothing(uninterrupted: Any, tmp_path: Path) -> None:
    running = Running(COMMANDS["backprop"], tmp_path)
    running.wait_for(4)
    second = typed(*COMMANDS["backprop"], "rerun=true", cwd=tmp_path)
    assert running.process.wait(60) == 0
    assert_turned_away(second)
    assert_equal(outcome(tmp_path), uninterrupted["backprop"])
