"""`ode-report diff` and `ode-report verify`."""

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ode_runner.recording.bookkeeping import ASIDE
from ode_runner.recording.record import RunStatus
from tests.helpers import TINY, ode_run, own_models, run_folder, run_folders, typed
from tests.reporting import cells, reported, write_run

HYDRA = """
hydra:
  overrides: {hydra: [hydra.mode=MULTIRUN, 'hydra.searchpath=[file://more]']}
  runtime:
    cwd: %s
    config_sources:
      - {path: hydra.conf, schema: pkg, provider: hydra}
      - {path: /home/me/conf, schema: file, provider: command-line}
"""
OVERRIDES = """
- model=odenet
- +trainer.note='a, b'
- sweep=mine
- rerun=true
- output_dir=elsewhere
"""


def differences(text: str, section: str) -> dict[str, list[str]]:
    """The rows of one section, by name."""
    [part] = [part for part in text.split("\n\n") if part.startswith(section)]
    return {words[0]: words[1:] for line in part.splitlines()[2:] if (words := line.split())}


def test_diff_tells_configuration_environment_code_and_result_apart(tmp_path: Path) -> None:
    write_run(tmp_path, "a", metrics={"test/accuracy": 0.5, "test/loss": 0.25}, rows=3)
    environment = {"git_sha": "fedcba", "git_dirty": False, "packages": {"torch": "2.12.0"}}
    options = {"trainer": {"epochs": 5}, "solver": {"num_steps": 16}}
    write_run(tmp_path, "b", seed=1, solver="rk4", environment=environment, options=options,
              metrics={"test/accuracy": 0.75, "test/loss": 0.25}, rows=3)  # fmt: skip
    ended = reported("diff", "a", "b", cwd=tmp_path)
    assert ended.returncode == 0
    assert differences(ended.stdout, "configuration") == {
        "solver": ["euler", "rk4"],
        "trainer.epochs": ["3", "5"],
        "seed": ["0", "1"],
    }
    assert differences(ended.stdout, "environment") == {"packages.torch": ["2.11.0", "2.12.0"]}
    assert differences(ended.stdout, "code") == {"git_sha": ["1234567890", "fedcba"]}
    assert differences(ended.stdout, "result") == {"test/accuracy": ["0.5", "0.75", "+0.25", "(+50.00%)"]}
    assert ended.stdout.endswith("curves: train/loss first differs at step 1: 1.0 and 1.1\n")


def test_diff_of_equal_runs_says_so(tmp_path: Path) -> None:
    metrics = {"test/accuracy": 0.9, "diagnostics/growth": math.nan}  # not known, in both of them
    for name in ("a", "b"):
        write_run(tmp_path, name, rows=3, metrics=metrics)
    text = reported("diff", "a", "b", cwd=tmp_path).stdout
    assert text.count("no difference") == 4
    assert "train/loss is the same at all 3 logged steps in common" in text


