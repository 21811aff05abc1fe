"""What a stem gives besides the state goes with it: through training, pictures, predictions and rows of a batch."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ode_runner.encoding import Encoding
from tests.helpers import TINY, predicted, record_of, run_folder, typed

QUICK = ("trainer=quick", "trainer.max_steps=2", "logger=none", *TINY)

OWN = """
import torch
from torch import nn

from ode_runner.encoding import Encoding
from ode_runner.field import VectorField
from ode_runner.networks.base import Network
from ode_runner.networks.dense import ResidualMLP
from ode_runner.networks.mlp import MLP


class Told(VectorField):
    batched_time = True

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, t, y, z):
        return torch.tanh(self.layer(torch.cat([y, z], dim=1)))


class Stem(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(2, 2)

    def forward(self, inputs):
        return Encoding(torch.zeros_like(inputs), given=(self.encoder(inputs),))


class Conditioned(Network):
    \"\"\"All that is known of a point is told to the field: the state begins at zero.\"\"\"

    def __init__(self, spec, *, width: int):
        self.spec, self.width = spec, width

    def stem(self):
        return Stem()

    def field(self, *, extra=0):
        return Told()

    def block(self):
        return ResidualMLP([2, self.width, 2])

    def head(self, *, extra=0):
        return nn.Linear(2, 2)
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "own_networks.py").write_text(OWN)
    folder = tmp_path / "conf" / "network"
    folder.mkdir(parents=True)
    (folder / "conditioned.yaml").write_text("_target_: own_networks.Conditioned\nwidth: 4\n")
    return tmp_path


SLOW = [
    pytest.param((word,), marks=pytest.mark.slow)
    for word in ("gradient=adjoint", "solver.per_sample=true", "trainer.precision=fp64")
]


@pytest.mark.parametrize("words", [(), *SLOW], ids=" ".join)
def test_a_conditioned_field_is_trained_and_drawn(words: tuple[str, ...], own: Path) -> None:
    ended = typed("-cd", "conf", "network=conditioned", *words, *QUICK, cwd=own, pictures=not words)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert record_of(own)["metrics"]["test/accuracy"] >= 0
    drawn = {path.name for path in (run_folder(own) / "plots").glob("*")}
    assert words or "flow.png" in drawn
    assert not any("traceback" in name for name in drawn)


def test_predictions_follow_what_is_given(own: Path) -> None:
    assert typed("-cd", "conf", "network=conditioned", *QUICK, cwd=own).returncode == 0
    folder = run_folder(own).relative_to(own)
    asked = ("times=[-0.5,0,1]", "inputs=[[1.0,2.0],[3.0,-1.0],[1.0,2.0]]")
    ended = typed("-cd", "conf", f"predict={folder}", *asked, cwd=own)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    path = predicted(own / folder, "states.npz")
    states = np.load(path)["states"]
    assert states.shape == (3, 3, 2)
    assert not states[1].any(), "all begin at zero"
    np.testing.assert_allclose(states[:, 0], states[:, 2], rtol=1e-5)
    for i in (0, 2):
        assert abs(states[i, 0] - states[i, 1]).max() > 1e-3, "and what is given parts them"


def test_blocks_that_are_told_the_state_alone_refuse_a_stem_that_gives_more(own: Path) -> None:
    ended = typed("-cd", "conf", "network=conditioned", "model=resnet", *QUICK, cwd=own)
    assert ended.returncode == 2
    assert ended.stderr.startswith("ode-run: model=resnet has blocks of the state alone")


def test_an_encoding_changes_its_type_but_for_whole_numbers() -> None:
    begun = Encoding(torch.ones(2, 3), given=(torch.ones(2, 1), torch.tensor([1, 2])), terms={"kl": torch.ones(2)})
    double = begun.to(torch.float64)
    assert double.y0.dtype == double.given[0].dtype == torch.float64
    assert double.given[1].dtype == torch.int64
    assert double.terms is begun.terms
