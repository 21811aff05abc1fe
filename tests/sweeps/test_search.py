"""A search proposes cells and learns from them, whatever some of them come to; the same command continues with it."""

import csv
import itertools
import json
import re
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from ode_runner.errors import RefusedInput
from ode_runner.recording.record import RunRecord, RunStatus
from ode_runner.sweeps.objectives import Objective
from ode_runner.sweeps.search import SearchSweeper, _report
from ode_runner.training.trainer import Trainer
from tests.helpers import TINY, before_step, options, run_folders, typed
from tests.reporting import write_run

TPESampler = pytest.importorskip("optuna.samplers", reason="needs optuna: pip install 'ode-run[search]'").TPESampler
QUICK = ("trainer=quick", "trainer.max_steps=2", "logger=none", "sweep=mine", *TINY)
SEARCH = ("-m", "hydra/sweeper=search", *QUICK)
STEPS = ("solver=rk4", "solver.num_steps=range(1,9)", "optimizer.lr=tag(log,interval(1e-3,1e-1))")


def records(root: Path) -> list[dict]:
    return [json.loads((folder / "record.json").read_text()) for folder in run_folders(root)]


def front(root: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((root / "outputs/sweeps/mine/front.csv").read_text().splitlines()))


def objectives(record: dict) -> tuple[float, float]:
    cost = record["cost"]
    return record["metrics"]["eval/accuracy"], cost["nfe_forward"] + cost["nfe_backward"]


def unbeaten(found: list[tuple[float, float]]) -> set[tuple[float, float]]:
    """By its definition: high accuracy, few evaluations."""
    return {
        (accuracy, nfe)
        for accuracy, nfe in found
        if not any(a >= accuracy and n <= nfe and (a, n) != (accuracy, nfe) for a, n in found)
    }


