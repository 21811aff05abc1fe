"""Fifty kills at random moments, typed again each time, cost nothing: the run ends as the one that was left alone."""

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.helpers import TINY, record_of, run_folder, started, typed
from tests.test_resume import assert_equal, outcome

COMMAND = (
    *("trainer.epochs=60", "trainer.log_every=2", "trainer.save_every_seconds=0", "logger=tensorboard"),
    *("schedule=cosine", "trainer.max_grad_norm=1", *TINY),
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
    """Moments are drawn from the start of Python to well into training, so that some fall into every phase of a run."""
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    alone.mkdir()
    killed.mkdir()
    assert typed(*COMMAND, cwd=alone).returncode == 0
    draw, reached = random.Random(11), 0
    for kill in range(KILLS):
        process = started(*COMMAND, cwd=killed, heard=False, own_group=True)
        if kill % 2:  # at once after a step, which is when files are written
            before = progress(killed)
            while process.poll() is None and progress(killed) <= before:
                time.sleep(0.001)
            time.sleep(draw.uniform(0, 0.02))
        else:
            time.sleep(draw.uniform(0, 6))
        if process.poll() is not None:
            break  # it has come to its end between two kills
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert_whole(killed)
        assert progress(killed) >= reached - 1, "what was saved is still there, but for a step under way"
        reached = max(reached, progress(killed))
    assert typed(*COMMAND, cwd=killed).returncode == 0
    assert record_of(killed)["status"] == "completed"
    assert_equal(outcome(killed), outcome(alone))
    names = [{path.name for path in run_folder(root).rglob("*") if path.is_file()} for root in (alone, killed)]
    events = "events.out"
    assert {name for name in names[0] if not name.startswith(events)} == {
        name for name in names[1] if not name.startswith(events)
    }
