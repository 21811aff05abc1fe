"""Only regular files are read, links to them too; nothing else is opened."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ode_runner.recording.atomic_write import atomic_write
from ode_runner.recording.display import Display
from ode_runner.recording.pictures import TRACEBACKS, save_pictures
from ode_runner.recording.record import RunRecord, RunStatus
from ode_runner.recording.regular_file import NoRegularFile, read_regular
from ode_runner.report.runs import Run
from ode_runner.sweeps.cost_estimate import _first_and_last_row


def test_files_and_links_to_them_are_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "b").symlink_to("a")
    assert read_regular(tmp_path / "a") == read_regular(tmp_path / "b", most_bytes=3) == b"abc"
    with pytest.raises(ValueError, match="more than 2 bytes"):
        read_regular(tmp_path / "a", most_bytes=2)


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)], ids=["pipe", "folder", "device"]
)
def test_nothing_else_is(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "metrics.jsonl")
    with pytest.raises(NoRegularFile, match="it is no file"):
        read_regular(tmp_path / "metrics.jsonl")
    record = RunRecord(choices={}, seed=0, fingerprint="", status=RunStatus.COMPLETED)
    assert not list(Run(folder=tmp_path, record=record).rows())
    assert _first_and_last_row(tmp_path / "metrics.jsonl") == ({}, {})


def test_what_is_absent_is_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "nowhere").symlink_to(tmp_path / "absent")
    for name in ("absent", "nowhere"):
        with pytest.raises(FileNotFoundError, match="there is no such file"):
            read_regular(tmp_path / name)


@pytest.mark.timeout(10)
def test_pipes_are_not_written_into(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "a.unfinished")
    atomic_write(tmp_path / "a", lambda file: file.write(b"abc"))
    assert (tmp_path / "a").read_bytes() == b"abc"
    os.mkfifo(tmp_path / TRACEBACKS)
    assert not save_pictures(lambda: iter([None]), folder=tmp_path, display=Display())  # type: ignore[list-item]
    assert "the result stands." in capsys.readouterr().out
