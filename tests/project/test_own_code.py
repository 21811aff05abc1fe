"""Projects of one's own: written by `ode-run new`, kept with each run, and sent by `ode-run pack`."""

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ode_runner.recording.own_code import own_modules
from ode_runner.recording.record import RunRecord
from ode_runner.report.remarks import warnings
from ode_runner.report.runs import read_run
from tests.helpers import TINY as SMALL
from tests.helpers import Ended, own_models, record_of, run_folder, run_folders, typed
from tests.reporting import write_run
from tests.resuming import stop_before

TINY = ("trainer.epochs=1", "task.train=40", "task.validation=20", "task.test=20", "logger=none")
OWN = """
import math
from torch import nn
from ode_runner.models.depth.odenet import ODENet
from own_helpers import shape


class Mine(ODENet): ...
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """A model of one's own that imports another module, and its run."""
    forget_own_modules()  # of another test, in the same process
    root = tmp_path / "mine"
    root.mkdir()
    own_models(root, "own_pieces", OWN, "Mine")
    (root / "own_helpers.py").write_text("def shape():\n    import pytest\n    from own_later import nothing\n")
    (root / "own_later.py").write_text("nothing = None\n")
    (root / "not_imported.py").write_text("")
    yield root
    forget_own_modules()


def forget_own_modules() -> None:
    for name in [name for name in sys.modules if name.startswith("own_")]:
        del sys.modules[name]


def ran(*words: str, cwd: Path) -> Ended:
    ended = typed(*words, cwd=cwd)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended


def test_a_run_keeps_the_code_it_was_made_with(project: Path) -> None:
    ran("-cd", "conf", "model=mine", *TINY, cwd=project)
    folder, code = run_folder(project), record_of(project)["code"]
    assert list(code) == ["own_helpers.py", "own_later.py", "own_pieces.py", "conf/model/mine.yaml"]
    for place, digest in code.items():
        kept = (folder / "code" / place).read_bytes()
        assert kept == (project / place).read_bytes()
        assert hashlib.sha256(kept).hexdigest() == digest


@pytest.mark.slow
def test_a_run_of_built_in_choices_keeps_none(tmp_path: Path) -> None:
    ran(*TINY, cwd=tmp_path)
    assert record_of(tmp_path)["code"] == {}
    assert not (run_folder(tmp_path) / "code").exists()


@pytest.mark.slow
def test_what_is_imported_is_said_and_what_has_changed(project: Path) -> None:
    ran("-cd", "conf", "model=mine", *TINY, cwd=project)
    asked = ("-cd", "conf", f"predict={run_folder(project).relative_to(project)}")
    assert "imported: own_helpers.py, own_later.py, own_pieces.py\n" in ran(*asked, cwd=project).stdout
    with (project / "own_helpers.py").open("a") as file:
        file.write("# another\n")
    changed = "changed since the run was made: own_helpers.py\n"
    assert changed in ran(*asked, cwd=project).stdout
    assert changed in ran("-cd", "conf", "model=mine", *TINY, cwd=project).stdout, "shown again"
    ran("-cd", "conf", "model=mine", *TINY, "rerun=true", cwd=project)
    assert changed not in ran(*asked, cwd=project).stdout


def test_code_that_has_changed_is_not_compared_with_what_the_run_has_measured(project: Path) -> None:
    """The column of training is measured again: much finer steps do not explain what another code does."""
    ran("-cd", "conf", "model=mine", *TINY, cwd=project)
    folder = run_folder(project)
    code = (project / "own_pieces.py").read_text()
    worse = "class Mine(ODENet):\n    def forward(self, *args):\n        out = super().forward(*args)\n"
    worse += "        return out._replace(values=-3 * out.values)\n"
    (project / "own_pieces.py").write_text(code.replace("class Mine(ODENet): ...\n", worse))
    forget_own_modules()
    ended = ran("-cd", "conf", f"evaluate={folder.relative_to(project)}", cwd=project)
    assert "changed since the run was made: own_pieces.py" in ended.stdout
    assert "Not an ODE" not in ended.stdout
    [found] = [json.loads(path.read_text()) for path in folder.rglob("evaluation.json")]
    assert found["training"]["metrics"]["test/loss"] == found["metrics"]["test/loss"]
    assert found["metrics"]["test/loss"] > 1.2 * record_of(project)["metrics"]["test/loss"]


