"""A run that is completed says what it was not asked to show."""

from pathlib import Path

from tests.helpers import TINY, typed

ONCE = (*TINY, "trainer.epochs=1")
WORDS = ("logger=none", "pictures=false", *ONCE)


def test_a_completed_run_says_what_it_was_made_without(tmp_path: Path) -> None:
    """It showed the earlier result, and not a word of diagnostics."""
    typed(*WORDS, cwd=tmp_path)
    again = typed(*WORDS, "diagnostics=flow", "trainer.audit_every=1", cwd=tmp_path).stdout
    assert "already completed" in again
    assert "made without diagnostics=flow trainer.audit_every=1, so its results are missing: rerun=true" in again
    plain = typed("logger=csv", *ONCE, cwd=tmp_path).stdout
    assert "made without logger=csv pictures=true, so its results are missing" in plain
    made = typed(*WORDS, "trainer.summary=true", "rerun=true", cwd=tmp_path).stdout
    assert "made without" not in made
    assert "made without" not in typed(*WORDS, "trainer.summary=true", cwd=tmp_path).stdout
    assert "made without" not in typed(*WORDS, cwd=tmp_path).stdout, "fewer words ask for nothing"


def test_completed_cells_of_a_sweep_say_so_once(tmp_path: Path) -> None:
    words = ("-m", "seed=0,1", *WORDS)
    typed(*words, "sweep=one", cwd=tmp_path)
    again = typed(*words, "sweep=one", "diagnostics=flow", cwd=tmp_path).stdout
    assert again.count("2 completed cells: made without diagnostics=flow, so its results are missing") == 1
