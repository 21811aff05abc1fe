"""Remarks of a sweep's cells are printed once, also where its cells are run by other processes."""

import os
import subprocess
import sys
from pathlib import Path

from ode_runner.recording import repeated_remarks
from ode_runner.recording.repeated_remarks import MADE, each_once, is_first, summaries


def test_a_remark_is_told_once_by_all_processes_of_a_sweep() -> None:
    assert is_first("loss 3", of="a"), "there is no sweep"
    with each_once():
        told = f"import runpy; print(runpy.run_path({repeated_remarks.__file__!r})['is_first']('loss 3', of='a'))"
        ended = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
        assert ended.stdout == "True\n"
        assert not is_first("loss 4.5e-3", of="b"), "but for its numbers it is the same"
        assert is_first("another one, which goes on and on and on, and\ton and on", of="b")
        assert not is_first("another one, which goes on and on and on, and\ton and on", of="c")
        with each_once():
            assert is_first("loss 3", of="c"), "of a sweep of its own"
        numbers = "with numbers of their own: see their ode-run.log"
        assert summaries() == [
            f"the warning of a (loss 3) holds for 1 more, {numbers}",
            f"the warning of b (another one, which goes on and on and on, and...) holds for 1 more, {numbers}",
        ]
        folder = Path(os.environ[MADE])
    assert not folder.exists()
    assert summaries() == []
    assert is_first("loss 3", of="a")
