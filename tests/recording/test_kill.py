"""Fifty kills at random moments, typed again each time, cost nothing: the run ends as the one that was left alone."""

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.helpers import TINY, record_of, run_folder, started, typed
from tests.resuming import assert_equal, outcome

COMMAND = (
    *("trainer.epochs=60", "trainer.log_every=2", "trainer.save_every_seconds=0", "logger=tensorboard"),
    *("schedule=cosine", "trainer.max_grad_norm=1", "pictures=false", *TINY),
)
KILLS = 50


def progress(root: Path) -> int:
    """Whole lines of metrics.jsonl."""
    return sum(path.read_bytes().count(b"\n") for path in root.rglob("metrics.jsonl"))


def assert_whole(root: Path) -> None:
    """What lies there after a kill can be read: nothing is torn but, at most, the last line of metrics.jsonl."""
    for path in root.rglob("record.json"):
        assert json.loads(path.read_text())["status"] in ("running", "completed")
    for path in root.rglob("metrics.jsonl"):
        for line in path.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                json.loads(line)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_fifty_kills_at_random_moments_cost_nothing(tmp_path: Path) -> None:
    """Of one run after another, for each comes to its end at last."""
    draw, kills, runs = random.Random(11), 0, 0
    while kills < KILLS:
        kills += killed_to_its_end(tmp_path / str(runs), f"seed={runs}", draw, most=KILLS - kills)
        runs += 1


def killed_to_its_end(root: Path, seed: str, draw: random.Random, *, most: int) -> int:
    """Kill a run up to `most` times and compare what it comes to with the run left alone; returns how often."""
    alone, killed, reached, kills = root / "alone", root / "killed", 0, 0
    alone.mkdir(parents=True)
    killed.mkdir()
    assert typed(*COMMAND, seed, cwd=alone).returncode == 0
    while kills < most and killed_once(killed, seed, draw, after_a_step=kills % 2 == 1):
        kills += 1
        assert_whole(killed)
        lost = reached - progress(killed)
        assert lost <= 2, "what was saved is still there, but for a step or the end of an epoch, which writes two rows"
        reached = max(reached, progress(killed))
    assert typed(*COMMAND, seed, cwd=killed).returncode == 0
    assert record_of(killed)["status"] == "completed"
    assert_equal(outcome(killed), outcome(alone))
    assert files(killed) == files(alone)
    return kills


def killed_once(root: Path, seed: str, draw: random.Random, *, after_a_step: bool) -> bool:
    """Start, and kill at some moment from the start of Python on, or as files are written; False if it ended before."""
    process = started(*COMMAND, seed, cwd=root, heard=False, own_group=True)
    if after_a_step:
        before = progress(root)
        while process.poll() is None and progress(root) <= before:
            time.sleep(0.001)
        time.sleep(draw.uniform(0, 0.02))
    else:
        time.sleep(draw.uniform(0, 5))
    if process.poll() is not None:
        return False
    os.killpg(process.pid, signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def files(root: Path) -> set[str]:
    """Names of what a run leaves, TensorBoard's apart, which has a file for each session."""
    found = {path.name for path in run_folder(root).rglob("*") if path.is_file()}
    return {name for name in found if not name.startswith("events.out")}
