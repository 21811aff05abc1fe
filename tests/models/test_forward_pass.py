"""Models that differentiate inside: by torch.func, which torch forbids while saved bytes are measured."""

import csv
import json
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch

from ode_runner.experiment.forward_pass import UNMEASURED, ForwardPass
from ode_runner.experiment.meters import SavedBytes
from tests.helpers import TINY, before_step, own_models, rows_of, run_folders, typed
from tests.resuming import assert_equal

SOURCE = """
import torch
from torch import nn

from ode_runner.field import VectorField
from ode_runner.models.base import Model, Numerics


class Energy(VectorField):
    def __init__(self, way):
        super().__init__()
        self.energy, self.way = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1)), way
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, t, y):
        if not torch._C._functorch.is_functorch_wrapped_tensor(y):
            self.calls = self.calls + 1
        slope = getattr(self, self.way)(y)
        q, p = slope.chunk(2, dim=1)
        return torch.cat([p, -q], dim=1)

    def total(self, one):
        return self.energy(one).sum()

    def grad(self, y):
        return torch.func.vmap(torch.func.grad(self.total))(y)

    def vjp(self, y):
        value, pull = torch.func.vjp(self.energy, y)
        return pull(torch.ones_like(value))[0]

    def jacrev(self, y):
        return torch.func.vmap(torch.func.jacrev(self.total))(y)

    def autograd(self, y):
        with torch.enable_grad():
            place = y if y.requires_grad else y.detach().requires_grad_()
            return torch.autograd.grad(self.total(place), place, create_graph=True)[0]


class Hamiltonian(Model):
    numerics = Numerics.ANY

    def __init__(self, network, way="grad", dropout=0.0):
        super().__init__(network)
        self.stem = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(dropout))
        self.field, self.head = Energy(way), network.head()

    def evolve(self, y0, ts, integrate):
        return integrate(self.field, y0, ts)
"""
SMALL = (
    *("-cd", "conf", "model=hamiltonian", "solver=rk4", "trainer.epochs=1", "trainer.log_every=1", "logger=none"),
    *("+model.dropout=0.3", *TINY),
)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    own_models(tmp_path, "energies", SOURCE, "Hamiltonian")
    return tmp_path


def trained(root: Path, *arguments: str) -> dict[str, Any]:
    """What three steps come to, and what was said; of the only run, or of the last."""
    ended = typed(*SMALL, *arguments, cwd=root)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    folder = max(run_folders(root), key=lambda path: (path / "record.json").stat().st_mtime_ns)
    state = torch.load(folder / "checkpoints" / "last.pt", weights_only=True)["state"]
    return {
        "record": json.loads((folder / "record.json").read_text()),
        "rows": rows_of(folder),
        "state": state,
        "said": ended.stdout,
    }


@pytest.mark.parametrize("way", ["grad", "vjp", "jacrev"])
def test_torch_still_says_in_these_words_that_it_forbids_it(way: str) -> None:
    of_sum = partial(torch.func.vjp, torch.sum) if way == "vjp" else getattr(torch.func, way)(torch.sum)
    with SavedBytes([]), pytest.raises(RuntimeError) as caught:
        of_sum(torch.ones(3))
    assert SavedBytes.is_caused_by_hooks(caught.value)
    assert not SavedBytes.is_caused_by_hooks(RuntimeError("no memory"))


@pytest.mark.parametrize(
    "way", ["grad", pytest.param("vjp", marks=pytest.mark.slow), pytest.param("jacrev", marks=pytest.mark.slow)]
)
def test_it_trains_and_only_the_measurement_is_missing(way: str, here: Path) -> None:
    found = trained(here, f"+model.way={way}")
    assert found["said"].count(UNMEASURED) == 1
    assert "saved for backward" not in found["said"]
    assert "saved_bytes" not in found["record"]["cost"]
    assert not any("memory/saved_bytes" in row for row in found["rows"])


@pytest.mark.parametrize(
    "mode",
    ["backprop", *(pytest.param(mode, marks=pytest.mark.slow) for mode in ("checkpoint", "symplectic", "adjoint"))],
)
def test_evaluations_numbers_and_buffers_are_as_without_the_measurement(mode: str, here: Path) -> None:
    found = trained(here, f"gradient={mode}")
    with patch.object(ForwardPass, "_measured", return_value=None):
        plain = trained(here, f"gradient={mode}", "rerun=true")
    assert found["record"]["cost"]["ledger"] == plain["record"]["cost"]["ledger"]
    assert found["state"]["model"].keys() == plain["state"]["model"].keys()
    for name, value in plain["state"]["model"].items():
        assert torch.equal(found["state"]["model"][name], value), name
    assert torch.equal(found["state"]["random"], plain["state"]["random"])


def test_by_autograd_it_is_measured_and_comes_to_the_same(here: Path) -> None:
    inside, measured = trained(here, "seed=1"), trained(here, "seed=1", "+model.way=autograd")
    assert UNMEASURED not in measured["said"]
    assert measured["record"]["cost"]["saved_bytes"] > 0
    assert measured["record"]["cost"]["ledger"] == inside["record"]["cost"]["ledger"]
    ours, theirs = ([row["train/loss"] for row in run["rows"] if "train/loss" in row] for run in (inside, measured))
    assert ours == pytest.approx(theirs, rel=1e-4)


@pytest.mark.slow
def test_a_resumed_run_comes_to_the_same(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ("gradient=checkpoint", "trainer.save_every_seconds=0")
    whole = trained(here, *command)

    def interrupt() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        before_step(patched, 3, interrupt)
        assert typed(*SMALL, *command, "rerun=true", cwd=here).returncode == 130
    resumed = trained(here, *command)
    assert "resuming at step 2" in resumed["said"]
    assert resumed["said"].count(UNMEASURED) == 1
    for part in ("model", "random", "ledger", "optimizer"):
        assert_equal(resumed["state"][part], whole["state"][part])


@pytest.mark.slow
def test_an_audit_compares_all_modes_and_leaves_the_bytes_empty(here: Path) -> None:
    ended = typed("audit=true", "trainer.device=cpu", *SMALL, cwd=here)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.count(UNMEASURED) == 1
    [path] = here.rglob("gradients.csv")
    rows = {row["mode"]: row for row in csv.DictReader(path.read_text().splitlines())}
    for mode in ("backprop", "checkpoint", "symplectic", "adjoint"):
        assert (rows[mode]["reason"], rows[mode]["saved_bytes"]) == ("", "")
        assert float(rows[mode]["solution_error"]) < 1e-4
