"""`ode-run --help GROUP=NAME`: the options of a choice, with defaults and a line each."""

import re
from pathlib import Path

from omegaconf import OmegaConf

from ode_runner.config.choice_help import options_in
from ode_runner.config.help import conf_dir
from tests.helpers import typed

YAMLS = [path for group in ("task", "model", "solver", "trainer") for path in (conf_dir() / group).glob("*.yaml")]


def test_a_task_shows_its_options_and_what_else_it_sets(tmp_path: Path) -> None:
    ended = typed("--help", "task=lotka_volterra", cwd=tmp_path)
    assert ended.returncode == 0
    assert ended.stdout.startswith("task=lotka_volterra: Predator and prey: ")
    assert re.search(r"^  task\.foresight=3 +horizons that the test spans$", ended.stdout, re.MULTILINE)
    also = ended.stdout.partition("it also sets\n")[2]
    assert re.search(r"^  network=mlp$", also, re.MULTILINE)
    assert re.search(r"^  trainer\.epochs=400$", also, re.MULTILINE)
    assert "_target_" not in ended.stdout


def test_one_that_builds_on_another_has_its_options_too(tmp_path: Path) -> None:
    said = typed("trainer=quick", "-h", cwd=tmp_path).stdout
    assert "  trainer.max_steps=20" in said
    assert "trainer.max_steps=null" not in said
    assert "  trainer.log_every=10" in said
    assert "  regularizer.kinetic.weight=0.02  in the loss" in typed("-h", "regularizer=kinetic", cwd=tmp_path).stdout


def test_one_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    ended = typed("--help", "task=digts", cwd=tmp_path)
    assert ended.returncode == 2
    assert "no task named 'digts'. Did you mean 'digits'?" in ended.stderr


def test_every_value_of_a_yaml_is_told_as_a_yaml_parser_reads_it() -> None:
    for path in YAMLS:
        check_told(path)


def check_told(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    whole = "@package _global_" in text
    read = OmegaConf.to_container(OmegaConf.create(text)) or {}
    expected: dict[str, object] = {}

    def collect(node: dict, prefix: str) -> None:
        for key, value in node.items():
            if key in ("_target_", "_partial_", "defaults"):
                continue
            if isinstance(value, list) and any(isinstance(item, dict) for item in value):
                continue  # of several lines, which a word cannot replace
            if isinstance(value, dict) and value:
                collect(value, f"{prefix}{key}.")
            else:
                expected[f"{prefix}{key}"] = value

    collect(read, "" if whole else f"{path.parent.name}.")
    found = {option.name: option.value for option in options_in(text.splitlines(), path.parent.name)}
    own = {name for name in found if "." in name or name in expected}
    assert own == expected.keys(), path


def test_options_in_braces_are_told_like_others() -> None:
    task = ["# @package _global_", "task: {_target_: mine.Disc, count: 500, box: [0, 1], low: {a: 1, b: 2}}"]
    named = [(option.name, option.value) for option in options_in(task, "task")]
    assert named == [("task.count", "500"), ("task.box", "[0, 1]"), ("task.low", "{a: 1, b: 2}")]
    solver = ["{_target_: mine.SSPRK3, num_steps: 8, step_size: null}"]
    assert [option.name for option in options_in(solver, "solver")] == ["solver.num_steps", "solver.step_size"]
