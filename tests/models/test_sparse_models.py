"""A model whose field reads a sparse matrix, as on a graph, and the order of its nodes."""

import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

import ode_runner as ode
from ode_runner.devices.buffers import Buffers
from tests.helpers import TINY, own_models, record_of, run_folder, typed

SOURCE = """
import torch
from torch import nn
from ode_runner.field import VectorField
from ode_runner.models.base import Model, Numerics


class GraphField(VectorField):
    def __init__(self, layout):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.register_buffer("order", torch.tensor([1, 0]))
        self.register_buffer("matrix", torch.tensor([[0.0, 1.0], [2.0, 1.0]]).to_sparse(layout=layout))

    def forward(self, t, y):
        return torch.tanh(self.layer((self.matrix.to(y.dtype) @ y[:, self.order].T).T))


class COO(Model):
    numerics, layout = Numerics.ANY, torch.sparse_coo

    def __init__(self, network):
        super().__init__(network)
        self.field, self.head = GraphField(self.layout), network.head()

    def evolve(self, y0, ts, integrate):
        return integrate(self.field, y0, ts)


class CSR(COO):
    layout = torch.sparse_csr
"""
LAYOUTS = {"coo": torch.sparse_coo, "csr": torch.sparse_csr, "csc": torch.sparse_csc}
RUN = (*TINY, "-cd", "conf", "trainer.epochs=2", "logger=none", "trainer.ema=0.5")


@pytest.fixture(autouse=True)
def quiet() -> None:
    warnings.filterwarnings("ignore", ".*is in beta state", UserWarning)


def compressed(layout: torch.layout) -> nn.Module:
    module = nn.Module()
    module.register_buffer("matrix", torch.eye(2).to_sparse(layout=layout))
    return module


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_changes_are_seen_and_undone(layout: torch.layout) -> None:
    module = compressed(layout)
    buffers = Buffers.now(module)
    assert not buffers.changed()
    module.matrix.copy_(2 * module.matrix)
    assert buffers.changed()
    buffers.restore()
    assert not buffers.changed()


@pytest.mark.parametrize("name", ["coo", "csr"])
def test_it_is_trained_averaged_evaluated_and_loaded(name: str, tmp_path: Path) -> None:
    own_models(tmp_path, f"sparse_own_{name}", SOURCE, "COO", "CSR")
    done = typed(*RUN, f"model={name}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = run_folder(tmp_path)
    assert record_of(folder)["cost"]["saved_bytes"] > 0
    again = typed("-cd", "conf", f"evaluate={folder}", "solver=rk4", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    loaded = ode.load(folder, config_dirs=[tmp_path / "conf"])
    assert loaded.model.field.matrix.layout == LAYOUTS[name]


def test_what_cannot_be_done_is_refused(tmp_path: Path) -> None:
    own_models(tmp_path, "sparse_own_refused", SOURCE, "CSR")
    forward = typed(*RUN, "model=csr", "solver=rk4", "gradient=forward", cwd=tmp_path)
    assert forward.returncode == 2
    assert "maps over the field by torch.func, which GraphField does not allow (" in forward.stderr
    compiled = typed(*RUN, "model=csr", "trainer.compile=on", cwd=tmp_path)
    assert compiled.returncode == 2
    assert "the field has a sparse tensor, for which there is no code. Use trainer.compile=off." in compiled.stderr
