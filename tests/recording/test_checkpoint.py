"""Checkpoints are whole or refused, and a damaged or full disk costs no more than it must."""

import errno
import re
import resource
import signal
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from ode_runner.errors import CheckpointRefused
from ode_runner.recording.checkpoint import Checkpoints
from tests.helpers import TINY, before_step, in_evaluation, record_of, rows_of, run_folder, typed

COMMAND = (*TINY, "trainer.epochs=4", "trainer.log_every=1", "trainer.save_every_seconds=0", "logger=none")


def state(step: int) -> dict[str, Any]:
    return {"step": step, "weights": torch.full((500,), float(step)), "nested": {"list": [1, 2.5, None]}}


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    """Two were saved, of steps 1 and 2."""
    made = Checkpoints(tmp_path / "checkpoints", fingerprint="abc123", seed=0)
    for step in (1, 2):
        made.save_last(state(step))
    return made


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_byte(path: Path) -> None:
    """In the middle of the largest tensor: between the members of the archive nothing is checked, or matters."""
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda member: member.file_size)
    content = bytearray(path.read_bytes())
    name_length, extra_length = struct.unpack_from("<HH", content, largest.header_offset + 26)
    begin = largest.header_offset + 30 + name_length + extra_length
    content[begin + largest.file_size // 2] ^= 1
    path.write_bytes(bytes(content))


def empty(path: Path) -> None:
    path.write_bytes(b"")


DAMAGES = (truncate, flip_a_byte, empty)


def test_what_is_loaded_is_what_was_saved(checkpoints: Checkpoints) -> None:
    loaded, refusals = checkpoints.load_newest()
    assert loaded is not None
    assert refusals == []
    assert torch.equal(loaded["weights"], state(2)["weights"])
    assert loaded["nested"] == state(2)["nested"]


def test_there_is_nothing_to_load_before_the_first_save(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path, fingerprint="abc123", seed=0).load_newest() == (None, [])


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_refused_and_the_one_before_taken(damage: Any, checkpoints: Checkpoints) -> None:
    damage(checkpoints.last)
    loaded, [refusal] = checkpoints.load_newest()
    assert loaded is not None
    assert loaded["step"] == 1
    assert f"{checkpoints.last} is damaged" in refusal


@pytest.mark.parametrize("damage", DAMAGES)
def test_nothing_is_taken_when_both_are_damaged(damage: Any, checkpoints: Checkpoints) -> None:
    damage(checkpoints.last)
    truncate(checkpoints.previous)
    loaded, refusals = checkpoints.load_newest()
    assert loaded is None
    assert len(refusals) == 2


def test_the_one_before_is_taken_when_killed_between_two_renames(checkpoints: Checkpoints) -> None:
    checkpoints.last.unlink()
    loaded, refusals = checkpoints.load_newest()
    assert loaded is not None
    assert (loaded["step"], refusals) == (1, [])


@pytest.mark.parametrize(
    ("fingerprint", "seed", "told"),
    [("def456", 0, "(fingerprint abc123)"), ("abc123", 5, "(seed 0)")],
)
def test_a_checkpoint_of_another_run_is_refused(
    fingerprint: str, seed: int, told: str, checkpoints: Checkpoints
) -> None:
    loaded, refusals = Checkpoints(checkpoints.folder, fingerprint=fingerprint, seed=seed).load_newest()
    assert loaded is None
    assert len(refusals) == 2
    assert all(refusal.endswith(f"belongs to another run {told}.") for refusal in refusals)


def test_a_file_of_somebody_elses_is_refused(tmp_path: Path) -> None:
    torch.save([1, 2, 3], tmp_path / "last.pt")
    with pytest.raises(CheckpointRefused, match="is no checkpoint of a run"):
        Checkpoints(tmp_path, fingerprint="abc123", seed=0).load(tmp_path / "last.pt")


@pytest.mark.parametrize("part", ["ode_runner.recording.checkpoint.torch.save", "os.fsync"])
def test_a_save_that_fails_leaves_the_earlier_ones_and_nothing_else(
    part: str, checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*positional: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = {path: path.read_bytes() for path in checkpoints.folder.iterdir()}
    with monkeypatch.context() as patched:
        patched.setattr(part, full)
        with pytest.raises(OSError, match="No space left on device: '.*last.pt'"):
            checkpoints.save_last(state(3))
    assert {path: path.read_bytes() for path in checkpoints.folder.iterdir()} == before


@contextmanager
def files_of_at_most(limit: int) -> Iterator[None]:
    """The system refuses to write more, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_torch_does_not_hide_a_write_that_the_system_refuses(checkpoints: Checkpoints) -> None:
    large = {"weights": torch.zeros(100_000)}
    with files_of_at_most(50_000), pytest.raises(OSError, match=r"File too large: '.*last.pt'"):
        checkpoints.save_last(large)
    assert not list(checkpoints.folder.glob("*.unfinished"))


@pytest.mark.parametrize(("words", "epochs"), [((), [1, 5]), (("trainer.max_steps=10",), [1, 4])])
def test_epochs_shorter_than_the_time_between_saves_write_no_file_of_their_own(
    words: tuple[str, ...], epochs: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for the one after which best.pt is written, the last, and one in whose evaluation a signal comes."""
    saved: list[tuple[int, int]] = []
    monkeypatch.setattr(Checkpoints, "save_last", lambda self, state: saved.append(tuple(state["position"][:2])))
    words = (*TINY, "trainer.epochs=5", "optimizer.lr=1e-12", "trainer.save_every_seconds=1000", "logger=none", *words)
    assert typed(*words, cwd=tmp_path).returncode == 0
    assert [epoch for _, epoch in saved] == epochs
    in_evaluation(monkeypatch, 3, lambda: signal.raise_signal(signal.SIGTERM))
    assert typed(*words, "rerun=true", cwd=tmp_path).returncode == 130
    assert saved[-2:] == [(3, 1), (9, 2)]


def test_files_of_a_run_load_with_weights_only(tmp_path: Path) -> None:
    typed(*COMMAND, "trainer.max_steps=4", cwd=tmp_path)
    for name in ("last", "previous", "best"):
        content = torch.load(run_folder(tmp_path) / "checkpoints" / f"{name}.pt", weights_only=True)
        assert content["fingerprint"] == record_of(tmp_path)["fingerprint"]
        assert "model" in content["state"]


@pytest.fixture
def interrupted(tmp_path: Path) -> Path:
    """A run that was stopped at step 7 of 12."""
    with pytest.MonkeyPatch.context() as patched:
        before_step(patched, 7, lambda: signal.raise_signal(signal.SIGTERM))
        assert typed(*COMMAND, cwd=tmp_path).returncode == 130
    return tmp_path


def test_a_run_goes_on_from_the_checkpoint_before_the_damaged_one(interrupted: Path) -> None:
    flip_a_byte(run_folder(interrupted) / "checkpoints" / "last.pt")
    ended = typed(*COMMAND, cwd=interrupted)
    assert ended.returncode == 0
    assert "last.pt is damaged" in ended.stdout
    assert "Going on from the one before." in ended.stdout
    assert "resuming at step 6 of 12" in ended.stdout
    steps = [row["step"] for row in rows_of(run_folder(interrupted)) if "train/loss" in row]
    assert steps == list(range(1, 13))


def test_a_run_begins_again_when_every_checkpoint_is_damaged(interrupted: Path) -> None:
    for name in ("last", "previous"):
        truncate(run_folder(interrupted) / "checkpoints" / f"{name}.pt")
    ended = typed(*COMMAND, cwd=interrupted)
    assert ended.returncode == 0
    assert ended.stdout.count("Going on from the beginning.") == 2
    assert "resuming" not in ended.stdout
    assert record_of(interrupted)["cost"]["steps"] == 12


def test_a_full_disk_ends_the_run_in_one_line_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:

        def full(*positional: object, **named: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        before_step(patched, 7, lambda: patched.setattr("ode_runner.recording.checkpoint.torch.save", full))
        ended = typed(*COMMAND, cwd=tmp_path)
    assert ended.returncode == 1
    assert re.search(r"failed: No space left on device: \S*outputs/\S+/checkpoints/", ended.stdout)
    assert "the same command continues" in ended.stdout
    assert "Traceback" not in ended.stdout + ended.stderr
    assert record_of(tmp_path)["status"] == "failed"
    resumed = typed(*COMMAND, cwd=tmp_path)
    assert resumed.returncode == 0
    assert "resuming at step 6 of 12" in resumed.stdout
    assert record_of(tmp_path)["status"] == "completed"


def test_a_disk_too_full_even_for_the_record_is_reported_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:

        def full(*positional: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        before_step(patched, 7, lambda: patched.setattr("os.fsync", full))
        ended = typed(*COMMAND, cwd=tmp_path)
    assert ended.returncode == 1
    assert "No space left on device" in ended.stdout
    assert "Traceback" not in ended.stdout + ended.stderr
    assert record_of(tmp_path)["status"] == "running", "the newest record that fitted: the same command resumes"
    assert typed(*COMMAND, cwd=tmp_path).returncode == 0


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "half_moons").touch()
    ended = typed(*COMMAND, cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.startswith("ode-run: cannot write to ")
    assert "output_dir=FOLDER" in ended.stderr
    assert ended.stderr.count("\n") == 1
