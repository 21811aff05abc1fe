"""A run is what its names and options say: no other run's result is shown, resumed or written over in its place."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import DictConfig

from ode_runner.building.run_identity import identify
from ode_runner.config import identity
from ode_runner.recording.record import AXES, RunRecord
from ode_runner.tasks.images.idx import FILES, find_file, hash_idx
from ode_runner.tasks.images.mnist import Mnist
from ode_runner.tasks.images.mnist_files import MNIST_CONTENT
from tests.helpers import TINY, options, own_models, record_of, run_folders, typed
from tests.problems import build

Compose = Callable[..., DictConfig]
COMMAND = (*TINY, "trainer.epochs=1", "logger=none")
HERE = "hydra.run.dir=mine"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a run has completed in a folder named for it."""
    root = tmp_path_factory.mktemp("made")
    assert typed(*COMMAND, HERE, cwd=root).returncode == 0
    return root


@pytest.fixture
def completed(made: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


GROUPS_OF_RUNS = (*AXES, "optimizer", "schedule", "trainer")


def fingerprint(cfg: DictConfig) -> str:
    return identify(cfg, cfg.hydra.runtime.choices).fingerprint


def test_moving_our_classes_changes_no_fingerprint(composed: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("solver=mccallum_foster", "optimizer=sgd", "schedule=steps", "trainer=quick", "regularizer=kinetic")
    before, moved = fingerprint(composed(*words)), composed(*words)

    def elsewhere(node: DictConfig) -> None:
        for key, value in list(node.items()):
            if isinstance(value, DictConfig) and key != "hydra":
                elsewhere(value)
        if "_target_" in node and node._target_.startswith("ode_runner.") and "models" not in node._target_:
            node._target_ = node._target_.replace("ode_runner.", "ode_runner.moved.")

    elsewhere(moved)
    found = identity._built_in_class

    def built_in(group: str, choice: str) -> str | None:
        return (there := found(group, choice)) and (
            there if "models" in there else there.replace("ode_runner.", "ode_runner.moved.")
        )

    monkeypatch.setattr(identity, "_built_in_class", built_in)
    assert "moved" in moved.solver.base._target_
    assert fingerprint(moved) == before


def test_a_class_that_is_typed_counts_without_the_folder_of_its_kind() -> None:
    def of(target: str) -> str:
        return identity.fingerprint({"model": {"field": {"_target_": target, "mu": 1}}}, {"model": "parametric"}, {})

    assert of("ode_runner.tasks.dynamics.pendulum.Swing") == of("ode_runner.tasks.pendulum.Swing")
    assert of("ode_runner.tasks.dynamics.pendulum.Swing") != of("ode_runner.tasks.dynamics.linear.Swing")
    assert of("mine.tasks.dynamics.pendulum.Swing") != of("mine.tasks.pendulum.Swing")


@pytest.mark.parametrize(
    ("group", "name"),
    [(group, name) for group in GROUPS_OF_RUNS for name in options(group) if (group, name) != ("regularizer", "none")],
)
def test_every_built_in_choice_is_known_by_its_name(group: str, name: str, composed: Compose) -> None:
    """Also one whose yaml builds on another and names no class itself, as that of trainer=quick."""
    assert str(identity._built_in_class(group, name)).startswith(("ode_runner.", "torch."))


@pytest.mark.parametrize("group", ["solver", "gradient"])
def test_messages_call_a_choice_as_it_is_typed(group: str, composed: Compose) -> None:
    for name in options(group):
        assert build(composed, group, name).shown_name == f"{group}={name}"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("optimizer.lr=1",), ("optimizer.lr=1.0",)),
        (("solver.rtol=1e-3", "solver.atol=0.001"), ()),
        (("seed=3",), ()),
        (("+trainer.found_later=null",), ()),
        (("trainer.save_every_seconds=1",), ()),
    ],
)
def test_what_computes_the_same_is_one_run(one: tuple[str, ...], other: tuple[str, ...], composed: Compose) -> None:
    assert fingerprint(composed(*one)) == fingerprint(composed(*other))


@pytest.mark.parametrize(
    "words",
    [
        ("optimizer.lr=0.5",),
        ("solver=tsit5",),
        ("schedule=cosine",),
        ("gradient=adjoint",),
        ("network.width=9",),
        ("solver=bdf", "gradient=adjoint"),
        ("model._target_=ode_runner.models.depth.augmented.Augmented",),
        ("trainer.max_grad_norm=1",),
    ],
)
def test_what_computes_something_else_is_another(words: tuple[str, ...], composed: Compose) -> None:
    assert fingerprint(composed(*words)) != fingerprint(composed())


def test_a_thousand_options_have_a_thousand_fingerprints(composed: Compose) -> None:
    record = identify(cfg := composed(), cfg.hydra.runtime.choices)
    choices = {str(key): str(value) for key, value in cfg.hydra.runtime.choices.items()}
    found = set()
    for i in range(2000):
        record.config["optimizer"]["lr"] = i / 10**6
        found.add(identity.fingerprint(record.config, record.choices, choices))
    assert len(found) == 2000
    assert {len(one) for one in found} == {identity.DIGITS}


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("other", "told"),
    [
        (("optimizer.lr=0.5",), "optimizer.lr=0.003 there, 0.5 here"),
        (("seed=4", "rerun=all"), "seed=0 there, 4 here"),
        (("solver=rk4",), "solver=dopri5 there, rk4 here"),
        (("solver.rtol=1e-5", "rerun=failed"), "solver.rtol=0.001 there, 1e-05 here"),
    ],
)
def test_a_folder_that_holds_another_run_is_left_as_it_is(other: tuple[str, ...], told: str, completed: Path) -> None:
    before = {path: path.read_bytes() for path in (completed / "mine").rglob("*") if path.is_file()}
    ended = typed(*COMMAND, HERE, *other, cwd=completed)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert told in ended.stderr
    assert before == {path: path.read_bytes() for path in (completed / "mine").rglob("*") if path.is_file()}