def test_diff_names_a_class_where_the_choice_does_not_tell(tmp_path: Path) -> None:
    write_run(tmp_path, "a")
    write_run(tmp_path, "b", options={"solver": {"_target_": "mine.Euler"}})
    found = differences(reported("diff", "a", "b", cwd=tmp_path).stdout, "configuration")
    assert found == {"solver._target_": ["s.euler", "mine.Euler"]}


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A run with what Hydra leaves of the command."""
    folder = write_run(tmp_path, "a", rows=3, environment={"threads": 3})
    (folder / ".hydra").mkdir()
    (folder / ".hydra" / "overrides.yaml").write_text(OVERRIDES)
    (folder / ".hydra" / "hydra.yaml").write_text(HYDRA % tmp_path)
    return tmp_path


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict]:
    """Have another program run in place of ode-run; what it was started with is in the dictionary."""

    def instead(action: Callable[[Path], object], returncode: int = 0) -> dict:
        seen: dict = {}

        def run(command: list[str], *, cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
            seen.update(command=command, cwd=cwd, env=env, aside=Path(command[-1].partition("=")[2].strip("'")))
            action(seen["aside"])
            return subprocess.CompletedProcess(command, returncode)

        monkeypatch.setattr("ode_runner.report.verify.subprocess.run", run)
        return seen

    return instead


def test_verify_types_the_same_command_in_the_same_place(recorded: Path, launched: Callable[..., dict]) -> None:
    seen = launched(lambda aside: write_run(aside, "again", rows=3, environment={"threads": 3}))
    ended = reported("verify", "a", "--trust", cwd=recorded)
    assert seen["command"][1:-1] == [
        "-cd", "/home/me/conf", "model=odenet", "+trainer.note='a, b'", "hydra.searchpath=[file://more]",
        "hydra.mode=RUN",
    ]  # fmt: skip
    assert seen["cwd"] == recorded
    assert seen["env"]["OMP_NUM_THREADS"] == "3"
    assert ASIDE in seen["env"]
    assert ended.returncode == 0
    last = ended.stdout.splitlines()[-1]
    assert last.startswith("reproduced: 5 metrics and counts are the same to the last digit")
    assert last.endswith("train/loss is the same at all 3 logged steps in common")
    assert not seen["aside"].exists(), "nothing is left behind"


def test_verify_ignores_times_and_memory_and_nothing_else(recorded: Path, launched: Callable[..., dict]) -> None:
    cost = {"nfe_forward": 16.0, "nfe_backward": 0.0, "saved_bytes": 1.0, "train_seconds": 1.0}
    launched(lambda aside: write_run(aside, "again", environment={"threads": 3}, cost=cost))
    assert reported("verify", "a", "--trust", cwd=recorded).returncode == 0
    cost = {**cost, "nfe_forward": 17.0}
    metrics = {"test/accuracy": 0.9 + 1e-15, "test/loss": 0.25, "eval/accuracy": 0.8}
    environment = {"threads": 4, "git_sha": "other"}
    seen = launched(lambda aside: write_run(aside, "again", environment=environment, cost=cost, metrics=metrics))
    ended = reported("verify", "a", "--trust", cwd=recorded)
    assert ended.returncode == 1
    assert "not reproduced: 2 of 5 metrics and counts differ" in ended.stdout
    assert "+1 (+6.25%)" in ended.stdout
    assert "the code is not the same" in ended.stdout
    assert "threads   3   4" in ended.stdout
    assert (seen["aside"] / "again" / "record.json").exists(), "for the person to look into"


def test_verify_takes_what_neither_run_knows_for_the_same(recorded: Path, launched: Callable[..., dict]) -> None:
    unknown = {"test/accuracy": 0.9, "test/loss": 0.25, "eval/accuracy": math.nan}
    write_run(recorded, "unknown", environment={"threads": 3}, metrics=unknown)
    shutil.copytree(recorded / "a" / ".hydra", recorded / "unknown" / ".hydra")
    launched(lambda aside: write_run(aside, "again", environment={"threads": 3}, metrics=unknown))
    assert reported("verify", "unknown", "--trust", cwd=recorded).returncode == 0
    launched(lambda aside: write_run(aside, "again", environment={"threads": 3}))
    assert "1 of 5 metrics and counts differ" in reported("verify", "unknown", "--trust", cwd=recorded).stdout


def test_verify_compares_what_both_runs_looked_at(recorded: Path, launched: Callable[..., dict]) -> None:
    seen_later = {"test/accuracy": 0.9, "test/loss": 0.25, "eval/accuracy": 0.8, "diagnostics/drift": 0.1}
    launched(lambda aside: write_run(aside, "again", environment={"threads": 3}, metrics=seen_later))
    assert reported("verify", "a", "--trust", cwd=recorded).returncode == 0
    launched(lambda aside: write_run(aside, "again", environment={"threads": 3}, metrics={"diagnostics/drift": 0.1}))
    assert reported("verify", "a", "--trust", cwd=recorded).returncode == 1


def test_verify_says_when_the_command_means_something_else_now(recorded: Path, launched: Callable[..., dict]) -> None:
    launched(lambda aside: write_run(aside, "again", options={"trainer": {"epochs": 9}}, environment={"threads": 3}))
    ended = reported("verify", "a", "--trust", cwd=recorded)
    assert ended.returncode == 1
    assert "the same command gives another configuration now" in ended.stdout
    assert "trainer.epochs   3   9" in ended.stdout


def test_verify_of_a_command_that_fails_now_is_not_reproduced(recorded: Path, launched: Callable[..., dict]) -> None:
    launched(lambda aside: None, returncode=2)
    ended = reported("verify", "a", "--trust", cwd=recorded)
    assert ended.returncode == 1
    assert "not reproduced: ode-run ended with exit code 2" in ended.stdout


def test_verify_refuses_what_it_cannot_repeat(recorded: Path) -> None:
    write_run(recorded, "failed", status=RunStatus.DIVERGED)
    ended = reported("verify", "failed", cwd=recorded)
    assert (ended.returncode, ended.stderr) == (
        2,
        "ode-report: 'failed' is diverged: only a completed run can be verified.\n",
    )
    named = {"overrides.yaml": Path(".hydra", "overrides.yaml"), "hydra.yaml": Path(".hydra")}
    for name, content in {"overrides.yaml": "- [", "hydra.yaml": "hydra: {}"}.items():
        before = (recorded / "a" / ".hydra" / name).read_text()
        (recorded / "a" / ".hydra" / name).write_text(content)
        ended = reported("verify", "a", "--trust", cwd=recorded)
        said = f"ode-report: {Path('a') / named[name]} does not say how the run was started"
        assert (ended.returncode, ended.stderr[: len(said)], ended.stderr.count("\n")) == (2, said, 1)
        (recorded / "a" / ".hydra" / name).write_text(before)


@pytest.mark.slow
def test_a_real_sweep_is_reported_and_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    command = ("-m", "model=resnet,rknet,odenet", "solver=euler,dopri5", "seed=0,1", "trainer.epochs=2", "sweep=tiny")
    assert typed(*command, "trainer.log_every=1", "logger=none", *TINY, cwd=tmp_path).returncode == 0
    rows = cells("outputs", cwd=tmp_path)
    assert [(row["model"], row["solver"], row["seeds"]) for row in rows] == [
        ("odenet", "dopri5", "2"),
        ("odenet", "euler", "2"),
        ("resnet", "-", "2"),
        ("rknet", "euler", "2"),
    ]
    ended = reported("outputs", "--html", "page.html", "--plots", "drawn", cwd=tmp_path)
    assert "incompatible (2 runs: rknet dopri5 seed 0, rknet dopri5 seed 1)" in ended.stdout
    assert {path.stem for path in (tmp_path / "drawn").iterdir()} == {"learning_curves", "nfe", "trade_offs"}

    folder = next(folder for folder in run_folders(tmp_path) if folder.name.startswith("odenet-dopri5"))
    ended = reported("verify", str(folder.relative_to(tmp_path)), cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout
    assert "train/loss is the same at all 6 logged steps in common" in ended.stdout

    content = json.loads((folder / "record.json").read_text())
    content["metrics"]["test/loss"] *= 1.001
    (folder / "record.json").write_text(json.dumps(content))
    ended = reported("verify", str(folder.relative_to(tmp_path)), cwd=tmp_path)
    assert ended.returncode == 1
    assert "1 of 9 metrics and counts differ" in ended.stdout


@pytest.mark.slow
def test_a_run_of_ones_own_classes_is_verified(tmp_path: Path) -> None:
    own_models(
        tmp_path, "my_models", "from ode_runner.models.depth.odenet import ODENet\n\nclass Mine(ODENet): ...\n", "Mine"
    )
    assert ode_run("-cd", "conf", "model=mine", "trainer=quick", "logger=none", *TINY, cwd=tmp_path).returncode == 0
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    code = (
        "import sys; sys.argv[1:] = ['verify', '../outputs', '--trust']\nfrom ode_runner.report.cli import main\nmain()"
    )
    finished = subprocess.run([sys.executable, "-c", code], cwd=elsewhere, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "reproduced: " in finished.stdout
    assert run_folder(tmp_path)
