"""Options that are typed twice."""

from pathlib import Path

import pytest

import ode_runner as ode
from ode_runner.config.repeated_options import last_of_each
from tests.helpers import TINY, exactly_typed

CASES = {
    "seed=1 seed=2": ("seed=2", "seed=1 is not used, because seed=2 is typed after it"),
    "+optimizer.eps=1 seed=1 +optimizer.eps=2": ("seed=1 +optimizer.eps=2", "+optimizer.eps=1 is not used, because"),
    "seed=1 task=digits seed=1": ("task=digits seed=1", ""),
    "trainer.epochs=1 trainer.epochs=2 trainer.epochs=1": ("trainer.epochs=1", "trainer.epochs=2 is not used"),
    "task=digits task=mnist": ("task=digits task=mnist", ""),
    "solver@solver.base=rk4 solver@solver.base=heun": ("solver@solver.base=rk4 solver@solver.base=heun", ""),
    "seed=0,1 seed=2": ("seed=0,1 seed=2", ""),
    "seed=range(1,9,0) seed=2": ("seed=range(1,9,0) seed=2", ""),
    "+seed=1 seed=2": ("+seed=1 seed=2", ""),
    "logger=[csv,none] logger=none": ("logger=[csv,none] logger=none", ""),
}


@pytest.mark.parametrize(("command", "found"), CASES.items(), ids=CASES)
def test_the_later_one_is_used_and_a_sentence_says_so(command: str, found: tuple[str, str]) -> None:
    kept, says = found
    overrides, remarks = last_of_each(command.split())
    assert " ".join(overrides) == kept
    assert [remark[: len(says)] for remark in remarks] == ([says] if says else [])


def test_a_command_and_a_notebook_say_so(tmp_path: Path) -> None:
    done = exactly_typed("seed=1", *TINY, "seed=2", "plan=true", cwd=tmp_path)
    assert "ode-run: seed=1 is not used, because seed=2 is typed after it.\n" in done.stderr
    assert "seed 2" in done.stdout
    with pytest.warns(UserWarning, match=r"^seed=1 is not used"):
        run = ode.train(*TINY, "trainer.epochs=1", "seed=1", "seed=2", f"output_dir={tmp_path}")
    assert "-s2-" in run.folder.name
