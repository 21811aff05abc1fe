"""Pictures while training, none at all, and the layers of a model: what watches a run changes nothing in it."""

import re
from pathlib import Path
from typing import Any

import pytest

from ode_runner.build import build_experiment
from ode_runner.building.run_identity import identify
from ode_runner.devices.random_state import RandomState
from ode_runner.experiment.layers import layers_of
from ode_runner.loggers.tensorboard import TensorBoardLogger
from tests.conftest import Compose
from tests.helpers import TINY, check_refused, record_of, rows_of, run_folder, typed

COMMAND = (*TINY, "trainer.epochs=4", "trainer.log_every=1", "solver=rk4", "solver.num_steps=2")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("plain")
    assert typed(*COMMAND, "logger=none", "pictures=false", cwd=root, pictures=True).returncode == 0
    return root


def losses_of(root: Path) -> list[float]:
    return [row["train/loss"] for row in rows_of(run_folder(root)) if "train/loss" in row]


def test_no_pictures_are_drawn_where_none_are_wanted(plain: Path) -> None:
    assert not (run_folder(plain) / "plots").exists()
    assert record_of(plain)["status"] == "completed"


@pytest.mark.slow
def test_pictures_while_training_are_at_their_steps_and_change_nothing(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[str, int]] = []
    monkeypatch.setattr(TensorBoardLogger, "picture", lambda self, name, figure, *, step: drawn.append((name, step)))
    words = ("trainer.pictures_every=2", "trainer.summary=true")
    ended = typed(*COMMAND, *words, cwd=tmp_path, pictures=True)
    assert [step for name, step in drawn if name == "decision_regions"] == [6, 12], "that of the end comes once"
    assert losses_of(tmp_path) == losses_of(plain)
    metrics = [record_of(root)["metrics"] for root in (tmp_path, plain)]
    assert metrics[0] == metrics[1]
    assert run_folder(tmp_path).name.rpartition("-")[2] == run_folder(plain).name.rpartition("-")[2]
    assert re.search(r"^  field\.layers\.0  Linear +4 x \d, 4 +\d+$", ended.stdout, re.MULTILINE)
    layers = {layer["name"]: layer for layer in record_of(tmp_path)["layers"]}
    assert layers["head"] == {
        "name": "head", "kind": "Linear", "weights": [[2, 2], [2]], "output": [20, 2], "parameters": 6
    }  # fmt: skip
    assert sum(layer["parameters"] for layer in layers.values()) == record_of(tmp_path)["cost"]["parameters"]


def test_what_is_asked_for_and_forbidden_at_once_is_refused(tmp_path: Path) -> None:
    for word in ("trainer.animate=true", "trainer.pictures_every=2"):
        check_refused("pictures=false", word, sentence="asks for pictures, and pictures=false for none", cwd=tmp_path)
    check_refused("pictures=none", sentence="pictures=none is neither true nor false", cwd=tmp_path)
    check_refused("evaluate=x", "pictures=false", sentence="pictures=false is for runs that train", cwd=tmp_path)


@pytest.mark.parametrize("cell", ["task=spiral_vae", "task=digits model=resnet", "task=density2d model=cnf"])
def test_layers_are_listed_without_a_trace(cell: str, composed: Compose) -> None:
    cfg: Any = composed(*cell.split(), "network.width=8") if "spiral" not in cell else composed(cell)
    experiment = build_experiment(cfg, cfg.hydra.runtime.choices)
    before = RandomState.now(experiment.device)
    layers = layers_of(experiment)
    assert sum(layer.parameters for layer in layers) == sum(p.numel() for p in experiment.parameters())
    assert any(layer.output for layer in layers)
    assert RandomState.now(experiment.device).same_as(before)
    assert not any(module._forward_hooks for module in experiment.model.modules())


def test_a_run_is_the_same_whatever_watches_it(composed: Compose) -> None:
    prints = set()
    for words in ((), ("pictures=false",), ("trainer.pictures_every=3", "trainer.summary=true"), ("logger=[csv]",)):
        cfg = composed(*TINY, *words)
        prints.add(identify(cfg, cfg.hydra.runtime.choices).fingerprint)
    assert len(prints) == 1
