"""What the screen cannot show or take costs no run, and a report that cannot be written says so."""

import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ode_runner.loggers.tensorboard import TensorBoardLogger
from ode_runner.recording.printable import printable
from ode_runner.recording.record import RunStatus
from ode_runner.recording.streams import exit_code, ignore_output_errors, replace_unprintable
from tests.helpers import TINY, ode_run, record_of, run_folder, typed
from tests.reporting import write_run

QUICK = ("trainer=quick", "trainer.max_steps=2", "logger=none", *TINY)
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="Linux has a disk that is always full")


def report(*words: str, cwd: Path, **options: object) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("ode-report")
    return subprocess.run([program, *words], cwd=cwd, stderr=subprocess.PIPE, text=True, timeout=60, **options)  # type: ignore[call-overload,no-any-return]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    write_run(tmp_path / "outputs", "a", metrics={"test/accuracy": 0.5, "test/loss": 0.25}, rows=3)
    write_run(tmp_path / "outputs", "b", status=RunStatus.DIVERGED)
    return tmp_path


@needs_full
@pytest.mark.parametrize("words", ["outputs", "outputs --format csv", "--help", "diff outputs/a outputs/b"])
def test_a_report_that_cannot_be_written_says_so_in_a_line(words: str, runs: Path) -> None:
    with FULL.open("w") as full:
        ended = report(*words.split(), cwd=runs, stdout=full)
    assert (ended.returncode, ended.stderr.count("ode-report: No space left on device")) == (1, 1), ended.stderr
    assert "Traceback" not in ended.stderr
    assert "Exception ignored" not in ended.stderr


@needs_full
@pytest.mark.parametrize("words", ["outputs --html outputs", "outputs --plots outputs/a/record.json"])
def test_a_refusal_after_output_that_is_lost_ends_in_our_words(words: str, runs: Path) -> None:
    with FULL.open("w") as full:
        ended = report(*words.split(), cwd=runs, stdout=full)
    assert ended.returncode == 2
    assert ended.stderr.count("ode-report: No space left on device") == 1
    assert all(line.startswith("ode-report: ") for line in ended.stderr.splitlines()), ended.stderr


@needs_full
@pytest.mark.parametrize(
    "words",
    [
        "--cfg job",
        *(
            pytest.param(words, marks=pytest.mark.slow)
            for words in ("plan=true", "-m seed=1,2 plan=true", "--help", "--version", "--hydra-help", "--info config")
        ),
    ],
)
def test_an_answer_that_cannot_be_written_is_a_failure(words: str, tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("ode-run")
    with FULL.open("w") as full:
        ended = subprocess.run([program, *words.split()], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True)
    assert ended.returncode == 1
    assert ended.stderr == "ode-run: No space left on device: what was to be shown could not be written.\n"


def test_a_reader_who_has_seen_enough_is_no_failure(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("ode-run")
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run([program, "--help"], cwd=tmp_path, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_streams_that_are_closed_from_the_beginning_take_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    replace_unprintable()
    ignore_output_errors()
    print("to nobody")
    print("to nobody", file=sys.stderr)
    assert exit_code("ode-run", 2) == 2
    sys.stdout.close()
    sys.stderr.close()


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-"])
def test_a_report_to_a_closed_stream_is_no_failure(closed: str, runs: Path) -> None:
    program = Path(sys.executable).with_name("ode-report")
    ended = subprocess.run(["sh", "-c", f"'{program}' outputs {closed}"], cwd=runs, capture_output=True, text=True)
    assert ended.returncode == 0
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("env", [ASCII, {"PYTHONIOENCODING": "latin-1"}, {"PYTHONIOENCODING": "ascii:strict"}])
def test_a_terminal_that_is_not_utf8_gets_what_it_can_show(env: dict[str, str], runs: Path) -> None:
    ended = report("outputs", cwd=runs, stdout=subprocess.PIPE, env={**os.environ, **env}, encoding="latin-1")
    assert ended.returncode == 0, ended.stderr
    assert "50.00" in ended.stdout
    assert "-----" in ended.stdout, "the rule"


@pytest.mark.slow
@needs_full
def test_a_run_goes_on_without_a_screen(tmp_path: Path) -> None:
    for number, (stdout, env) in enumerate([(FULL, {}), (Path(os.devnull), ASCII)]):
        root = tmp_path / str(number)
        root.mkdir()
        with stdout.open("w") as file:
            program = Path(sys.executable).with_name("ode-run")
            environment = {**os.environ, "OMP_NUM_THREADS": "1", **env}
            ended = subprocess.run([program, *QUICK], cwd=root, stdout=file, stderr=file, env=environment, timeout=200)
        assert ended.returncode == (1 if stdout is FULL else 0), "for what it says is lost"
        assert record_of(root)["status"] == "completed"
    ended = ode_run(*QUICK, "seed=1", cwd=tmp_path / "1", env=ASCII)
    assert ended.returncode == 0
    assert "half_moons - odenet - dopri5" in ended.stdout


def test_printing_cannot_fail_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.close(read)  # as `| head` does
    streams = [io.TextIOWrapper(io.FileIO(os.dup(write), "w"), encoding="ascii") for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    replace_unprintable()
    ignore_output_errors()
    ignore_output_errors()  # of a process that has done so before
    assert sys.stdout is not streams[0]
    for stream in (sys.stdout, sys.stderr):
        print("a · b \udcff", file=stream, flush=True)
        stream.close()
    for stream in streams:
        stream.close()
    os.close(write)


def test_streams_of_ones_own_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = io.StringIO()
    monkeypatch.setattr(sys, "stdout", mine)
    replace_unprintable()
    ignore_output_errors()
    assert sys.stdout is mine


def test_what_a_terminal_obeys_is_spelt_out() -> None:
    assert printable("a\tb\nc ü ·") == "a\tb\nc ü ·"
    assert printable("\x1b[2J\x07\r\x7f\x9b\u202e") == "\\x1b[2J\\x07\\x0d\\x7f\\x9b\\u202e"


@needs_full
def test_a_full_disk_is_told_once_by_tensorboard(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    outer = threading.excepthook
    logger = TensorBoardLogger(tmp_path, first_step=0)
    worker = logger.writer._get_file_writer().event_writer._async_writer._worker  # type: ignore[union-attr]
    with FULL.open("wb", buffering=0) as full:
        worker._record_writer._writer.close()
        worker._record_writer._writer = full
        logger.log({"train/loss": 1.0}, step=1)
        worker.join(30)
        for call in (lambda: logger.log({"train/loss": 1.0}, step=2), logger.close):
            with pytest.raises(OSError, match="No space left on device"):
                call()
    assert not capfd.readouterr().err
    assert threading.excepthook is outer


def test_a_warning_of_the_engine_is_a_line_of_the_run(tmp_path: Path) -> None:
    ended = typed(*TINY, "model=galerkin", "solver=rk4", "trainer.max_steps=2", "logger=none", cwd=tmp_path)
    sentence = "its gradient may be that of another solution. Use solver.num_steps=20."
    assert (ended.stdout.count(sentence), ended.stderr) == (1, "")
    assert sentence in (run_folder(tmp_path) / "ode-run.log").read_text()
