"""Runs on a disk that may only be read: they are looked at as everywhere else, and what would be written is told."""

import errno
import os
from pathlib import Path

import pytest
from filelock import FileLock
from omegaconf import OmegaConf

from ode_runner.config.messages import readable_message
from ode_runner.recording.lock import FILE, in_use, lock
from tests.helpers import TINY, typed

READ_ONLY = OSError(errno.EROFS, "Read-only file system", "run/evaluations")


def test_a_run_is_in_use_where_another_holds_its_lock_though_it_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise READ_ONLY

    (tmp_path / FILE).touch()
    with lock(tmp_path):
        monkeypatch.setattr(FileLock, "acquire", refuse)
        assert in_use(tmp_path)
    assert not in_use(tmp_path), "it could neither be packed nor evaluated"


@pytest.mark.parametrize(
    ("words", "instead"),
    [(["evaluate=run"], "copy the run's folder elsewhere"), (["seed=1"], "with output_dir=FOLDER")],
)
def test_what_to_do_where_nothing_can_be_written(words: list[str], instead: str) -> None:
    said = readable_message(READ_ONLY, words)
    assert said.startswith("cannot write to run/evaluations (Read-only file system). Free it, or ")
    assert said.endswith(f"{instead}.")


def test_a_completed_run_is_shown_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = (*TINY, "trainer.epochs=1", "logger=none")
    assert typed(*words, cwd=tmp_path).returncode == 0

    def refuse(*args: object, **options: object) -> None:
        raise READ_ONLY

    monkeypatch.setattr(FileLock, "acquire", refuse)
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    shown = typed(*words, cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "already completed: " in shown.stdout
    again = typed(*words, "rerun=true", cwd=tmp_path)
    assert "Read-only file system" in again.stderr + again.stdout, "what would be written is not"


def test_the_table_of_a_finished_sweep_is_shown_where_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of its cells cannot be run, and has a record that says so."""
    words = ("-m", *TINY, "trainer.epochs=1", "logger=none", "solver=euler,rk4", "gradient=backprop,seminorm")
    first = typed(*words, cwd=tmp_path)
    assert "incompatible" in first.stdout

    def refuse(*args: object, **options: object) -> None:
        raise READ_ONLY

    monkeypatch.setattr(FileLock, "acquire", refuse)
    monkeypatch.setattr(OmegaConf, "save", refuse)
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    again = typed(*words, cwd=tmp_path)
    assert again.returncode == first.returncode == 0, again.stdout + again.stderr
    assert "test/accuracy" in again.stdout


@pytest.mark.parametrize(
    ("code", "said"),
    [(errno.ENOLCK, "the disk has no locks (No locks available)"), (errno.ENAMETOOLONG, "Type a shorter name, or ")],
)
def test_what_is_wrong_with_a_place_is_told_by_its_kind(code: int, said: str) -> None:
    assert said in readable_message(OSError(code, os.strerror(code)), ["seed=1"])
