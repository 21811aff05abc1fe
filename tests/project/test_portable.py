"""What only Linux has is not in the way of other systems. No test runs there: this is what can be said from here."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ode_runner.compiling.c_code import machine_code
from ode_runner.compiling.c_code.operations import NoCode
from ode_runner.config.typed_options import shortened_options
from ode_runner.distributed.rendezvous import cores
from ode_runner.experiment import process_state, signals
from ode_runner.experiment.meters import peak_bytes
from ode_runner.recording import environment
from ode_runner.recording.relative_path import relative_path
from tests.helpers import typed

ROOT = Path(__file__).resolve().parents[2]


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


def test_what_linux_alone_tells_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """/proc, the cores of a process, and peak memory by resource in bytes, as on macOS."""
    import torch

    def absent(*positional: object, **named: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", absent)
    monkeypatch.setattr("ode_runner.experiment.meters.sys", type("sys", (), {"platform": "darwin"}))
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    environment._cpuinfo.cache_clear()
    assert environment._cpuinfo() == ()
    environment._cpuinfo.cache_clear()
    assert machine_code._processor.__wrapped__() == os.uname().version
    assert cores() == os.cpu_count()
    assert peak_bytes(torch.device("cpu")) > 0


def test_c_code_is_left_to_another_compiler_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_code, "POSSIBLE", False)
    with pytest.raises(NoCode, match="Windows"):
        machine_code.library("int f(void) { return 0; }")


@pytest.mark.parametrize("words", [["task.file='C:\\data\\a?b.csv'"], ["model.field={k: 1.0}"], ["network.width=4|5"]])
def test_names_of_folders_have_no_sign_that_windows_forbids(words: list[str]) -> None:
    [shown] = shortened_options(words, named=set(), unused=[])
    assert not set('<>:"/\\|?*') & set(shown)
    assert not shown.endswith((" ", "."))


def test_a_path_to_another_drive_is_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert relative_path(tmp_path / "a" / "b") == Path("a", "b")
    monkeypatch.setattr("os.path.relpath", lambda path, start: (_ for _ in ()).throw(ValueError("two drives")))
    assert relative_path(tmp_path / "a") == tmp_path / "a"