def test_weights_learned_by_other_code_are_not_taken(project: Path) -> None:
    words = ("-cd", "conf", "model=mine", "task=lotka_volterra", "trainer.max_steps=2", "network.width=4")
    words += ("task.train=4", "task.validation=2", "task.test=2", "task.points=12", "task.window=5", "logger=none")
    ran(*words, cwd=project)
    assert "nothing is trained" in ran(*words, "task.foresight=2", cwd=project).stdout
    (project / "own_helpers.py").write_text("# another\n" + (project / "own_helpers.py").read_text())
    said = ran(*words, "task.foresight=5", cwd=project).stdout
    assert "own_helpers.py changed since outputs/lotka_volterra/mine-" in said
    assert "its weights are not taken" in said
    assert "nothing is trained" not in said
    assert "nothing is trained" in ran(*words, "task.foresight=4", cwd=project).stdout, "those of the same code are"


def test_a_sweep_and_its_report_tell_of_other_code(project: Path) -> None:
    words = ("-cd", "conf", "-m", "model=mine", "sweep=both", "pictures=false", *TINY)
    ran(*words, "seed=0", cwd=project)
    (project / "own_helpers.py").write_text("# another\n" + (project / "own_helpers.py").read_text())
    said = ran(*words, "seed=0,1", cwd=project).stdout
    assert "1 completed cell: own_helpers.py changed since; rerun=true makes it anew." in said
    runs = [read_run(folder) for folder in run_folders(project)]
    [note] = [note for note in warnings(runs, 0) if "own_" in note]
    assert note.startswith("rows come from different versions of own_helpers.py: ")


def test_a_resumed_run_that_other_code_began_says_so_in_its_record(project: Path) -> None:
    command = ("-cd", "conf", "model=mine", "trainer.batch_size=10", "trainer.epochs=3", "pictures=false", *TINY[1:])
    stop_before(4, command, project)
    (project / "own_helpers.py").write_text("# another\n" + (project / "own_helpers.py").read_text())
    stop_before(8, command, project)
    ran(*command, cwd=project)
    again = record_of(project)
    assert again["status"] == "completed"
    assert again["reason"] == "begun by another version of own_helpers.py"


def test_a_search_tells_of_trials_made_by_other_code(project: Path) -> None:
    space = ("hydra/sweeper=search", "hydra.sweeper.objectives=[objective]", "optimizer.lr=interval(0.001,0.1)")
    words = ("-cd", "conf", "-m", "model=mine", "sweep=found", "pictures=false", *space, *TINY)
    assert "note:" not in ran(*words, "hydra.sweeper.trials=1", cwd=project).stdout
    (project / "own_helpers.py").write_text("# another\n" + (project / "own_helpers.py").read_text())
    said = ran(*words, "hydra.sweeper.trials=2", cwd=project).stdout
    assert "note: trials come from different versions of own_helpers.py: " in said


def test_a_yaml_that_has_changed_is_named_as_the_cause(project: Path) -> None:
    ran("-cd", "conf", "model=mine", *TINY, cwd=project)
    run, choice = run_folder(project).relative_to(project), project / "conf" / "model" / "mine.yaml"
    choice.write_text(choice.read_text() + "activation: relu\n")
    refused = typed("-cd", "conf", f"evaluate={run}", cwd=project)
    assert refused.returncode == 2
    kept = f"because a yaml of -cd has changed. The run keeps those it was made with: use -cd {run}/code/conf."
    assert kept in refused.stderr
    ran("-cd", f"{run}/code/conf", f"evaluate={run}", cwd=project)


def test_packages_and_this_program_are_not_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "own_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "layers.py").write_text("from . import parts\nimport numpy\n")
    (package / "parts.py").write_text("import json\n")
    monkeypatch.syspath_prepend(tmp_path)
    import_module = __import__("importlib").import_module
    import_module("own_package.layers")
    config = {"model": {"_target_": "own_package.layers.A", "of": [{"_target_": "torch.nn.ReLU"}]},
              "task": {"_target_": "ode_runner.tasks.images.mnist.Mnist"}}  # fmt: skip
    assert list(own_modules(config)) == ["own_package/__init__.py", "own_package/layers.py", "own_package/parts.py"]
    inner = package / "inner"
    inner.mkdir()
    (inner / "__init__.py").write_text("from ..layers import parts\nfrom .. import parts\n")
    import_module("own_package.inner")
    assert list(own_modules({"_target_": "own_package.inner.Mine"})) == [
        *("own_package/__init__.py", "own_package/inner/__init__.py"),
        *("own_package/layers.py", "own_package/parts.py"),
    ]


