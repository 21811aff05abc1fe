"""Whatever is typed: no traceback, no hang, and what is refused is refused in a sentence, with exit code 2."""

import json
import os
import re
import resource
import shlex
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ode_runner.recording.record import RunStatus
from tests.command_lines import SMALL, command_line
from tests.helpers import TINY, Ended, run_folder, typed

QUICK, SLOW = range(20), range(20, 3020)
SECONDS = 60  # that a line may take
GIGABYTES = 4  # that it may ask for, above what the process has
RAW = re.compile(  # words of Python, Hydra or OmegaConf that no user should have to read
    r"Traceback|NoneType|object has no attribute|(positional|keyword) argument|not supported between|recursion|"
    r"index out of range|unhashable|<class|full_key|object_type|[A-Z]\w+(Error|Exception|Warning)\b|must not be zero|"
    r"Config group override|not enough values|too many values|could not convert|invalid literal|<function|at 0x|"
    r"token recognition|mismatched input|extraneous|raised while resolving|Set the environment variable|cannot unpack"
)
HONEST = re.compile(r"^(diverged|solver_failed|out_of_memory|  refused): ", re.MULTILINE)  # what exit code 1 is for


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the lines are typed: with runs that are sound, torn, foreign and none."""
    root = tmp_path_factory.mktemp("lines") / "a" / "b"  # so that .. is a place of its own, too
    root.mkdir(parents=True)
    assert typed(*SMALL, cwd=root).returncode == 0
    shutil.copytree(run_folder(root), root / "run")
    shutil.rmtree(root / "outputs")
    few = ("task.train=2", "task.validation=2", "task.test=2", "task.points=12", "task.window=4", "task.horizon=1")
    assert typed("task=lotka_volterra", "model=exact", *few, "logger=none", cwd=root).returncode == 0
    shutil.copytree(run_folder(root / "outputs"), root / "exact")
    shutil.rmtree(root / "outputs")
    _spoil(root)
    return root


def _spoil(root: Path) -> None:
    damages = ("torn_record", "torn_weights", "no_weights", "no_overrides", "bad_overrides", "list_record")
    for name in (*damages, "lost_config", "no_rows", "running"):
        shutil.copytree(root / "run", root / name)
    record = (root / "run" / "record.json").read_text()
    (root / "torn_record" / "record.json").write_text(record[: len(record) // 2])
    weights = root / "torn_weights" / "checkpoints" / "best.pt"
    weights.write_bytes(weights.read_bytes()[:100])
    shutil.rmtree(root / "no_weights" / "checkpoints")
    shutil.rmtree(root / "no_overrides" / ".hydra")
    (root / "bad_overrides" / ".hydra" / "overrides.yaml").write_text("{a: [1")
    (root / "list_record" / "record.json").write_text("[1, 2]")
    (root / "lost_config" / "config.yaml").unlink()
    (root / "no_rows" / "metrics.jsonl").unlink()
    (root / "running" / "record.json").write_text(json.dumps({**json.loads(record), "status": "running"}))
    (root / "empty").mkdir()
    (root / "foreign").mkdir()
    (root / "foreign" / "notes.txt").write_text("not a run")
    (root / "a_file").write_text("no folder")
    (root / "conf" / "model").mkdir(parents=True)
    (root / "conf" / "model" / "mine.yaml").write_text("_target_: nowhere.Mine\n")


@pytest.fixture
def without_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is known to be possible counts as done: what a line means is settled by then."""

    def at_once(cell: object, trainer: object, plan: object, display: object, stop: object) -> None:
        plan.record.metrics = {"test/loss": 1.0}  # type: ignore[attr-defined]
        plan.record.cost = {"parameters": 1, "wall_seconds": 1.0, "peak_memory_bytes": 1}  # type: ignore[attr-defined]

    monkeypatch.setattr("ode_runner.training.run.train_and_test", at_once)
    monkeypatch.setattr("ode_runner.commands.dispatch.audit", lambda *_, **__: RunStatus.COMPLETED)  # takes seconds