def test_a_run_that_did_not_complete_is_no_less_anothers(completed: Path) -> None:
    path = completed / "mine" / "record.json"
    path.write_text(path.read_text().replace('"completed"', '"interrupted"'))
    assert typed(*COMMAND, HERE, "optimizer.lr=0.5", cwd=completed).returncode == 2
    assert typed(*COMMAND, HERE, cwd=completed).returncode == 0


def test_the_same_run_is_known_after_its_class_has_moved(completed: Path) -> None:
    path = completed / "mine" / "record.json"
    path.write_text(path.read_text().replace("ode_runner.solvers.", "ode_runner.formerly."))
    ended = typed(*COMMAND, HERE, cwd=completed)
    assert ended.returncode == 0
    assert "already completed" in ended.stdout


def test_cells_that_are_given_one_folder_are_not_one_run(tmp_path: Path) -> None:
    ended = typed("-m", *COMMAND, "seed=0,1", "sweep=s", "hydra.sweep.subdir=x", cwd=tmp_path)
    assert ended.returncode == 2
    assert "outputs/sweeps/s/x holds another run (seed=0 there, 1 here)" in ended.stderr
    assert record_of(tmp_path)["seed"] == 0
    planned = typed("-m", *COMMAND, "seed=0,1", "sweep=new", "hydra.sweep.subdir=x", "plan=true", cwd=tmp_path)
    assert "outputs/sweeps/new/x is the folder of seed=0" in planned.stdout


def test_two_classes_under_one_name_of_ones_own_are_two_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    classes = "class Mine(ODENet):\n    pass\n\n\nclass Other(ODENet):\n    pass\n"
    own_models(tmp_path, "of_my_own", f"from ode_runner.models.depth.odenet import ODENet\n\n\n{classes}", "Mine")
    assert typed("-cd", "conf", "model=mine", *COMMAND, cwd=tmp_path).returncode == 0
    (tmp_path / "conf" / "model" / "mine.yaml").write_text("_target_: of_my_own.Other\n")
    assert typed("-cd", "conf", "model=mine", *COMMAND, cwd=tmp_path).returncode == 0
    assert len(run_folders(tmp_path)) == 2


def test_a_record_of_another_run_is_told_from_this_one(completed: Path) -> None:
    own = RunRecord.read(completed / "mine")
    assert own is not None
    assert identity.read_same(completed / "mine", own) == own
    assert not identity.is_same(own, replace(own, fingerprint="0" * 12))


@pytest.mark.parametrize("rerun", ["rerun=missing", "rerun=all"])
def test_a_folder_with_files_and_no_run_is_left_as_it_is(rerun: str, tmp_path: Path) -> None:
    """A run would write over a config.yaml, and rerun=all clear plots/ away."""
    own = {"config.yaml": "mine", "plots/curves.png": "mine too", "notes.txt": "x"}
    for name, content in own.items():
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / name).write_text(content)
    ended = typed(*COMMAND, HERE, rerun, cwd=tmp_path)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "mine holds files and no run" in ended.stderr
    left = {
        str(path.relative_to(tmp_path / "mine")): path.read_text() for path in tmp_path.rglob("*") if path.is_file()
    }
    assert left == own


def test_data_in_files_are_known_by_their_content_and_not_by_their_place(
    composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_idx_files(tmp_path / "one" / "raw", brightness=1)
    write_idx_files(tmp_path / "moved", brightness=1)
    write_idx_files(tmp_path / "other", brightness=2)
    (tmp_path / "none").mkdir()

    def of(place: str) -> str:
        return fingerprint(composed("task=mnist", f"task.data_dir={tmp_path / place}"))

    monkeypatch.setenv("ODE_RUN_DATA", str(tmp_path / "none"))
    by_default = fingerprint(composed("task=mnist"))
    assert len({of("one"), of("other"), by_default}) == 3
    assert of("moved") == of("one")
    assert of("none") == by_default
    monkeypatch.setenv("ODE_RUN_DATA", str(tmp_path / "moved"))
    assert fingerprint(composed("task=mnist")) == of("one")
    before = of("one")
    write_idx_files(tmp_path / "one" / "raw", brightness=3)
    assert of("one") != before


def test_the_same_data_in_another_place_are_no_other_run(composed: Compose, tmp_path: Path) -> None:
    records = []
    for place in ("here", "there"):
        write_idx_files(tmp_path / place, brightness=1)
        cfg = composed("task=mnist", f"task.data_dir={tmp_path / place}")
        records.append(identify(cfg, cfg.hydra.runtime.choices))
    assert identity.is_same(*records)


def test_mnist_itself_is_named_by_the_task_alone(composed: Compose, mnist_dir: Path) -> None:
    of_files = Mnist.contents({"data_dir": str(mnist_dir)})
    assert of_files == {"data_dir": None}
    assert hash_idx(find_idx(mnist_dir)) == MNIST_CONTENT


def find_idx(root: Path) -> list[Path]:
    found = [find_file(root / "MNIST" / "raw", name) for names in FILES.values() for name in names]
    return [path for path in found if path is not None]


def write_idx_files(folder: Path, *, brightness: int) -> None:
    """Four files of two images each."""
    folder.mkdir(parents=True, exist_ok=True)
    for images, labels in FILES.values():
        (folder / images).write_bytes(bytes([0, 0, 8, 3, *(0, 0, 0, 2) * 3, *[brightness] * 8]))
        (folder / labels).write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 2, 0, 1]))