def test_trials_are_runs_and_the_same_command_goes_on_with_them(tmp_path: Path) -> None:
    ended = typed(*SEARCH, *STEPS, "hydra.sweeper.trials=3", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "[3/3] trial 2: solver.num_steps=" in ended.stdout
    assert len(re.findall(r"^\[./3\] .*  eval accuracy \d+\.\d+%  nfe \d+\S*  completed in", ended.stdout, re.M)) == 3
    assert "Pareto front of 3 trials, by eval/accuracy and nfe:" in ended.stdout
    found = [objectives(record) for record in records(tmp_path)]
    assert len({nfe for _, nfe in found}) > 1
    assert {(float(row["eval/accuracy"]), float(row["nfe"])) for row in front(tmp_path)} == unbeaten(found)
    for row in front(tmp_path):
        [record] = records(tmp_path / "outputs/sweeps/mine" / row["folder"])
        assert record["config"]["solver"]["num_steps"] == int(row["solver.num_steps"])
        assert record["config"]["optimizer"]["lr"] == float(row["optimizer.lr"])

    first = {folder: (folder / "record.json").read_bytes() for folder in run_folders(tmp_path)}
    before = front(tmp_path)
    again = typed(*SEARCH, *STEPS, "hydra.sweeper.trials=3", cwd=tmp_path)
    assert again.returncode == 0
    assert "completed in" not in again.stdout
    assert front(tmp_path) == before
    more = typed(*SEARCH, *STEPS, "hydra.sweeper.trials=4", cwd=tmp_path)
    assert "[1/1] trial 3: " in more.stdout
    assert len(run_folders(tmp_path)) == 4, "proposed anew, not what the first session proposed"
    assert all((folder / "record.json").read_bytes() == content for folder, content in first.items())
    other = typed(*SEARCH, "solver=euler,rk4", "hydra.sweeper.objectives=[objective]", cwd=tmp_path)
    assert other.returncode == 2
    assert "outputs/sweeps/mine holds another search. Choose another name for this one by sweep=NAME." in other.stderr


@pytest.mark.slow
def test_a_trial_broken_off_is_the_first_to_be_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context():
        before_step(monkeypatch, 2, lambda: signal.raise_signal(signal.SIGINT))
        ended = typed(*SEARCH, *STEPS, "hydra.sweeper.trials=2", cwd=tmp_path)
    assert ended.returncode == 130
    assert "none of 0 trials has come to a result" in ended.stdout
    monkeypatch.undo()
    again = typed(*SEARCH, *STEPS, "hydra.sweeper.trials=2", cwd=tmp_path)
    assert again.returncode == 0
    assert "[1/2] trial 0: " in again.stdout
    assert "resuming at step 2" in again.stdout
    assert [record["status"] for record in records(tmp_path)] == ["completed"] * 2


def in_turn(sampler: object, study: object, trial: Any, name: str, values: Any) -> Any:
    """One choice after another, whatever chance may say."""
    return values.choices[trial.number % len(values.choices)]


@pytest.mark.slow
def test_trials_that_fail_or_cannot_be_cost_the_search_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_step = Trainer.train_step

    def fails_on_one(self: Trainer, *positional: object, **named: object) -> object:
        if type(self.integrator.solver).__name__ == "Heun":
            raise RuntimeError("not today")
        return train_step(self, *positional, **named)

    monkeypatch.setattr(Trainer, "train_step", fails_on_one)
    monkeypatch.setattr(TPESampler, "sample_independent", in_turn)
    space = ("model=rknet", "solver=rk4,dopri5,heun", "solver.num_steps=2", "hydra.sweeper.trials=3")
    ended = typed(*SEARCH, *space, cwd=tmp_path)
    assert ended.returncode == 0
    assert "ode-run: skipped: no option 'solver.num_steps'" in ended.stderr, "of dopri5, which has none"
    assert "  failed: trial 2: solver=heun: RuntimeError: not today" in ended.stdout
    assert {row["solver"] for row in front(tmp_path)} == {"rk4"}
    ended = typed(*SEARCH, "model=rknet", "solver=dopri5,bosh3", "sweep=other", "hydra.sweeper.trials=2", cwd=tmp_path)
    assert ended.returncode == 1
    assert "ode-run: skipped: model=rknet takes a fixed-step" in ended.stderr
    assert "none of 2 trials has come to a result" in ended.stdout
    assert "incompatible" in {record["status"] for record in records(tmp_path / "outputs/sweeps/other")}


PRUNING = (
    *("-m", "hydra/sweeper=search", "hydra.sweeper.objectives=[objective]", "sweep=mine", "logger=none", *TINY),
    *("pictures=false", "solver=euler", "solver.num_steps=1", "trainer.epochs=1,3"),
    "hydra.sweeper.pruner={_target_: optuna.pruners.ThresholdPruner, lower: 2}",  # which no accuracy reaches
)


@pytest.mark.slow
def test_a_trial_that_is_ended_early_counts_and_can_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TPESampler, "sample_independent", in_turn)
    with monkeypatch.context() as patch:
        before_step(patch, 2, lambda: signal.raise_signal(signal.SIGINT))
        assert typed(*PRUNING, "hydra.sweeper.trials=2", cwd=tmp_path).returncode == 130
    ended = typed(*PRUNING, "hydra.sweeper.trials=2", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "trial 1: trainer.epochs=3  pruned: after epoch 1, at accuracy " in ended.stdout
    assert "1 completed · 1 pruned" in ended.stdout
    assert "the best of 2 trials (1 pruned), by eval/accuracy:" in ended.stdout
    assert [row["trainer.epochs"] for row in front(tmp_path)] == ["1"], "which is over when the pruner could be asked"
    [pruned] = [
        folder
        for folder in run_folders(tmp_path)
        if json.loads((folder / "record.json").read_text())["status"] == "pruned"
    ]
    record = json.loads((pruned / "record.json").read_text())
    assert (record["status"], record["metrics"]) == ("pruned", {})

    again = typed(*PRUNING, "hydra.sweeper.trials=2", cwd=tmp_path)
    assert again.returncode == 0
    assert "pruned: after" not in again.stdout, "the study knows of it"
    words = (pruned / ".hydra/overrides.yaml").read_text().replace("- sweep=mine\n", "").split("\n")
    alone = typed(f"hydra.run.dir={pruned}", *(word.removeprefix("- ") for word in words if word), cwd=tmp_path)
    assert alone.returncode == 0, alone.stderr
    assert "resuming at step " in alone.stdout
    assert json.loads((pruned / "record.json").read_text())["status"] == "completed"


@pytest.mark.slow
@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_a_search_with_a_pruner_that_is_interrupted_comes_to_the_same(
    pruner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trials ended early are the same ones, after the same epochs, and the best is the same."""
    search = (
        *("-m", "hydra/sweeper=search", "hydra.sweeper.objectives=[objective]", "sweep=mine", "logger=none", *TINY),
        *("pictures=false", "solver=euler", "solver.num_steps=2", "trainer.epochs=5", "hydra.sweeper.trials=14"),
        *("optimizer.lr=tag(log,interval(1e-6,1e-1))", f"hydra.sweeper.pruner={pruner}"),
    )
    for place in ("whole", "parted"):
        (tmp_path / place).mkdir()
    assert typed(*search, cwd=tmp_path / "whole").returncode == 0
    with monkeypatch.context() as patch:
        steps = itertools.count()
        train_step = Trainer.train_step

        def interrupted(self: Trainer, *positional: object, **named: object) -> object:
            if next(steps) == 100:  # during the seventh trial or so
                signal.raise_signal(signal.SIGINT)
            return train_step(self, *positional, **named)

        patch.setattr(Trainer, "train_step", interrupted)
        assert typed(*search, cwd=tmp_path / "parted").returncode == 130
    assert typed(*search, cwd=tmp_path / "parted").returncode == 0
    both = [
        {
            record["config"]["optimizer"]["lr"]: (record["status"], record["reason"].partition(" at step")[0],
                                                  record["metrics"].get("eval/accuracy"))
            for record in records(tmp_path / place)
        }
        for place in ("whole", "parted")
    ]  # fmt: skip
    assert {status for status, *_ in both[0].values()} == {"completed", "pruned"}
    assert len(both[0]) == 14
    assert both[0] == both[1]
    assert front(tmp_path / "whole") == front(tmp_path / "parted")


def test_what_is_validated_by_another_number_is_compared_with_none(tmp_path: Path) -> None:
    from optuna.pruners import ThresholdPruner

    from ode_runner.errors import Pruned
    from ode_runner.sweeps.pruning import PrunableTrial
    from ode_runner.sweeps.study import Study

    study = Study(tmp_path, space={}, fixed=[], objectives={"eval/rmse": -1}, sampler=TPESampler, pruner=None, seed=0)
    [asked] = study.next(1, of=1, ended_its_process=lambda trial: False)
    trial = PrunableTrial(tmp_path, number=asked.number, chosen_by=ThresholdPruner(upper=0.5))
    trial.judge("accuracy", 0.9, epoch=1)
    trial.judge("rmse", 0.4, epoch=1)
    with pytest.raises(Pruned, match="after epoch 2, at rmse 0.6"):
        trial.judge("rmse", 0.6, epoch=2)
    study.tell_pruned(asked)
    assert (study.ended, study.pruned, study.front()) == (1, 1, [])
    study.close()


def test_a_pruner_needs_trials_that_write_to_one_file() -> None:
    from ode_runner.sweeps.launchers import JOBLIB_LAUNCHER
    from ode_runner.sweeps.objectives import Objective, check_prunable

    rmse = Objective(name="eval/rmse", direction=-1, of=lambda run: None)
    check_prunable([rmse], rmse, launcher=JOBLIB_LAUNCHER)
    with pytest.raises(RefusedInput, match="needs trials on this machine"):
        check_prunable([rmse], rmse, launcher="hydra_plugins.hydra_ray_launcher.ray_launcher.RayLauncher")


@pytest.mark.slow  # together; none by itself
@pytest.mark.parametrize("name", options("search"))
def test_every_preset_proposes_cells_that_can_be(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proposed = []
    monkeypatch.setattr(SearchSweeper, "run", lambda self, cells, progress: proposed.extend(cells))
    ended = typed(f"search={name}", "hydra.sweeper.trials=1", cwd=tmp_path)
    assert [str(cell.state) for cell in proposed] == ["will run"], ended.stderr
    assert {cell.choices["task"] for cell in proposed} == {name}
    assert ended.returncode == 1, "none of them was run"


def test_planning_a_search_starts_nothing(tmp_path: Path) -> None:
    ended = typed("search=digits", "plan=true", "hydra.sweeper.objectives=[objective,cost/saved_bytes]", cwd=tmp_path)
    assert ended.returncode == 0
    assert "among   tolerance: tag(log,interval(1e-4,1e-1))" in ended.stdout
    assert "highest eval/accuracy\nlowest  cost/saved_bytes\n" in ended.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("space", "sentence"),
    [
        (("network.width=interval(9,1)",), "network.width=interval(9,1): "),
        (("seed=0",), "a search is for one task, among several values of an option"),
        (("task=digits,half_moons",), "a search is for one task"),
        (("seed=0,1", "hydra.sweeper.objectives=[optim/lr]"), "is 'optim/lr' better high or low?"),
        (("seed=0,1", "hydra.sweeper.objectives=[test/accuracy]"), "sees 'test/accuracy'"),
        (
            ("seed=0,1", "hydra.sweeper.objectives=[class_accuracy]"),
            "reached by a model that generates only the mean image",
        ),
        (("seed=0,1", "hydra.sweeper.pruner=median"), "this search is for [eval/accuracy,nfe]. Use hydra.sweeper."),
        (
            ("seed=0,1", "hydra.sweeper.pruner=mean", "hydra.sweeper.objectives=[objective]"),
            "pruner=mean is no pruner.",
        ),
        (("seed=0,1", "hydra.sweeper.objectives=[nfe,nfe]"), "names nfe twice"),
        (("task=density2d", "task.name=checkerboard,pinwheel"), "and task.name makes other data"),
        (("model=resnet", "seed=0,1"), "model=resnet evaluates no field, and so has no nfe"),
        (("seed=0,1", "hydra.sweeper.trials=0"), "hydra.sweeper.trials=0 is no whole number from 1 on"),
    ],
)
def test_what_cannot_be_searched_is_refused_in_a_line(space: tuple[str, ...], sentence: str, tmp_path: Path) -> None:
    ended = typed("-m", "hydra/sweeper=search", *space, cwd=tmp_path)
    assert ended.returncode == 2
    assert sentence in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert not list(tmp_path.rglob("record.json"))


def test_values_typed_in_hydras_grammar_are_what_optuna_gets() -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    from ode_runner.sweeps.study import distribution

    parse = OverridesParser.create().parse_override
    for word, expected in {
        "a=x,y": CategoricalDistribution(["x", "y"]),
        "a=interval(0,1)": FloatDistribution(0.0, 1.0),
        "a=int(interval(1,9))": IntDistribution(1, 9),
        "a=tag(log,interval(1e-3,1))": FloatDistribution(1e-3, 1.0, log=True),
        "a=range(16,65,16)": IntDistribution(16, 64, step=16),
        "a=range(0.5,2.0,0.5)": FloatDistribution(0.5, 1.5, step=0.5),
    }.items():
        assert distribution(parse(word)) == expected, word
    with pytest.raises(RefusedInput, match="a=tag"):
        distribution(parse("a=tag(log,interval(0,1))"))


def test_a_study_is_told_what_became_of_each_trial() -> None:
    told: list[object] = []
    study: Any = SimpleNamespace(
        tell=lambda trial, values: told.append(values), tell_pruned=lambda trial: told.append("pruned")
    )
    for status in (RunStatus.PRUNED, RunStatus.DIVERGED, None):
        record = None if status is None else SimpleNamespace(status=status)
        cell: Any = SimpleNamespace(recorded=lambda record=record: record)
        _report(Mock(), cell, study, [])
    _report(Mock(), None, study, [])
    assert told == ["pruned", None, None, None]


@pytest.mark.parametrize(
    ("invalid", "others", "why"),
    [
        ({}, "a bound", ""),
        ({"eval/nll": "is not that of a density"}, "a bound", "its eval/nll is not that of a density"),
        (
            {},
            "an estimate",
            "its eval/nll is a bound, and is not comparable with that of the first trial with a result",
        ),
        ({}, "", "which is the task's own"),
    ],
)
def test_a_trial_whose_objective_is_another_number_does_not_count(
    invalid: dict[str, str], others: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = {"test/nll": "a bound"}
    folder = write_run(tmp_path, "trial", metrics={"eval/nll": 2.0}, invalid=invalid, measured_with=measured)
    cell: Any = SimpleNamespace(recorded=lambda: RunRecord.read(folder), folder=folder, name="trial")
    study, wanted = Mock(), Objective(name="eval/nll", direction=-1, of=lambda run: run.measurements.get("eval/nll"))
    study.measured_with.return_value = {"eval/nll": others} if others else {}
    _report(Mock(), cell, study, [wanted])
    assert study.tell.call_args.args[1] == (None if why else [2.0])
    said = capsys.readouterr().err
    assert (said.startswith("ode-run: trial does not count: ") and why in said) if why else not said
