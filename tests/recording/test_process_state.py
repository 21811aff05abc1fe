"""What a cell's code changes in the process it runs in does not reach the next cell."""

import json
import locale
import logging
import os
import random
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch

from ode_runner.experiment.process_state import unchanged
from tests.helpers import TINY, own_models, record_of, run_folders, typed

CHANGES: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {  # how it is read, and how changed
    "default dtype": (torch.get_default_dtype, lambda: torch.set_default_dtype(torch.float64)),
    "default device": (torch.get_default_device, lambda: torch.set_default_device("meta")),
    "gradients": (torch.is_grad_enabled, lambda: torch.set_grad_enabled(False)),
    "deterministic": (torch.are_deterministic_algorithms_enabled, lambda: torch.use_deterministic_algorithms(True)),
    "matmul": (torch.get_float32_matmul_precision, lambda: torch.set_float32_matmul_precision("medium")),
    "anomalies": (torch.is_anomaly_enabled, lambda: torch.autograd.set_detect_anomaly(True)),
    "autocast": (lambda: torch.is_autocast_enabled("cpu"), lambda: torch.set_autocast_enabled("cpu", True)),
    "threads": (torch.get_num_threads, lambda: torch.set_num_threads(torch.get_num_threads() + 1)),
    "cudnn": (
        lambda: torch.backends.cudnn.deterministic,
        lambda: setattr(torch.backends.cudnn, "deterministic", not torch.backends.cudnn.deterministic),
    ),
    "torch's random numbers": (lambda: torch.get_rng_state().sum().item(), lambda: torch.rand(1)),
    "python's random numbers": (random.getstate, random.random),
    "numpy's random numbers": (lambda: np.random.get_state()[2], lambda: np.random.rand()),
    "numpy's errors": (np.geterr, lambda: np.seterr(all="raise")),
    "working directory": (os.getcwd, lambda: os.chdir("/")),
    "environment, added": (lambda: dict(os.environ), lambda: os.environ.update(ADDED="1")),
    "environment, removed": (lambda: dict(os.environ), lambda: os.environ.pop("HOME")),
    "search path": (lambda: list(sys.path), lambda: sys.path.insert(0, "somewhere")),
    "arguments": (lambda: list(sys.argv), lambda: setattr(sys, "argv", [])),
    "output": (lambda: sys.stdout, lambda: setattr(sys, "stdout", sys.stderr)),
    "recursion": (sys.getrecursionlimit, lambda: sys.setrecursionlimit(4000)),
    "warnings": (lambda: list(warnings.filters), lambda: warnings.simplefilter("ignore", ResourceWarning)),
    "logging": (lambda: logging.root.manager.disable, lambda: logging.disable(logging.CRITICAL)),
    "matplotlib": (lambda: matplotlib.rcParams["font.size"], lambda: matplotlib.rcParams.update({"font.size": 3})),
    "locale": (lambda: locale.setlocale(locale.LC_ALL), lambda: locale.setlocale(locale.LC_ALL, "C.UTF-8")),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_changed_inside_is_outside_as_it_was(name: str) -> None:
    read, change = CHANGES[name]
    with unchanged():
        before = read()
        with unchanged():
            change()
            changed = read()
        assert read() == before
    assert changed != before or name == "locale", "of which a machine may have no other"


def test_a_folder_that_is_moved_meanwhile_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "before").mkdir()
    monkeypatch.chdir(tmp_path / "before")
    with unchanged():
        os.chdir(tmp_path)
        (tmp_path / "before").rename("after")
    assert Path.cwd() == tmp_path / "after"


MEDDLING = """
import os
import torch
from ode_runner.models.depth.odenet import ODENet

class Meddles(ODENet):
    def evolve(self, y0, ts, integrate):
        if self.training:
            os.makedirs("elsewhere", exist_ok=True)
            os.chdir("elsewhere")
            torch.set_default_dtype(torch.float64)
        return super().evolve(y0, ts, integrate)
"""


def test_a_cell_that_meddles_harms_neither_itself_nor_the_next(tmp_path: Path) -> None:
    own_models(tmp_path, "meddling", MEDDLING, "Meddles")
    quick = ("trainer=quick", "trainer.max_steps=1", "logger=none", *TINY)
    ended = typed("-cd", "conf", "-m", "model=meddles,odenet", *quick, cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout
    meddler, model = (json.loads((folder / "record.json").read_text()) for folder in run_folders(tmp_path))
    assert [meddler["choices"]["model"], model["choices"]["model"]] == ["meddles", "odenet"]
    assert not list((tmp_path / "elsewhere").iterdir())
    (alone := tmp_path / "alone").mkdir()
    typed("model=odenet", *quick, cwd=alone)
    assert record_of(alone)["metrics"] == model["metrics"]
