"""Opening somebody else's run executes none of his code: what a folder names is data, and what lies about is left."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from ode_runner.building.group_types import HOLDS
from ode_runner.building.instantiate import checked_partial, target_of
from ode_runner.config.help import targets_in
from ode_runner.config.trust import set_import_path
from ode_runner.errors import RefusedInput
from tests.helpers import TINY, Ended, ode_run, own_models, run_folder, typed
from tests.reporting import reported

Compose = Callable[..., DictConfig]
COMMAND = (*TINY, "trainer.epochs=1", "logger=none")
OWN = "from ode_runner.models.depth.odenet import ODENet\n\nclass Mine(ODENet): ...\n"
LEAVES_A_MARK = "from pathlib import Path\nPath('executed').mkdir()\n"


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A completed run of built-in choices."""
    root = tmp_path_factory.mktemp("sent")
    assert typed(*COMMAND, "hydra.run.dir=run", cwd=root).returncode == 0
    return root


@pytest.fixture
def received(sent: Path, tmp_path: Path) -> Path:
    """Where its folder has arrived, to be tampered with."""
    shutil.copytree(sent / "run", tmp_path / "run")
    return tmp_path


def add_to_command(root: Path, word: str) -> None:
    path = root / "run" / ".hydra" / "overrides.yaml"
    path.write_text(path.read_text() + OmegaConf.to_yaml([word]))


def refused(ended: Ended, *words: str) -> None:
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert not [word for word in words if word not in ended.stderr], ended.stderr


@pytest.mark.parametrize("group", HOLDS)
@pytest.mark.parametrize("target", ["os.system", "subprocess.Popen", "numpy.load", "builtins.open", "pathlib.Path"])
def test_a_group_holds_its_own_kind_only(group: str, target: str) -> None:
    cfg = OmegaConf.create({group: {"_target_": target}})
    with pytest.raises(RefusedInput, match=f"{group}: {target} is not built, because it is not a subclass of"):
        target_of(cfg, group)


@pytest.mark.parametrize(
    "word",
    [
        "network.width={_target_: subprocess.Popen, args: [touch, executed]}",
        "network.width=[{_target_: subprocess.Popen, args: [touch, executed]}]",
        "network.width={inside: {_target_: subprocess.Popen, args: [touch, executed]}}",
        "solver.base._target_=subprocess.Popen",
        "solver.base.num_steps={_target_: subprocess.Popen, args: [touch, executed]}",
    ],
)
def test_no_other_object_hides_in_an_option(
    word: str, composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    group = word.partition(".")[0]
    with pytest.raises(RefusedInput, match="is not built, because it is not a subclass of"):
        checked_partial(composed("solver=mccallum_foster", word), group, positional=1 if group == "network" else 0)
    assert not list(tmp_path.iterdir())


WAYS = ("evaluate", "predict", "audit", "replay")


@pytest.mark.sampled(6)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("word", ["--multirun", "--experimental-rerun=x.pickle", "-cd", "--info"])
def test_a_flag_among_the_stored_options_is_refused(way: str, word: str, received: Path) -> None:
    add_to_command(received, word)
    refused(typed(f"{way}=run", cwd=received), str(Path("run", ".hydra", "overrides.yaml")), "is a flag")


@pytest.mark.sampled(6)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("word", "named"),
    [
        ("model._target_=marking.Mine", "marking.Mine"),
        ("+model={_target_:marking.Mine}", "marking.Mine"),
        ("network.width={_target_:marking.Mine}", "marking.Mine"),
        ("optimizer.lr=${oc.env:HOME}", "${oc.env:HOME}"),
    ],
)
def test_code_that_a_stored_command_names_is_asked_for(way: str, word: str, named: str, received: Path) -> None:
    (received / "marking.py").write_text(LEAVES_A_MARK + OWN)
    add_to_command(received, word)
    ended = typed(f"{way}=run", cwd=received)
    assert ended.returncode == 2
    assert not (received / "executed").exists()
    if not word.startswith("+model"):  # which Hydra refuses before
        refused(ended, named, "trust=true")


def test_trusted_code_is_run(received: Path) -> None:
    (received / "trusted_mark.py").write_text(OWN)
    add_to_command(received, "model._target_=trusted_mark.Mine")
    ended = typed("predict=run", "trust=true", cwd=received)
    assert ended.returncode == 0, ended.stderr
    refused(typed("predict=run", "trust=perhaps", cwd=received), "trust=perhaps is neither true nor false")


@pytest.mark.parametrize(
    "solver",
    [
        {"_target_": "numpy.load", "file": "x.npy", "allow_pickle": True},
        {"_target_": "builtins.open", "file": "run/record.json", "mode": "w"},
        {"_target_": "ode_runner.config.trust.os.system", "command": "touch executed"},
    ],
)
def test_what_a_record_names_is_not_called(solver: dict[str, Any], received: Path) -> None:
    path = received / "run" / "record.json"
    content = json.loads(path.read_text())
    content["config"]["solver"] = solver
    path.write_text(json.dumps(content))
    before = path.read_text()
    refused(typed("evaluate=run", cwd=received), str(solver["_target_"]), "trust=true")
    refused(typed("evaluate=run", "trust=true", cwd=received), "is not built, because it is not a subclass of")
    assert path.read_text() == before
    assert not (received / "executed").exists()


