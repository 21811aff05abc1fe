"""A run folder in which anything has happened to any file: one line says so, and no command shows a traceback."""

import json
import os
import random
import shutil
import signal
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ode_runner.experiment.crash_dump import FILE as EVIDENCE
from tests.helpers import TINY, Ended, before_step, record_of, run_folder, typed
from tests.reporting import reported

SHORT = ("trainer.max_steps=6", "trainer.epochs=2", "trainer.log_every=1", "logger=none", *TINY)
FAILING = ("optimizer=sgd", "optimizer.lr=1e25", "trainer.epochs=9", "logger=none", *TINY)
REASONABLE = 4  # lines on standard error


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def gone(path: Path) -> None:
    path.unlink()


def made_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def filled_with_zeros(path: Path) -> None:
    path.write_bytes(bytes(1000))


def filled_with_noise(path: Path) -> None:
    path.write_bytes(random.Random(path.name).randbytes(3000))


def filled_with_escapes(path: Path) -> None:
    path.write_bytes(b'- \x1b]0;title\x07\x1b[31m=1\n{"\x1b[2J": [\xe2\x80\xae]}\n')


def with_a_bit_flipped(path: Path) -> None:
    content = bytearray(path.read_bytes() or b" ")
    content[len(content) // 2] ^= 64
    path.write_bytes(bytes(content))


def filled_with_json(path: Path) -> None:
    path.write_text('[{"step": "x", "epoch": {}, "train/loss": [1]}, ' + "[" * 3000 + "]" * 3000 + "]\n")


def linked_to_another_file(path: Path) -> None:
    path.unlink()
    (path.parent / "target").write_text("somebody's own\n")
    path.symlink_to(path.parent / "target")


def linked_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


DAMAGES: tuple[Callable[[Path], None], ...] = (
    *(torn, emptied, gone, made_a_directory, filled_with_zeros, filled_with_noise, filled_with_escapes),
    *(with_a_bit_flipped, filled_with_json, linked_to_another_file, linked_to_itself),
)
FILES = (
    *("record.json", "metrics.jsonl", "config.yaml", "ode-run.log", ".hydra/overrides.yaml", ".hydra/hydra.yaml"),
    *(".hydra/config.yaml", "checkpoints/best.pt", "checkpoints/last.pt", "checkpoints/previous.pt", ".lock"),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a completed run and one that diverged were typed."""
    root = tmp_path_factory.mktemp("made")
    assert typed(*SHORT, cwd=root).returncode == 0
    assert typed(*FAILING, cwd=root).returncode == 1
    return root


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    """A copy of it that may be spoilt; both runs."""
    shutil.copytree(made / "outputs", tmp_path / "outputs", symlinks=True)
    return tmp_path


def folders(place: Path) -> tuple[Path, Path]:
    """That of the completed run, and that of the other."""
    both = sorted(path.parent for path in place.glob("outputs/*/*/config.yaml"))
    [failed] = [folder for folder in both if (folder / EVIDENCE).is_file()]
    [completed] = [folder for folder in both if folder != failed]
    return completed.relative_to(place), failed.relative_to(place)


def in_words(what: str, ended: Ended) -> None:
    """No traceback, a code that says how it went, and little more than a line of explanation."""
    assert ended.returncode in (0, 1, 2), f"{what}: {ended}"
    assert "Traceback" not in ended.stdout + ended.stderr, f"{what}: {ended.stdout}{ended.stderr}"
    assert len(ended.stderr.splitlines()) <= REASONABLE, f"{what}: {ended.stderr}"
    assert not set(ended.stdout + ended.stderr) & {"\x1b", "\x07", "\u202e"}, f"{what}: raw control characters"
    if ended.returncode == 2:
        assert ended.stderr.strip(), f"{what} says nothing"


AUDITED = ("record.json", ".hydra/overrides.yaml", "checkpoints/best.pt")  # what audit= reads; it takes the longest


def commands(completed: Path, failed: Path, *, which: str) -> Iterator[tuple[str, Callable[[Path], Ended]]]:
    """What may be asked of the folders, if the file `which` is spoilt."""
    for words in (
        *([(f"audit={completed}",)] if which in AUDITED else []),
        (f"evaluate={completed}",),
        (f"predict={completed}", "times=[0.5]"),
        (f"replay={failed}",),
        SHORT,
        (*SHORT, "rerun=true"),
    ):
        yield f"ode-run {' '.join(words)}", lambda cwd, words=words: typed(*words, cwd=cwd)  # type: ignore[misc]
    for words in (("outputs",), ("outputs", "--format", "md"), ("diff", str(completed), str(failed))):
        yield f"ode-report {' '.join(words)}", lambda cwd, words=words: reported(*words, cwd=cwd)  # type: ignore[misc]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("which", FILES)
def test_a_spoilt_file_is_told_in_words(which: str, damage: Callable[[Path], None], place: Path) -> None:
    completed, failed = folders(place)
    for folder in {completed, failed}:
        if (place / folder / which).exists():
            damage(place / folder / which)
    for what, command in commands(completed, failed, which=which):
        in_words(f"{damage.__name__} {which}: {what}", command(place))
    target = place / completed / Path(which).parent / "target"
    by_hydra = which == "ode-run.log" or which.startswith(".hydra")  # which writes through any link
    if target.is_file() and not by_hydra:
        assert target.read_text() == "somebody's own\n", "what a link leads to is nobody else's to write"


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_spoilt_evidence_is_told_in_words(damage: Callable[[Path], None], place: Path) -> None:
    _, failed = folders(place)
    damage(place / failed / EVIDENCE)
    ended = typed(f"replay={failed}", cwd=place)
    in_words(damage.__name__, ended)
    assert ended.returncode == 2, ended.stdout
    assert EVIDENCE in ended.stderr


@pytest.mark.slow
def test_verify_says_in_words_what_it_cannot_read(place: Path) -> None:
    completed, _ = folders(place)
    for name in ("overrides.yaml", "hydra.yaml"):
        before = (place / completed / ".hydra" / name).read_bytes()
        for damage in (torn, emptied, made_a_directory, filled_with_noise, filled_with_escapes):
            damage(place / completed / ".hydra" / name)
            in_words(f"{damage.__name__} {name}", reported("verify", str(completed), cwd=place))
            path = place / completed / ".hydra" / name
            path.rmdir() if path.is_dir() else path.unlink()
            path.write_bytes(before)


def test_a_bit_of_the_evidence_flipped_anywhere_is_noticed_or_changes_nothing(place: Path) -> None:
    """Where a checksum stands for a byte, that is; the names and dates of the archive's own directory may pass."""
    _, failed = folders(place)
    path = place / failed / EVIDENCE
    sound = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        members = [member for member in archive.infolist() if "/data/" in member.filename]
    draw = random.Random(0)
    for member in members[:6]:
        content = bytearray(sound)
        content[member.header_offset + 64 + draw.randrange(member.file_size)] ^= 1 << draw.randrange(8)
        path.write_bytes(bytes(content))
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is None:
                continue  # in the padding
        ended = typed(f"replay={failed}", cwd=place)
        assert (ended.returncode, ended.stderr.count("\n")) == (2, 1), ended.stdout + ended.stderr
        assert "crash.pt is damaged (checksum of " in ended.stderr
        return
    raise AssertionError("no flip met the data")


@pytest.mark.parametrize("left", [0, 0.5, None])
def test_lost_lines_of_metrics_do_not_keep_a_run_from_going_on(left: float | None, place: Path) -> None:
    completed, _ = folders(place)
    path = place / completed / "metrics.jsonl"
    sound = path.read_bytes()
    record = json.loads((place / completed / "record.json").read_text())
    (place / completed / "record.json").write_text(json.dumps(record | {"status": "running"}))
    path.unlink() if left is None else path.write_bytes(sound[: int(len(sound) * left)])
    ended = typed(*SHORT, cwd=place)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "metrics.jsonl has lost lines: the curves have a gap before step 6" in ended.stdout, ended.stdout
    assert b"\0" not in path.read_bytes()
    for line in path.read_text().splitlines():
        json.loads(line)


def test_a_linked_folder_of_checkpoints_is_not_emptied(place: Path) -> None:
    completed, _ = folders(place)
    theirs = place / "theirs"
    (place / completed / "checkpoints").rename(theirs)
    (place / completed / "checkpoints").symlink_to(theirs)
    before = {path.name: path.read_bytes() for path in theirs.iterdir()}
    assert typed(*SHORT, "rerun=true", cwd=place).returncode == 0
    assert {path.name: path.read_bytes() for path in theirs.iterdir()} == before
    assert not (place / completed / "checkpoints").is_symlink()


def test_lost_best_weights_are_chosen_anew_while_epochs_are_to_come(tmp_path: Path) -> None:
    longer = ("trainer.epochs=4", "trainer.log_every=1", "logger=none", *TINY)
    with pytest.MonkeyPatch.context() as patched:
        before_step(patched, 8, lambda: signal.raise_signal(signal.SIGTERM))
        assert typed(*longer, cwd=tmp_path).returncode == 130
    emptied(run_folder(tmp_path) / "checkpoints" / "best.pt")
    ended = typed(*longer, cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "best.pt is damaged" in ended.stdout
    assert "The best of the epochs to come takes its place." in ended.stdout
    reason = record_of(tmp_path)["reason"]
    assert reason == "best weights chosen from step 8 on, for the earlier ones were lost"


def test_links_that_lead_upwards_are_followed_once(place: Path) -> None:
    for i in range(12):
        (place / "outputs" / "half_moons" / f"up{i}").symlink_to(place / "outputs")
        (place / "outputs" / f"up{i}").symlink_to(place / "outputs" / "half_moons")
    ended = reported("outputs", cwd=place)
    assert ended.returncode == 0
    assert ended.stdout.count("odenet") <= 4


STRANGE = {
    "reason null": {"status": "failed", "reason": None},
    "seed a list": {"seed": [1]},
    "seed true": {"seed": True},
    "loss of 400 digits": {"metrics": {"test/loss": 10**400}},
    "loss a text": {"metrics": {"test/loss": "low"}},
    "cost of 400 digits": {"cost": {"train_seconds": 10**400}},
    "solver a list": {"config": {"solver": [1]}},
    "trainer a list": {"config": {"trainer": [1]}},
    "choices a list": {"choices": ["odenet"]},
    "choices of numbers": {"choices": {"model": 7}},
    "environment a text": {"environment": "here"},
    "an unknown key": {"surprise": 1},
    "an unknown status": {"status": "splendid"},
}


@pytest.mark.parametrize("kind", STRANGE)
def test_a_strange_record_spoils_nothing_but_its_own_row(kind: str, place: Path) -> None:
    completed, failed = folders(place)
    record = json.loads((place / completed / "record.json").read_text())
    (place / failed / "record.json").write_text(json.dumps(record | STRANGE[kind]))
    ended = reported("outputs", cwd=place)
    assert ended.returncode == 0, ended.stderr
    assert "no record (1 run: " in ended.stdout
    assert f"{failed.name}" in ended.stdout


@pytest.mark.parametrize(
    "changed",
    [
        {"metrics": {"test/loss": 1e308, "test/accuracy": 1e308}, "seed": 7},
        {"metrics": {"test/loss": -1e308, "test/accuracy": 0.5}, "seed": 7},
        {"config": {"solver": {"a": {"b": [1, {"c": None}]}}}},
        {"environment": {"packages": [1], "git_sha": {}, "threads": "many", "cpu": ["x"]}},
        {"cost": {"wall_seconds": "long", "steps": [], "peak_memory_bytes": None}},
        {"choices": {}},
    ],
)
def test_an_odd_record_has_its_row(changed: dict[str, object], place: Path) -> None:
    completed, failed = folders(place)
    record = json.loads((place / completed / "record.json").read_text())
    (place / failed / "record.json").write_text(json.dumps(record | changed))
    for words in (("outputs",), ("outputs", "--format", "csv"), ("diff", str(completed), str(failed))):
        ended = reported(*words, cwd=place)
        assert ended.returncode == 0, ended.stderr
        assert max(map(len, ended.stdout.splitlines())) < 600, "a number of 300 digits"


def test_escape_sequences_are_shown_and_not_obeyed(place: Path) -> None:
    completed, failed = folders(place)
    record = json.loads((place / completed / "record.json").read_text())
    evil = "\x1b]0;pwned\x07\x1b[2J\u202e"
    strange = {"status": "failed", "reason": evil, "choices": record["choices"] | {"model": evil}}
    (place / failed / "record.json").write_text(json.dumps(record | strange))
    (place / failed).rename(place / failed.with_name(f"x{evil}"))
    for words in (
        *(("outputs",), ("outputs", "--format", "md"), ("outputs", "--by", "model")),
        *(("diff", str(completed), str(failed.with_name(f"x{evil}"))), ("outputs", "--where", f"model={evil}")),
    ):
        ended = reported(*words, cwd=place)
        assert not set(ended.stdout + ended.stderr) & set(evil[:1] + "\x07\u202e"), words


def made_a_pipe(path: Path) -> None:
    """Whoever opens it waits for a writer, for ever."""
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    os.mkfifo(path)


def linked_to_zeros(path: Path) -> None:
    """Whoever reads it comes to no end."""
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    path.symlink_to("/dev/zero")


OPENED = (  # by the commands below, to be read or to be written
    *("record.json", "metrics.jsonl", ".attempt", "ode-run.log", "checkpoints/best.pt", "checkpoints/last.pt"),
    *("checkpoints/previous.pt", "checkpoints/last.pt.unfinished", "record.json.unfinished", EVIDENCE),
    *(".hydra/overrides.yaml", ".hydra/hydra.yaml", "config.yaml", ".lock"),
)


QUICK = ("checkpoints/best.pt", "ode-run.log", ".attempt")


@pytest.mark.sampled(1)
@pytest.mark.timeout(60)
@pytest.mark.parametrize("damage", [made_a_pipe, linked_to_zeros], ids=lambda damage: damage.__name__)
@pytest.mark.parametrize(
    "which", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in OPENED]
)
def test_what_is_no_file_is_neither_waited_for_nor_read(
    which: str, damage: Callable[[Path], None], place: Path
) -> None:
    completed, failed = folders(place)
    for folder in (completed, failed):
        damage(place / folder / which)
    for words in ((f"evaluate={completed}",), (f"replay={failed}",), SHORT):
        in_words(" ".join(words), typed(*words, cwd=place))
    in_words("ode-report", reported("outputs", cwd=place))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("which", ["checkpoints/last.pt", "metrics.jsonl"])
def test_a_run_without_a_record_does_not_wait_for_a_pipe(which: str, place: Path) -> None:
    completed, _ = folders(place)
    (place / completed / "record.json").unlink()
    made_a_pipe(place / completed / which)
    ended = typed(*SHORT, cwd=place)
    assert ended.returncode == (2 if which == "metrics.jsonl" else 0), ended
    assert "it is no file" in ended.stdout or "is no file" in ended.stderr
