"""A model, task or solver of one's own is a class and a yaml in one's own folder; the package is not touched."""

from pathlib import Path

import pytest

from ode_runner.config.help import search_path, user_folders
from tests.helpers import TINY, ode_run, record_of, run_folders, typed

QUICK = ("trainer=quick", "trainer.max_steps=2", "trainer.log_every=1", "logger=none")

MODULE = '''
from dataclasses import dataclass, field
from typing import ClassVar

import torch

from ode_runner.models.base import Model, Numerics
from ode_runner.solvers.runge_kutta import FixedStepRungeKutta
from ode_runner.solvers.tableau import Tableau
from ode_runner.batch import Split, TaskSpec
from ode_runner.tasks.classification import Classification, Samples


class Twice(Model):
    """Two flows, one after the other."""

    numerics = Numerics.ANY

    def __init__(self, network, *, gap: float):
        super().__init__(network)
        self.head, self.gap = network.head(), gap
        self.first, self.second = network.field(), network.field()

    def evolve(self, y0, ts, integrate):
        middle = integrate(self.first, y0, ts).ys[-1]
        return integrate(self.second, middle * (1 + self.gap), ts)


class Rings(Classification):
    """Inside or outside the unit circle."""

    def __init__(self, *, count: int, seed, device):
        generator = torch.Generator().manual_seed(seed)
        splits = {}
        for split in Split:
            points = 2 * torch.randn(count, 2, generator=generator)
            splits[split] = Samples(points, (points.norm(dim=1) > 1).long())
        super().__init__(splits, seed=seed, device=device)
        self.spec = TaskSpec(input_shape=(2,), output_shape=(2,))

    def prepare(self, inputs, generator):
        return inputs

    def figures(self, findings):
        yield from ()


@dataclass(frozen=True, kw_only=True)
class Kutta3(FixedStepRungeKutta):
    """Kutta's third-order method."""

    order: int = field(default=3, init=False)
    tableau: ClassVar[Tableau] = Tableau(a=((), (1 / 2,), (-1.0, 2.0)), b=(1 / 6, 2 / 3, 1 / 6))
'''
FILES = {
    "model/twice.yaml": "# Two flows.\n_target_: own_pieces.Twice\ngap: 0.5\n",
    "task/rings.yaml": (
        "# @package _global_\n# Rings.\ndefaults:\n  - override /network: mlp\n"
        "task:\n  _target_: own_pieces.Rings\n  count: 50\ntrainer:\n  epochs: 2\n  batch_size: 25\n"
    ),
    "solver/kutta3.yaml": "# Order 3.\n_target_: own_pieces.Kutta3\nnum_steps: 2\nstep_size: null\n",
}


@pytest.fixture
def workshop(tmp_path: Path) -> Path:
    """A folder with a module and choices of one's own."""
    (tmp_path / "own_pieces.py").write_text(MODULE)
    for name, content in FILES.items():
        path = tmp_path / "conf" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return tmp_path


@pytest.mark.slow
def test_the_installed_program_takes_pieces_from_the_folder_where_it_is_typed(workshop: Path) -> None:
    finished = ode_run("-cd", "conf", "model=twice", "task=rings", "solver=kutta3", *QUICK, cwd=workshop)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert finished.stderr == ""
    record = record_of(workshop)
    choices = {"task": "rings", "model": "twice", "network": "mlp", "solver": "kutta3", "gradient": "backprop"}
    assert record["choices"] == {**choices, "regularizer": "none"}
    assert record["cost"]["nfe_forward"] == 2 * 3 * 2, "flows x stages x steps"


@pytest.mark.sampled(2)
@pytest.mark.parametrize("place", [("-cd", "conf"), ("hydra.searchpath=[file://conf]",)], ids=" ".join)
@pytest.mark.parametrize(
    "choices",
    [
        ("model=twice", "model.gap=0.1", "gradient=adjoint", *TINY),
        ("task=rings", "network.width=4"),
        ("model=rknet", "solver=kutta3", "solver.num_steps=3", *TINY),
    ],
    ids=" ".join,
)
def test_each_piece_goes_with_the_built_in_ones(place: tuple[str], choices: tuple[str], workshop: Path) -> None:
    ended = typed(*place, *choices, *QUICK, cwd=workshop)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stderr == ""


def test_groups_and_keys_of_ones_own_may_be_added_to_the_command(workshop: Path) -> None:
    for name, content in {
        "flavour/salty": "seed: 5\n",
        "experiment/wide": "units: 3\nnetwork:\n  width: ${units}\n",
    }.items():
        path = workshop / "conf" / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"# @package _global_\n# Mine.\n{content}")
    ended = typed("-cd", "conf", "+flavour=salty", "experiment=wide", "++units=4", *QUICK, *TINY[1:], cwd=workshop)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert (record_of(workshop)["seed"], record_of(workshop)["config"]["network"]["width"]) == (5, 4)


@pytest.mark.slow
def test_own_and_built_in_pieces_are_swept_together(workshop: Path) -> None:
    ended = typed("-m", "-cd", "conf", "solver=kutta3,euler", "model=twice,rknet", *QUICK, *TINY, cwd=workshop)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert len(run_folders(workshop)) == 4


def test_a_choice_whose_folder_was_not_named_is_told_where_it_is(workshop: Path) -> None:
    ended = typed("task=rings", cwd=workshop)
    assert ended.returncode == 2
    assert "no task named 'rings'. conf/task/rings.yaml is there: add -cd conf. Available: " in ended.stderr


def test_folders_of_choices_have_any_names(workshop: Path) -> None:
    """Hydra reads none with spaces or = where it is not quoted: such a model was said to take no options."""
    (workshop / "conf").rename(workshop / "prö j=1, b")
    ended = typed("-cd", "prö j=1, b", "model=twice", "model.gpa=1", cwd=workshop)
    assert (ended.returncode, ended.stderr) == (2, "ode-run: no option 'model.gpa'. Available: model.gap\n")
    places = [Path("a b=c, d"), Path("ü"), Path("plain")]
    assert user_folders([search_path(places)]) == places
    assert user_folders(["hydra.searchpath=[file://a,'file://b c']"]) == [Path("a"), Path("b c")]


def test_options_of_ones_own_classes_are_checked_alike(workshop: Path) -> None:
    ended = typed("-cd", "conf", "model=twice", "model.gap=wide", cwd=workshop)
    assert (ended.returncode, ended.stderr) == (2, "ode-run: model.gap=wide is no number.\n")


def test_a_file_with_a_built_in_name_is_not_used_and_that_is_said(workshop: Path) -> None:
    (workshop / "conf" / "model" / "odenet.yaml").write_text("_target_: own_pieces.Twice\ngap: 0.5\n")
    ended = typed("-cd", "conf", *QUICK, *TINY, cwd=workshop)
    assert ended.returncode == 0
    assert record_of(workshop)["config"]["model"] == {"_target_": "ode_runner.models.depth.odenet.ODENet"}
    assert ended.stderr.startswith("ode-run: warning: conf/model/odenet.yaml is not used: model=odenet is built in.")
    assert ended.stderr.count("\n") == 1