def test_a_class_of_this_program_that_has_moved_since_is_no_foreign_code(received: Path) -> None:
    path = received / "run" / "record.json"
    before = path.read_text()
    path.write_text(before.replace("ode_runner.solvers.", "ode_runner.solvers.formerly."))
    assert path.read_text() != before
    assert typed("evaluate=run", cwd=received).returncode == 0


def test_a_record_beside_another_runs_command_is_refused(received: Path) -> None:
    add_to_command(received, "network.width=5")
    refused(typed("evaluate=run", cwd=received), "parts of two runs", "network.width=4", "network.width=5")


@pytest.mark.sampled(1)
@pytest.mark.parametrize("way", ["evaluate", "predict"])
def test_modules_that_lie_where_a_run_is_opened_are_not_imported(way: str, received: Path) -> None:
    """Hydra imports whatever a folder `hydra_plugins` on the path holds; a yaml.py there would stand in for yaml."""
    (received / "hydra_plugins").mkdir()
    for path in (received / "hydra_plugins" / "found.py", received / "yaml.py", received / "optuna.py"):
        path.write_text(LEAVES_A_MARK)
    ended = ode_run(f"{way}=run", cwd=received)
    assert ended.returncode == 0, ended.stderr
    assert not (received / "executed").exists()


@pytest.mark.slow
def test_a_run_of_ones_own_model_is_taken_up_with_its_folder_of_choices(tmp_path: Path) -> None:
    own_models(tmp_path, "trust_own", OWN, "Mine")
    assert typed("-cd", "conf", "model=mine", *COMMAND, cwd=tmp_path).returncode == 0
    folder = run_folder(tmp_path).relative_to(tmp_path)
    for flags in (("-cd", "conf"), ("--config-dir=conf",), ("--config-dir", "conf")):
        assert typed(*flags, f"predict={folder}", "times=0:1:5", cwd=tmp_path).returncode == 0
        assert typed(f"evaluate={folder}", *flags, cwd=tmp_path).returncode == 0
    ended = typed(f"predict={folder}", cwd=tmp_path)
    refused(ended, f"-cd {tmp_path / 'conf'}", "model=mine")
    again = reported("verify", str(folder), cwd=tmp_path)
    refused(again, str(tmp_path / "conf"), "add --trust")


def test_classes_in_braces_are_named_by_their_yaml_and_those_in_comments_are_not(tmp_path: Path) -> None:
    """As the README writes its choices: a run of these could not be opened, whatever was typed."""
    path = tmp_path / "mine.yaml"
    path.write_text(
        "# _target_: said.Before\n{_target_: one.Mine, width: 3}  # {_target_: said.Behind}\n"
        "task: {first: 1, _target_: two.Mine}\n  _target_: three.Mine\nbase: {'_target_': 'four.Mine'}\n"
    )
    assert targets_in(path) == ["one.Mine", "two.Mine", "three.Mine", "four.Mine"]


def test_verify_says_where_and_whose_code_it_runs(received: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def run(words: list[str], **named: Any) -> Any:
        seen.update(named)
        raise KeyboardInterrupt

    monkeypatch.setattr("ode_runner.report.verify.subprocess.run", run)
    ended = reported("verify", "run", cwd=received)
    assert ended.returncode == 130
    assert f"in {seen['cwd']}, with code that is this program's alone" in ended.stdout
    assert seen["env"]["PYTHONSAFEPATH"] == "1"


@pytest.mark.parametrize("word", ["model._target_=marking.Mine", "trainer.epochs=${oc.decode:1}"])
def test_verify_asks_before_it_runs_code_of_a_stored_command(word: str, received: Path) -> None:
    add_to_command(received, word)
    refused(reported("verify", "run", cwd=received), word, "add --trust")


def test_verify_runs_in_no_folder_but_its_own(received: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_to_command(received, "hydra.run.dir=/somewhere/else")
    seen: list[str] = []

    def run(words: list[str], **named: Any) -> Any:
        seen.extend(words)
        raise KeyboardInterrupt

    monkeypatch.setattr("ode_runner.report.verify.subprocess.run", run)
    reported("verify", "run", cwd=received)
    assert seen
    assert not [word for word in seen if "somewhere" in word]


def test_a_folder_is_on_the_path_for_ones_own_code_and_not_where_a_run_is_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for first in ("", os.getcwd()):  # as `python -m ode_runner` puts it there
        for words, left in ((["evaluate=run"], []), (["evaluate=run", "trust=true"], [os.getcwd(), first])):
            monkeypatch.setattr(sys, "path", [first, "elsewhere"])
            set_import_path(words)
            assert sys.path == [*left, "elsewhere"]
    set_import_path(["evaluate=run"])
    monkeypatch.setattr(sys, "path", ["a_script", os.getcwd()])
    set_import_path(["evaluate=run"])
    assert sys.path == ["a_script", os.getcwd()]