@contextmanager
def limited() -> Iterator[list[str]]:
    """Of seconds and memory; what was exceeded is in the list."""
    exceeded: list[str] = []

    def too_long(*_: object) -> None:
        exceeded.append(f"more than {SECONDS} s")
        raise TimeoutError(f"more than {SECONDS} s")

    before, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * os.sysconf("SC_PAGE_SIZE") + GIGABYTES * 2**30, hard))
    handler = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield exceeded
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, (before, hard))


def faults(words: list[str], place: Path) -> list[str]:
    """What is wrong with how the program takes a line."""
    before, found = _folders(place), list[str]()
    with limited() as exceeded:
        try:
            ended = typed(*words, cwd=place)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            return [*exceeded, f"{type(error).__name__}: {error}"]
    found += exceeded
    made = _folders(place) - before
    if ended.returncode not in (0, 2) and not HONEST.search(ended.stdout):
        found.append(f"exit code {ended.returncode}")
    if raw := RAW.search(ended.stderr if ended.returncode == 0 else ended.stderr + ended.stdout):
        found.append(f"raw words: {raw[0]}")
    if ended.returncode == 2:
        found += _faults_of_a_refusal(words, ended, made)
    return [*found, ended.stderr, ended.stdout[-300:]] if found else []


def _folders(place: Path) -> set[Path]:
    return {path for path in place.rglob("*") if path.is_dir()}


def _faults_of_a_refusal(words: list[str], ended: Ended, made: set[Path]) -> list[str]:
    if "plan=true" in words and ended.stdout:
        return []  # the plan shows what is refused, and why
    found = []
    lines = [line for line in ended.stderr.splitlines() if not line.startswith("ode-run: warning: ")]
    sweep = any(re.match(r"-+m|grid=|search=|experiment=|\+*hydra[./]", word) for word in words)
    if not sweep and len(lines) != 1 or not lines:
        found.append(f"{len(lines)} lines")
    if not all(line.startswith("ode-run: ") for line in lines):
        found.append("a line that is not ode-run's")
    if any(len(line) > 1000 for line in lines):
        found.append("a long line")
    if made and not sweep:
        found.append(f"made {sorted(path.relative_to(path.parents[2]) for path in made)[0]}")
    return found


def _sound(numbers: range, place: Path) -> None:
    for i in numbers:
        words = command_line(0, i)
        wrong = faults(words, place)
        assert not wrong, f"line {i}: ode-run {shlex.join(words)}\n" + "\n".join(wrong)


@pytest.mark.usefixtures("without_training")
def test_no_line_ends_in_a_traceback_or_hangs(place: Path) -> None:
    _sound(QUICK, place)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("without_training")
def test_no_line_of_many_ends_in_a_traceback_or_hangs(place: Path) -> None:
    _sound(SLOW, place)


TINY_MOONS = (*TINY, "trainer.epochs=1", "logger=none")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("+solver=rk4",), "solver is chosen already. Type solver=NAME, without the +."),
        (("solver=adjoint",), "no solver named 'adjoint'. That is gradient=adjoint"),
        (("gradient=dopri5",), "That is solver=dopri5."),
        (("solver=RK4",), "Did you mean 'rk4'?"),
        (("schedule=none",), "That is schedule=constant here."),
        (("logger=comet",), "There is none: logger=[tensorboard,csv,mlflow,wandb] are there"),
        (("dry-run",), "cannot read 'dry-run'. That is plan=true here."),
        (("momentum=0.9",), "That is optimizer.momentum here."),
        (("evaluate=",), "evaluate= names no run folder"),
        (("audit=",), "audit= names no run folder"),
        (("-cd", "nowhere", "evaluate=x"), "no such folder"),
        (("-m", "trust=true,false"), "trust is the same for all cells"),
    ],
)
def test_what_comes_to_mind_is_answered_with_what_does_it(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    ended = typed(*words, cwd=tmp_path)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1), ended.stderr
    assert said in ended.stderr
    assert not list(tmp_path.iterdir())


def test_a_sweep_of_which_only_refused_cells_are_missing_is_refused(tmp_path: Path) -> None:
    assert typed("-m", *TINY_MOONS, "optimizer.lr=0.1,true", cwd=tmp_path).returncode == 2
    assert typed("-m", *TINY_MOONS, "seed=1,2", "optimizer.lr=-1", cwd=tmp_path).returncode == 2
