"""What only Linux has is not in the way of other systems. No test runs there: this is what can be said from here."""

import subprocess
import sys
from pathlib import Path

import pytest

from ode_runner.experiment import process_state, signals
from ode_runner.experiment.meters import peak_bytes
from ode_runner.recording.relative_path import relative_path
from tests.helpers import typed

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_nothing_is_called_that_a_system_has_not(platform: str, tmp_path: Path) -> None:
    """As far as types tell: Python's own say which system has what."""
    command = [sys.executable, "-m", "mypy", "--platform", platform, "--cache-dir", str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout


def test_a_run_needs_no_signals_and_no_folder_descriptors_of_posix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = type("sys", (), {"platform": "win32"})
    for module in (signals, process_state):
        monkeypatch.setattr(module, "sys", windows)
    for owner, name in (
        ("signal", "SIGUSR1"),
        ("signal", "SIGUSR2"),
        ("os", "fchdir"),
        ("os", "setpgid"),
    ):
        monkeypatch.delattr(sys.modules[owner], name)
    ended = typed(
        "trainer.epochs=1", "task.train=40", "task.validation=20", "task.test=20", "logger=none", cwd=tmp_path
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_peak_memory_is_asked_of_psutil_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    process = type("Process", (), {"memory_info": lambda self: type("Info", (), {"peak_wset": 12345})()})
    monkeypatch.setitem(sys.modules, "psutil", type("psutil", (), {"Process": process}))  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "resource", None)  # type: ignore[arg-type]
    monkeypatch.setattr("ode_runner.experiment.meters.sys", type("sys", (), {"platform": "win32"}))
    assert peak_bytes(torch.device("cpu")) == 12345


def test_a_path_to_another_drive_is_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert relative_path(tmp_path / "a" / "b") == Path("a", "b")
    monkeypatch.setattr("os.path.relpath", lambda path, start: (_ for _ in ()).throw(ValueError("two drives")))
    assert relative_path(tmp_path / "a") == tmp_path / "a"
