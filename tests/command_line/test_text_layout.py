"""What is printed has no trailing blanks, and breaks no path that could stand whole."""

import sys
from pathlib import Path

import pytest
import torch

from ode_runner.experiment.per_sample_cost import report
from ode_runner.recording.display import Display
from ode_runner.recording.text_layout import aligned, with_folder
from ode_runner.tasks.base import PerSampleCost
from tests.helpers import TINY, run_folder, run_folders, typed
from tests.reporting import reported

FOLDER = Path("outputs/half_moons/odenet-dopri5-backprop-s0-0123456789ab")


def test_columns_are_aligned_and_end_with_their_text() -> None:
    rows = [["a", "1", "x"], ["bbb", "22", ""], ["c", "", ""]]
    assert aligned(rows) == ["a    1   x", "bbb  22", "c"]
    assert aligned(rows, right=(1,), gap=" ") == ["a    1 x", "bbb 22", "c"]


@pytest.mark.parametrize(("columns", "lines"), [(200, 1), (70, 2)])
def test_a_folder_has_a_line_of_its_own_where_it_would_be_broken(
    columns: int, lines: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(with_folder("half_moons · odenet · dopri5", FOLDER)) == 1, "no terminal"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", str(columns))
    said = with_folder("half_moons · odenet · dopri5", FOLDER)
    assert len(said) == lines
    assert str(FOLDER) in said[-1]


@pytest.mark.slow
def test_no_line_ends_in_blanks(tmp_path: Path) -> None:
    """Of a run, its revisits, an audit, a table with a difference of digits, and a comparison of two runs."""
    quick = ("trainer=quick", "trainer.max_steps=2", "logger=none", *TINY)
    first, folder = typed(*quick, cwd=tmp_path), run_folder(tmp_path).relative_to(tmp_path)
    revisit = typed(f"evaluate={folder}", "solver=euler", cwd=tmp_path)
    others = [typed(f"{way}={folder}", cwd=tmp_path) for way in ("audit", "predict")]
    typed(*quick, "seed=1", "solver=rk4", cwd=tmp_path)
    a, b = (str(folder.relative_to(tmp_path)) for folder in run_folders(tmp_path))
    table, difference = reported("outputs", cwd=tmp_path), reported("diff", a, b, cwd=tmp_path)
    typed("optimizer=sgd", "optimizer.lr=1e25", "trainer.epochs=9", "logger=none", *TINY, cwd=tmp_path)
    [evidence] = tmp_path.rglob("crash.pt")
    others.append(typed(f"replay={evidence.parent.relative_to(tmp_path)}", cwd=tmp_path))
    for ended in (first, revisit, *others, table, difference):
        assert ended.returncode in (0, 1), ended.stderr
        assert ended.stdout.strip()
        assert [line for line in ended.stdout.splitlines() if line != line.rstrip()] == []
    assert "  test accuracy         " in first.stdout
    assert "  NFE per test batch    " in revisit.stdout


@pytest.mark.parametrize("logger", ["none", "tensorboard"])
def test_tensorboard_is_pointed_to_where_it_has_something_to_show(logger: str, tmp_path: Path) -> None:
    words = ("trainer=quick", "trainer.max_steps=2", f"logger={logger}", *TINY)
    for ended in (typed(*words, cwd=tmp_path), typed(*words, cwd=tmp_path)):  # and where it is completed already
        assert ended.returncode == 0, ended.stderr
        assert ("tensorboard --logdir" in ended.stdout) == (logger == "tensorboard")
        assert "compare:    ode-report" in ended.stdout


class Unseen:
    """A task without pictures."""

    def figures_of_per_sample_cost(self, found: PerSampleCost) -> dict:
        return {}


@pytest.mark.parametrize(("tied", "listed"), [(5, True), (6, False)])
def test_the_hardest_are_listed_where_they_are_harder_than_the_others(
    tied: int, listed: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluations = torch.tensor([14.0, 20.0]).repeat_interleave(torch.tensor([10, tied]))
    found = PerSampleCost(
        evaluations=evaluations, accepted=evaluations, rejected=evaluations, labels=None, parts=["test"] * (10 + tied)
    )
    report(found, Unseen(), folder=tmp_path, display=Display(), logger=None)  # type: ignore[arg-type]
    said = capsys.readouterr().out
    assert f"most 20 ({tied} of {10 + tied}; all: " in said
    assert ("The hardest:" in said) == listed
    assert (len(said.splitlines()) > 1) == listed
