"""Helpers of several test modules. `typed` runs the program in this process, without starting Python."""

import contextlib
import io
import itertools
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch

from ode_runner.cli import main
from ode_runner.config.help import conf_dir
from ode_runner.experiment.experiment import Experiment
from ode_runner.recording.log_file import LogFile
from ode_runner.training.trainer import Trainer

TINY = ("network.width=4", "task.train=60", "task.validation=20", "task.test=20", "trainer.batch_size=20")


@cache
def options(group: str) -> tuple[str, ...]:
    """Every choice of a group. The yaml folder is the registry, so that new choices are tested without further code."""
    return tuple(sorted(path.stem for path in (conf_dir() / group).glob("*.yaml")))


def own_models(root: Path, module: str, source: str, *classes: str) -> None:
    """Write a user's own models into a folder, to be chosen by `-cd conf model=NAME` with lower-case names."""
    choices = root / "conf" / "model"
    choices.mkdir(parents=True)
    (root / f"{module}.py").write_text(source)
    for name in classes:
        (choices / f"{name.lower()}.yaml").write_text(f"_target_: {module}.{name}\n")


def ode_run(
    *arguments: str, cwd: Path, env: Mapping[str, str] | None = None, timeout: float = 240
) -> subprocess.CompletedProcess[str]:
    """Run the installed program as a user does, on one thread, so that tests can run in parallel."""
    environment = {**_single_threaded(), **(env or {})}
    return subprocess.run(
        [_script(), *latest(arguments)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout
    )


def started(*arguments: str, cwd: Path, heard: bool = True, own_group: bool = False) -> subprocess.Popen[str]:
    """Start the installed program without waiting; `heard`: its output and errors are readable from one pipe."""
    return subprocess.Popen(
        [_script(), *latest(arguments)],
        cwd=cwd,
        env=_single_threaded(),
        stdout=subprocess.PIPE if heard else subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=own_group,
    )


def latest(words: Sequence[str]) -> list[str]:
    """The words with only the last one for each option, so that tests can add theirs to common words."""
    last = {word.lstrip("+").partition("=")[0]: word for word in words if "=" in word}
    return [word for word in words if "=" not in word or last[word.lstrip("+").partition("=")[0]] is word]


def _script() -> str:
    return str(Path(sys.executable).with_name("ode-run"))


def _single_threaded() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The exit code and output of a command."""

    returncode: int
    stdout: str
    stderr: str


def typed(*arguments: str, cwd: Path, pictures: bool = False) -> Ended:
    """Run `ode-run arguments` in `cwd`, in this process and on one thread; pictures would take most of the time."""
    return exactly_typed(*latest(arguments), cwd=cwd, pictures=pictures)


def exactly_typed(*arguments: str, cwd: Path, pictures: bool = False) -> Ended:
    """As `typed`, but keeps options that are typed twice."""
    out, err = _terminal("strict"), _terminal("backslashreplace")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with (
            patch.object(sys, "argv", ["ode-run", *arguments]),
            patch.object(sys, "path", list(sys.path)),
            patch("ode_runner.cli.end_without_collecting"),  # this process goes on
            contextlib.nullcontext() if pictures else patch("ode_runner.training.train_and_test.draw", _no_pictures),
            contextlib.nullcontext() if pictures else patch("ode_runner.recording.pictures._saved", lambda *_: []),
            contextlib.chdir(cwd),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.raises(SystemExit) as ended,
        ):
            main()
    finally:
        torch.set_num_threads(threads)
        _forget_log()
    code = ended.value.code
    assert isinstance(code, int)
    return Ended(returncode=code, stdout=_shown(out), stderr=_shown(err))


def _forget_log() -> None:
    """Remove the log handler: Hydra configures logging once per process, and the next command has another folder."""
    for handler in [one for one in logging.root.handlers if isinstance(one, LogFile)]:
        logging.root.removeHandler(handler)
        handler.close()
    logging.root.setLevel(logging.WARNING)


def _terminal(errors: str) -> io.TextIOWrapper:
    """A stream like that of a terminal, which with errors="strict" does not accept lone surrogates."""
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors=errors, newline="", write_through=True)


def _shown(terminal: io.TextIOWrapper) -> str:
    terminal.seek(0)
    return terminal.read()


def _no_pictures(*positional: object, **named: object) -> None:
    """Replaces drawing; a Mock would keep every model with which it was called."""


def run_folders(root: Path) -> list[Path]:
    """Every run folder under `root`."""
    return sorted(path.parent for path in root.rglob("record.json"))


def predicted(folder: Path, name: str) -> Path:
    """The newest file of this name that predict= has written in the folder of a run."""
    return max(folder.glob(f"predictions/*/{name}"), key=lambda path: path.stat().st_mtime_ns)


def run_folder(root: Path) -> Path:
    """The only run folder under `root`."""
    [folder] = run_folders(root)
    return folder


def record_of(root: Path) -> dict:
    """The only record under `root`."""
    return json.loads((run_folder(root) / "record.json").read_text())


def rows_of(folder: Path) -> list[dict[str, float]]:
    """The rows of metrics.jsonl."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def before_step(monkeypatch: pytest.MonkeyPatch, step: int, action: Callable[[], object]) -> None:
    """Call `action` before a training step of a run made by `typed`."""
    train_step = Trainer.train_step

    def eventful(self: Trainer, *positional: object, **named: object) -> object:
        if self.step + 1 == step:
            action()
        return train_step(self, *positional, **named)

    monkeypatch.setattr(Trainer, "train_step", eventful)


def in_evaluation(monkeypatch: pytest.MonkeyPatch, nth: int, action: Callable[[], object]) -> None:
    """Call `action` at the beginning of the nth evaluation of a run made by `typed`."""
    evaluate, calls = Experiment.evaluate, itertools.count(1)

    def eventful(self: Experiment, *positional: Any) -> dict[str, float]:
        if next(calls) == nth:
            action()
        return evaluate(self, *positional)

    monkeypatch.setattr(Experiment, "evaluate", eventful)


def check_refused(*words: str, sentence: str, cwd: Path) -> None:
    """Check that a command is refused in one line that contains `sentence`, and leaves no run folder."""
    ended = typed(*words, cwd=cwd)
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert re.search(sentence, ended.stderr)
    assert ended.stderr.count("\n") == 1
    assert run_folders(cwd) == []


def rows_compiled_and_not(*words: str, cwd: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Pairs of training rows of a run, compiled and not, in double precision; checks that the first is compiled."""
    ended = []
    for wish in ("on", "off"):
        (cwd / wish).mkdir()
        run = typed(*words, "trainer.precision=fp64", f"trainer.compile={wish}", cwd=cwd / wish)
        assert run.returncode == 0, run.stderr
        ended.append([row for row in rows_of(run_folder(cwd / wish)) if "train/loss" in row])
    assert record_of(cwd / "on")["cost"]["compile_seconds"] is not None
    yield from zip(*ended, strict=True)
