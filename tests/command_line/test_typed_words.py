"""What students, other shells, word processors and other libraries make of a command line: what is said of it."""

from pathlib import Path

import pytest

from ode_runner.config import hints
from ode_runner.config.help import GROUPS, conf_dir
from ode_runner.config.split_words import joined
from ode_runner.config.typed_signs import about_signs
from tests.helpers import typed


@pytest.mark.parametrize(
    ("line", "word", "said"),
    [
        ("solver = rk4", "=", "Type solver=rk4 without spaces."),
        ("solver= rk4", "rk4", "Type solver=rk4 without spaces."),
        ("solver =rk4", "=rk4", "Type solver=rk4 without spaces."),
        ("-m solver=euler, rk4", "solver=euler,", "Type 'solver=euler,rk4' without spaces"),
        ("-m solver=euler rk4 heun", "rk4", "Type 'solver=euler,rk4,heun' without spaces"),
        ("-m seed=0 1 2 task=digits", "1", "Type 'seed=0,1,2' without spaces, in PowerShell with the quotes."),
        ("solver=rk4, seed=0", "solver=rk4,", "Type solver=rk4, without the comma at its end."),
        ("task.file=my data.csv", "data.csv", "type 'task.file=my data.csv' with the quotes"),
        ("output_dir=my runs", "runs", "type 'output_dir=my runs' with the quotes"),
        ("task=series data.csv", "data.csv", "Type task.file=data.csv."),
    ],
)
def test_words_that_a_space_has_parted_are_joined(line: str, word: str, said: str) -> None:
    assert said in joined(word, line.split())


def test_a_word_that_belongs_to_none_is_joined_to_none() -> None:
    assert not joined("rk4", ["rk4"])
    assert not joined("rk4", ["-m", "rk4"])
    assert not joined("seed=(", ["solver=rk4", "seed=("])


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("'seed=0,1'", 'Windows\' cmd knows "seed=0,1" alone'),
        ("\u201ctask=half_moons\u201d", "Type task=half_moons."),
        ("task=\u201chalf_moons\u201d", "Type task=half_moons."),
        ("\u2013m", "Type -m."),
        ("solver\u00a0=rk4", "Type solver=rk4."),
        ("solver\uff1drk4", "Type solver=rk4."),
        ("seed=0\uff0c1", "Type seed=0,1."),
        ("solver=rk4\r", "line ends of Unix"),
        (" solver=rk4", "Type solver=rk4."),
        ("^", "Windows' cmd"),
        ("`", "PowerShell"),
        ("$", "prompt"),
        ("/task=digits", "Type task=digits."),
        ("tolerance=10^-3", "typed as 1e-3."),
        ("tolerance=2*10**(-3)", "typed as 2e-3."),
        ("task.file=~/x.csv", f"type {Path.home()}/x.csv"),
        ("0,001", "a point: 0.001."),
    ],
)
def test_signs_of_other_programs_are_told(word: str, said: str) -> None:
    assert said in about_signs(word)


@pytest.mark.parametrize("word", ["task.name=\u00df", "rk4", "seed=1,2", "task.file=C:\\Users\\m\u00fcller.csv"])
def test_nothing_is_said_of_other_signs(word: str) -> None:
    assert not about_signs(word)


def test_choices_that_other_names_lead_to_exist() -> None:
    for choice in hints.CHOICES:
        group, _, name = choice.partition("=")
        assert group in GROUPS
        assert (conf_dir() / group / f"{name}.yaml").is_file(), choice


@pytest.mark.sampled(8)
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("solver=rk45",), "no solver named 'rk45'. That is solver=dopri5 here."),
        (("solver=explicit_euler",), "That is solver=euler here."),
        (("model=neural_ode",), "That is model=odenet here."),
        (("network=cnn",), "That is network=conv here."),
        (("-m", "solver=all"), "Every one is typed as -m 'solver=glob(*)'."),
        (("-m", "solver=[euler,rk4]"), "For each of them, type -m solver=euler,rk4."),
        (("solver=rk4 seed=0",), "Two options are in one word"),
        (("solver=conf/solver/rk4.yaml",), "that is a path. Type solver=rk4."),
        (("solver=rk4", "solver.steps=10"), "That is solver.num_steps here."),
        (("steps=10",), "That is trainer.max_steps or solver.num_steps here."),
        (("--solver", "rk4"), "Type solver=rk4."),
        (("--task=digits",), "Type task=digits."),
        (("-s", "rk4"), "-s and --shell-completion are followed by"),
        (("solver", "rk4"), "Type solver=rk4."),
        (("optimizer.lr=0,01",), "One number has a point: 0.01."),
        (("++solver.num_steps=4",), "no option 'solver.num_steps'"),
        (("trainer.epochs=1e3",), "is no whole number. Type 1000."),
        (("trainer.max_seconds=60s",), "Type the number without a unit."),
        (("task.noise=5%",), "Type 0.05."),
        (("-m", "seed=[0,1]"), "Several are typed as -m seed=0,1,2."),
        (("task=series", "task.file="), "task.file=: that names no file."),
        (("task=series", "task.file=https://example.org/x.csv"), "that is an address"),
        (("SOLVER=rk4",), "Did you mean 'solver'?"),
    ],
)
def test_what_students_type_is_answered_with_what_to_type(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    ended = typed(*words, cwd=tmp_path)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1), ended.stderr
    assert said in ended.stderr
    assert not list(tmp_path.iterdir())


def test_none_of_one_group_is_not_told_as_that_of_another(tmp_path: Path) -> None:
    assert "That is" not in typed("gradient=none", cwd=tmp_path).stderr


def test_a_file_in_a_run_folder_leads_to_the_run(tmp_path: Path) -> None:
    (tmp_path / "run" / ".hydra").mkdir(parents=True)
    (tmp_path / "run" / ".hydra" / "overrides.yaml").write_text("[]\n")
    for inside in ("record.json", "checkpoints/best.pt"):
        assert "Type evaluate=run." in typed(f"evaluate=run/{inside}", cwd=tmp_path).stderr
