"""The trials of a search in their file: what they are compared by, and what is left of a process that ended."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from ode_runner.config.exit_codes import ExitCode, JobResult
from ode_runner.errors import RefusedInput
from ode_runner.recording.record import RunRecord
from ode_runner.sweeps.objectives import Objective
from ode_runner.sweeps.progress import Progress
from ode_runner.sweeps.search import _report
from ode_runner.sweeps.sweep_cell import CellState
from tests.reporting import write_run

optuna = pytest.importorskip("optuna", reason="needs optuna: pip install 'ode-run[search]'")
LOSS = Objective(name="eval/loss", direction=-1, of=lambda run: run.measurements.get("eval/loss"))


def study_in(folder: Path, names: str = "ab", seed: int = 3) -> Any:
    from ode_runner.sweeps.study import Study

    space = {name: optuna.distributions.FloatDistribution(0, 1) for name in names}
    return Study(
        folder, space=space, fixed=[], objectives={"eval/loss": -1},
        sampler=optuna.samplers.TPESampler, pruner=None, seed=seed,
    )  # fmt: skip


def proposed(study: Any) -> Any:
    [trial] = study.next(1, of=99, ended_its_process=lambda trial: False)
    return trial


@pytest.mark.slow
def test_trials_count_only_with_a_loss_of_one_meaning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The smaller losses are others: they were the best of the search, and nothing was said."""
    study = study_in(tmp_path)
    for loss, thing in ((2.0, "the error of eps"), (0.1, "the error of v"), (1.0, "the error of eps"), (0.2, "")):
        trial = proposed(study)
        measured = {"test/loss": thing, "eval/loss": thing} if thing else {}
        folder = write_run(tmp_path, f"{trial.number}", metrics={"eval/loss": loss}, measured_with=measured)
        cell: Any = SimpleNamespace(
            recorded=lambda at=folder: RunRecord.read(at), folder=folder, name=f"trial {trial.number}"
        )
        _report(trial, cell, study, [LOSS])
    assert [list(trial.values) for trial in study.front()] == [[1.0]]
    assert study.ended == 4
    said = capsys.readouterr().err.splitlines()
    assert [line.partition(" does not count")[0] for line in said] == ["ode-run: trial 1", "ode-run: trial 3"]
    assert "its eval/loss is the error of v, and is not comparable" in said[0]
    assert "which is the error of eps" in said[1]
    study.close()
    study_in(tmp_path).close()


@pytest.mark.slow
def test_a_trial_that_was_being_proposed_is_the_one_it_would_have_been(tmp_path: Path) -> None:
    from ode_runner.sweeps.study import storage_in

    found = []
    for place, values in (("whole", 2), ("begun", 0), ("half", 1)):
        (tmp_path / place).mkdir()
        study = study_in(tmp_path / place)
        study.tell(proposed(study), [1.0])
        if values < 2:  # the process ends before all values are stored
            with storage_in(tmp_path / place) as storage:
                asked = optuna.load_study(study_name=None, storage=storage, sampler=study._sampler(1)).ask()
                [asked.suggest_float(name, 0, 1) for name in "ab"[:values]]
        found.append(trial := proposed(study))
        study.tell(trial, [1.0])
        assert study.ended == 2
        assert proposed(study).number == 2
        study.close()
    assert list(found[0].params) == ["a", "b"]
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("content", ["garbage\n" * 200, None], ids=["damaged", "of another version"])
def test_a_file_that_cannot_be_used_is_refused_in_a_line(
    content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content is not None:
        (tmp_path / "search.db").write_text(content)
    else:
        monkeypatch.setattr(optuna, "create_study", Mock(side_effect=RuntimeError("table schema.\nUpgrade")))
    with pytest.raises(
        RefusedInput, match=r"search\.db, which .* cannot be used: (table|file).* Type rerun=all"
    ) as got:
        study_in(tmp_path)
    assert "\n" not in str(got.value)
    assert "SQL:" not in str(got.value)


def test_a_failed_trial_that_is_proposed_again_is_told_of_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def cell(name: str) -> Any:
        record = SimpleNamespace(status="failed", reason="not today", finished="9999")
        return SimpleNamespace(
            name=name, folder=tmp_path, recorded=lambda: record, result=None, state=CellState.RUN, overrides=[]
        )

    first, again = cell("trial 0"), cell("trial 1")
    progress = Progress(cells=[first, again], folder=tmp_path, expected=2)
    first.result = JobResult(ExitCode.FAILED, "failed", "not today")
    progress.tell([first])
    assert progress.still_due([again]) == []
    progress.close()
    said = capsys.readouterr().out
    assert "trial 1: failed, as trial 0" in said
    assert "another process" not in said
    assert said.count("not today") == 2, "as it ends, and in the list at the end"
