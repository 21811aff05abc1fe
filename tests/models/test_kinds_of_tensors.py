"""Models that hold sparse tensors, as the matrix of a graph, whole numbers, and complex ones, as spectral layers do."""

import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import ode_runner as ode
from ode_runner.devices.buffers import Buffers
from ode_runner.errors import IncompatibleChoice
from ode_runner.field import VectorField
from ode_runner.types import State, Time
from tests.helpers import TINY, options, own_models, record_of, run_folder, typed

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
ONE_EPOCH = ("trainer.epochs=1", "logger=none")
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


SPECTRAL = """
import torch
from torch import nn
from ode_runner.field import VectorField
from ode_runner.models.base import Model, Numerics


class Spectral(VectorField):
    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.register_buffer("phases", torch.exp(1j * torch.arange(2)))

    def forward(self, t, y):
        weight = self.weight if self.weight.is_complex() else torch.view_as_complex(self.weight)
        turned = torch.complex(y, torch.zeros_like(y)) @ weight * self.phases
        return torch.tanh(turned.imag) - 0.1 * turned.real


class Pairs(Model):
    numerics = Numerics.ANY

    def __init__(self, network):
        super().__init__(network)
        self.field, self.head = Spectral(self.weight()), network.head()

    def weight(self):
        return 0.3 * torch.randn(2, 2, 2)

    def evolve(self, y0, ts, integrate):
        return integrate(self.field, y0, ts)


class Whole(Pairs):
    def weight(self):
        return 0.3 * torch.randn(2, 2, dtype=torch.cfloat)
"""


def test_complex_buffers_keep_their_imaginary_parts_in_double_precision(tmp_path: Path) -> None:
    own_models(tmp_path, "complex_own", SPECTRAL, "Pairs", "Whole")
    losses = []
    for precision in ("fp32", "fp64"):
        words = (*TINY, "model=pairs", f"trainer.precision={precision}", f"output_dir={precision}", *ONE_EPOCH)
        done = typed("-cd", "conf", *words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        losses.append(record_of(tmp_path / precision)["metrics"]["test/loss"])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    refused = typed("-cd", "conf", *TINY, "model=whole", *ONE_EPOCH, cwd=tmp_path)
    assert refused.returncode == 2
    assert "model=whole has complex parameters (field.weight), and training takes real ones. Hold " in refused.stderr


class ComplexField(VectorField):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, 8).view(2, 4)[0] * (0.5 + 0.3j))

    def forward(self, t: Time, y: State) -> State:
        return torch.tanh(torch.fft.irfft(torch.fft.rfft(y) * self.weight, n=6)) - y


def gradient_of_complex(mode: str, solver: str) -> Tensor:
    field, y0, ts = ComplexField(), torch.linspace(-1, 1, 12).view(2, 6), torch.linspace(0, 1, 3)
    ode.integrate(field, y0, ts, solver=solver, gradient=mode).ys.square().sum().backward()
    assert field.weight.grad is not None
    return field.weight.grad


@pytest.mark.parametrize("mode", options("gradient"))
def test_gradients_of_complex_parameters_are_right_or_refused(mode: str) -> None:
    solver = "reversible_heun" if mode == "reversible" else "dopri5"
    if mode in ("backprop", "checkpoint", "reversible", "symplectic"):
        torch.testing.assert_close(gradient_of_complex(mode, solver), gradient_of_complex("backprop", solver))
        return
    with pytest.raises(IncompatibleChoice, match=f"^gradient={mode} takes real parameters, and ComplexField has comp"):
        gradient_of_complex(mode, solver)
