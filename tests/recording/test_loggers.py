"""Several loggers at once, each with what metrics.jsonl has."""

import csv
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import matplotlib
import pytest
from tensorboard.plugins.custom_scalar import layout_pb2

from ode_runner.loggers.csv import CsvLogger
from ode_runner.loggers.layout import layout
from ode_runner.loggers.several import Loggers
from ode_runner.recording.logger import MetricLogger
from tests.helpers import TINY, before_step, check_refused, record_of, rows_of, run_folder, typed
from tests.recording.test_logger import read_events

COMMAND = (*TINY, "trainer.epochs=2", "trainer.log_every=1", "trainer.save_every_seconds=0", "pictures=false")
NAMES = ("step", "epoch", "wall_seconds")


class Failing(MetricLogger):
    """A server that is gone after the first call."""

    remote: ClassVar[bool] = True

    def __init__(self) -> None:
        self.calls = 0

    def log(self, scalars: Mapping[str, float], *, step: int) -> None:
        self.calls += 1
        if self.calls > 1:
            raise ConnectionError("no route to host")

    def picture(self, name: str, png: bytes, *, step: int) -> None: ...

    def summary(self, hyperparameters: Mapping[str, Any], metrics: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


def table_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def check_same_numbers(folder: Path) -> None:
    """Each number of metrics.jsonl is in metrics.csv, once, to its last digit."""
    found = [
        (int(row["step"]), name, float(value))
        for row in table_of(folder)
        for name, value in row.items()
        if value and name != "step" and not name.startswith("test/")
    ]
    expected = [
        (row["step"], name, value) for row in rows_of(folder) for name, value in row.items() if name not in NAMES
    ]
    assert sorted(found) == sorted(expected)


def test_several_loggers_have_the_same_numbers(tmp_path: Path) -> None:
    assert typed(*COMMAND, "logger=[csv,tensorboard]", cwd=tmp_path).returncode == 0
    folder = run_folder(tmp_path)
    check_same_numbers(folder)
    assert table_of(folder)[-1]["test/accuracy"] == repr(record_of(tmp_path)["metrics"]["test/accuracy"])
    assert [event.step for event in read_events(folder).Scalars("train/loss")] == [1, 2, 3, 4, 5, 6]


@pytest.mark.slow
def test_a_resumed_table_has_every_step_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context():
        before_step(monkeypatch, 5, die)
        assert typed(*COMMAND, "logger=csv", cwd=tmp_path).returncode == 130
    monkeypatch.undo()
    with (run_folder(tmp_path) / "metrics.csv").open("a") as file:
        file.write("9,0.5,torn")  # logged after the last checkpoint, and cut off
    assert "resuming at step" in typed(*COMMAND, "logger=csv", cwd=tmp_path).stdout
    check_same_numbers(run_folder(tmp_path))


def test_a_quantity_that_comes_later_is_a_column_of_its_own(tmp_path: Path) -> None:
    logger = CsvLogger(tmp_path, first_step=0)
    logger.log({"a": 1.0}, step=1)
    logger.log({"b": float("nan"), "a": 0.1}, step=2)
    logger.log({"b": 2.0}, step=3)
    logger.close()
    assert (tmp_path / "metrics.csv").read_text() == "step,a,b\n1,1.0,\n2,0.1,nan\n3,,2.0\n"


def test_a_server_that_fails_ends_no_run(capsys: pytest.CaptureFixture[str]) -> None:
    failing, kept = Failing(), Failing()
    kept.calls = -9
    loggers = Loggers({"mine": failing, "other": kept})
    for step in range(3):
        loggers.log({"train/loss": 1.0}, step=step)
    loggers.close()
    assert (failing.calls, kept.calls) == (2, -6)
    said = "ode-run: logger=mine is left out from here on: ConnectionError: no route to host\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_one_that_is_not_installed_says_what_to_install(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    sentence = f"logger={name} needs {name}: pip install {name}, or leave it out"
    check_refused(f"logger=[tensorboard,{name}]", sentence=sentence, cwd=tmp_path)


def test_cards_show_training_and_validation_together_and_diagnostics_last(tmp_path: Path) -> None:
    tags = ["diagnostics/x", "eval/rmse", "train/loss", "nfe/forward", "eval/loss", "train/rmse", "nfe/eval", "test/a"]
    found = layout(tags)
    assert list(found) == ["quality", "evaluations", "diagnostics"]
    assert list(found["quality"]) == ["loss", "rmse"]
    assert found["quality"]["loss"] == ["Multiline", ["^train/loss$", "^eval/loss$"]]
    assert found["evaluations"] == {"evaluations per batch": ["Multiline", ["^nfe/eval$", "^nfe/forward$"]]}
    assert typed(*COMMAND, cwd=tmp_path).returncode == 0
    last = read_events(run_folder(tmp_path)).Tensors("custom_scalars__config__")[-1]
    shown = layout_pb2.Layout.FromString(last.tensor_proto.string_val[0])
    cards = {category.title: [chart.title for chart in category.chart] for category in shown.category}
    assert cards["quality"] == ["loss", "accuracy"]
    assert next(iter(cards)) == "quality"


@pytest.mark.slow
def test_wandb_keeps_a_run_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="needs wandb: pip install wandb")
    words = [word for word in COMMAND if word != "pictures=false"]
    command = (*words, "logger=[csv,wandb]", "logger.wandb.mode=offline")
    monkeypatch.delattr(matplotlib, "pyplot", raising=False)  # as in a process of its own
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)
    ended = typed(*command, cwd=tmp_path, pictures=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    [session] = run_folder(tmp_path).glob("wandb/offline-run-*")
    content = b"".join(path.read_bytes() for path in session.glob("*.wandb"))
    for name in (b"train/loss", b"eval/accuracy", b"test/accuracy", b"with.network.width"):
        assert name in content
    assert list(session.glob("files/media/images/plots/flow*.png"))
    check_same_numbers(run_folder(tmp_path))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of its libraries, among each other
def test_mlflow_has_curves_options_and_results_and_a_resumed_run_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="needs mlflow: pip install mlflow")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    command = (*COMMAND, "logger=mlflow", f"logger.mlflow.tracking_uri={uri}")

    def die() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context():
        before_step(monkeypatch, 5, die)
        assert typed(*command, cwd=tmp_path).returncode == 130
    monkeypatch.undo()
    client = mlflow.MlflowClient(tracking_uri=uri)
    [run] = client.search_runs([client.get_experiment_by_name("half_moons").experiment_id])
    assert run.info.status == "FAILED"
    assert typed(*command, cwd=tmp_path).returncode == 0
    [run] = client.search_runs([client.get_experiment_by_name("half_moons").experiment_id])
    assert (run.info.status, run.info.run_name) == ("FINISHED", run_folder(tmp_path).name)
    assert run.data.params["with.network.width"] == "4"
    steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "train/loss")]
    assert sorted(set(steps)) == [1, 2, 3, 4, 5, 6]
    assert run.data.metrics["final/test/accuracy"] == record_of(tmp_path)["metrics"]["test/accuracy"]
