"""Runs on a disk that may only be read: they are looked at as everywhere else, and what would be written is told."""

import errno
from pathlib import Path

import pytest
from filelock import FileLock

from ode_runner.config.messages import readable_message
from ode_runner.recording.lock import FILE, in_use, lock

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