def test_a_packed_run_is_taken_up_in_another_place(project: Path, tmp_path: Path) -> None:
    ran("-cd", "conf", "model=mine", *TINY, cwd=project)
    folder = run_folder(project).relative_to(project)
    (project / folder / "leads_out").symlink_to(project / "not_imported.py")
    told = ran("pack", str(folder), "sent.zip", cwd=project).stdout
    refused = typed("pack", str(folder), "sent.zip", cwd=project)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "sent.zip is there already. Name another" in refused.stderr
    with zipfile.ZipFile(project / "sent.zip") as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "theirs")
    here = tmp_path / "theirs" / folder.name
    assert all(name.startswith(f"{folder.name}/") for name in names)
    assert not [name for name in names if name.endswith(("leads_out", ".lock", "not_imported.py"))]
    assert f"ode-run -cd conf predict={folder}" in told
    assert "These import own_helpers.py, own_later.py, own_pieces.py: read them first" in told
    assert (here / "README.txt").read_text() in told
    requirements = (here / "requirements.txt").read_text()
    torch = RunRecord.read(project / folder).environment["packages"]["torch"]  # type: ignore[union-attr]
    assert f"torch=={torch.partition('+')[0]}\n" in requirements
    assert f"pytest=={pytest.__version__}\n" in requirements, "imported by code of one's own alone"
    assert "ode-run==" not in requirements
    shutil.rmtree(project)
    forget_own_modules()
    assert "imported: own_helpers.py" in ran("-cd", "conf", f"predict={folder}", cwd=here).stdout
    again = ran("-cd", "conf", "model=mine", *TINY, cwd=here).stdout
    assert f"already completed: {folder}" in again


@pytest.mark.slow
def test_a_packed_run_that_was_interrupted_goes_on_elsewhere(tmp_path: Path) -> None:
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    mine.mkdir()
    command = ("trainer.epochs=2", "trainer.log_every=1", "logger=none", "solver=euler", *SMALL)
    stop_before(4, command, mine)
    told = ran("pack", str(run_folder(mine)), "sent.zip", cwd=mine).stdout
    assert "evaluate=" not in told, "it would be refused"
    with zipfile.ZipFile(mine / "sent.zip") as archive:
        archive.extractall(theirs)
    [own] = [line for line in told.splitlines() if "the run's own command" in line]
    words = shlex.split(own.partition("    the run's")[0])
    shutil.rmtree(mine)
    [here] = theirs.iterdir()
    again = ran(*words[1:], cwd=here).stdout
    assert "resuming at step 4 of 6" in again
    assert record_of(here)["status"] == "completed"


@pytest.mark.slow
def test_data_below_the_working_directory_go_along(tmp_path: Path) -> None:
    rows = "\n".join(f"{i / 10},{2.0**-i}" for i in range(30))
    (tmp_path / "measured.csv").write_text(f"t,y\n{rows}\n")
    ran("task=series", "task.file=measured.csv", "trainer.epochs=1", "logger=none", cwd=tmp_path)
    ran("pack", str(run_folder(tmp_path)), "sent.zip", cwd=tmp_path)
    names = zipfile.ZipFile(tmp_path / "sent.zip").namelist()
    assert f"{run_folder(tmp_path).name}/measured.csv" in names


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("new",), "type: ode-run new PATH"),
        (("pack", "a", "b", "c"), "type: ode-run pack RUN_FOLDER [ARCHIVE.zip]"),
        (("new", "--force", "a"), "type: ode-run new PATH"),
        (("new", "full"), "full is there already, and is left as it is"),
        (("new", "full/file"), "full/file is there already"),
        (("pack", "nowhere"), "no folder 'nowhere'"),
        (("pack", "full"), "'full' holds no runs"),
    ],
    ids=" ".join,
)
def test_refusals_are_one_line(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    ended = typed(*words, cwd=tmp_path)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert said in ended.stderr


def test_a_new_project_has_every_kind_of_piece(tmp_path: Path) -> None:
    told = ran("new", "here/mine", cwd=tmp_path).stdout
    names = {path.relative_to(tmp_path / "here/mine").as_posix() for path in (tmp_path / "here").rglob("*.*")}
    assert names == {
        "README.md", "test_project.py", "my_task.py", "my_model.py", "my_solver.py",
        "conf/task/brusselator.yaml", "conf/model/paced.yaml", "conf/solver/heun3.yaml",
    }  # fmt: skip
    assert "ode-run -cd conf task=brusselator model=paced solver=heun3" in told
    assert "  cd 'of two words'\n" in ran("new", "of two words", cwd=tmp_path).stdout
    there = typed("new", "other/../here/mine", cwd=tmp_path)
    assert (there.returncode, "mine is there already" in there.stderr) == (2, True)


@pytest.mark.slow
def test_the_tests_of_a_new_project_pass(tmp_path: Path) -> None:
    ran("new", "mine", cwd=tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, cwd=tmp_path / "mine", env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout
    assert "2 passed" in ended.stdout


def test_a_record_without_code_is_read(tmp_path: Path) -> None:
    path = write_run(tmp_path, "run") / "record.json"
    content = json.loads(path.read_text())
    del content["code"]
    path.write_text(json.dumps(content))
    assert RunRecord.read(path.parent) is not None
