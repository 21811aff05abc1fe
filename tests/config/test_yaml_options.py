"""What yaml files of one's own say wrongly is told in one line, and nothing that they set is without effect."""

from pathlib import Path

import pytest

from tests.helpers import typed

GLOBAL = "# @package _global_\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (f"{GLOBAL}traner:\n  epochs: 3\n", "a yaml sets 'traner', which nothing reads. Did you mean 'trainer'?"),
        (f"{GLOBAL}epochs: 3\n", "a yaml sets 'epochs', which nothing reads. That is trainer.epochs here."),
        ("trainer:\n  epochs: 3\n", "sets experiment.trainer, which nothing reads. Begin it with the line '# @package"),
        (
            f"{GLOBAL}solver: rk4\n",
            "solver: rk4 stands in a yaml as an option, and is a choice. Write '- override /solver",
        ),
        (f"{GLOBAL}model: resnet\n", "model: resnet stands in a yaml as an option"),
        (f"{GLOBAL}defaults:\n  - /solver: rk4\n", "a yaml chooses solver once more. Write '- override /solver: NAME'"),
        (f"{GLOBAL}trainer: [1,\n", "conf/experiment/mine.yaml, line 3, column 1: expected the node content"),
        (f"{GLOBAL}trainer:\n\tepochs: 1\n", "conf/experiment/mine.yaml, line 3, column 1: found character"),
        (f"{GLOBAL}seed: ${{oc.env:NOPE}}\n", "seed: Environment variable 'NOPE' not found."),
        (f"{GLOBAL}seed: \udcff\n", "conf/experiment/mine.yaml: it is no text in UTF-8."),
    ],
)
def test_a_fault_in_a_yaml_is_told_in_one_line(content: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "conf" / "experiment" / "mine.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(content, errors="surrogateescape")
    ended = typed("-cd", "conf", "experiment=mine", "plan=true", cwd=tmp_path)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1), ended.stdout + ended.stderr
    assert said in ended.stderr


@pytest.mark.parametrize("flag", ["-cp conf", "--config-name=mine"])
def test_the_programs_own_configuration_is_not_replaced(flag: str, tmp_path: Path) -> None:
    ended = typed(*flag.split(), "plan=true", cwd=tmp_path)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "Name a folder of your own choices by -cd FOLDER" in ended.stderr


def test_a_choice_that_cannot_be_read_is_told_wherever_it_is_looked_up(tmp_path: Path) -> None:
    path = tmp_path / "conf" / "model" / "mine.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("# Mine.\n_target_: [\n")
    ended = typed("-cd", "conf", "model=mine", "solver=rk4", "plan=true", cwd=tmp_path)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1), ended.stderr
    assert "mine.yaml, line 3, column 1: expected the node content" in ended.stderr
    path.write_bytes(b"# M\xe4rz.\n")
    assert "mine" in typed("-cd", "conf", "--help", cwd=tmp_path).stdout
